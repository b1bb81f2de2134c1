"""A leading `<think>…</think>` in the text is reasoning, for servers without a field for it (OPENAI_THINK_TAGS)."""

from collections.abc import Iterator
from typing import Literal

_OPEN, _CLOSE = "<think>", "</think>"
_WIDEST_MARGIN = 100  # blanks before the tag


class ThinkTags:
    """Separates the text of an answer from the reasoning at its beginning, however it is cut.

    Line ends after a tag belong to it.
    """

    def __init__(self) -> None:
        self._held = ""  # it may become a tag
        self._phase: Literal["before", "reasoning", "text"] = "before"
        self._is_behind_tag = False  # nothing has come since the tag

    @property
    def over(self) -> bool:
        """Whether all that follows is text."""
        return self._phase == "text" and not self._is_behind_tag

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """Yield (whether it is reasoning, text), never an empty text."""
        self._held += text
        if self._phase == "before":
            self._find_tag()
        if self._phase == "reasoning":
            yield from self._think()
        if self._phase == "text":
            self._skip_line_ends()
            yield from self.rest()

    def rest(self) -> Iterator[tuple[bool, str]]:
        """Yield what is held, at the end of the answer."""
        held, self._held = self._held, ""
        if held:
            yield self._phase == "reasoning", held

    def _find_tag(self) -> None:
        begun = self._held.lstrip()
        if len(self._held) - len(begun) > _WIDEST_MARGIN:
            self._phase = "text"
        elif begun.startswith(_OPEN):
            self._phase, self._held, self._is_behind_tag = "reasoning", begun[len(_OPEN) :], True
        elif not _OPEN.startswith(begun):
            self._phase = "text"

    def _think(self) -> Iterator[tuple[bool, str]]:
        self._skip_line_ends()
        thought, closed, text = self._held.partition(_CLOSE)
        # The end of the text may be the beginning of the closing tag.
        sizes = () if closed else range(len(_CLOSE) - 1, 0, -1)
        size = len(thought) - next((size for size in sizes if thought.endswith(_CLOSE[:size])), 0)
        self._held = text if closed else thought[size:]
        if closed:
            self._phase, self._is_behind_tag = "text", True
        if said := thought[:size]:
            yield True, said

    def _skip_line_ends(self) -> None:
        if self._is_behind_tag:
            self._held = self._held.lstrip("\n")
            self._is_behind_tag = not self._held
