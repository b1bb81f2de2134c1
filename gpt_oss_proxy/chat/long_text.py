"""A text that grows by many small pieces: each kept alone would take ten times its own size."""

_PIECES = 256  # that are kept alone


class LongText:
    """Text in order. `append` adds a piece; `str()` returns all of it."""

    __slots__ = ("_blocks", "_pieces")

    def __init__(self) -> None:
        self._blocks: list[str] = []  # of many pieces each
        self._pieces: list[str] = []

    def append(self, text: str) -> None:
        """Add a piece."""
        pieces = self._pieces
        pieces.append(text)
        if len(pieces) == _PIECES:
            self._blocks.append("".join(pieces))
            pieces.clear()

    def copy(self) -> "LongText":
        """Return another one that goes its own way from now on; what both have so far they share."""
        other = LongText()
        other._blocks, other._pieces = self._blocks.copy(), self._pieces.copy()
        return other

    def replace(self, text: str) -> None:
        """Let the text be this one."""
        self._blocks[:] = (text,)
        self._pieces.clear()

    def __str__(self) -> str:
        """Return all of it."""
        return "".join((*self._blocks, *self._pieces))
