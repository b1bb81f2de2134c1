"""What is known of an answer's items while they grow: a ChatKit server may repeat, extend, replace and remove them."""

from collections.abc import Iterable

SEPARATOR = "\n\n"  # between parts, messages and thoughts of one answer


class Part:
    """The text sent so far of one part, in pieces; its length is kept, for it is asked more often than its text."""

    def __init__(self, text: str = "") -> None:
        self.pieces = [text]
        self.length = len(text)

    def append(self, text: str) -> None:
        """Add what was sent."""
        self.pieces.append(text)
        self.length += len(text)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)


class Item:
    """An assistant message, or an image, as it grows: the text sent so far of each of its parts."""

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}

    @property
    def text(self) -> str:
        """That of all parts."""
        return join_texts(self.parts[index].text for index in sorted(self.parts))


def join_texts(texts: Iterable[str]) -> str:
    """Return the texts as one; empty ones leave no gap."""
    return SEPARATOR.join(filter(None, texts))


def widget_texts(widget: object) -> list[str]:
    """Return all texts that a widget shows, in order."""
    texts: list[str] = []
    stack = [widget]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("value"), str):
                texts.append(node["value"])
            stack += [child for key, child in reversed(node.items()) if key != "value"]
        elif isinstance(node, list):
            stack += reversed(node)
    return texts
