"""What is known of an answer's items while they grow: a ChatKit server may repeat, extend, replace and remove them."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from gpt_oss_proxy.upstreams.values import whole

SEPARATOR = "\n\n"  # between parts, messages and thoughts of one answer
_MOST_KEPT = 4096  # characters; what is shorter is compared as it is


class Part:
    """What a part's text has been so far: its length, and what tells whether another text begins with it.

    The text itself may be long, and is not kept; only its end is, until a digest takes it in. What was emitted of it
    is `places`, (start, end) in the text of the whole answer; `unsent` came in a replacement and never was.
    """

    __slots__ = ("_digest", "_digested", "_pieces", "length", "places", "unsent")

    def __init__(self, unsent: str = "") -> None:
        self.unsent = unsent
        self.places: list[tuple[int, int]] = []
        self.length = 0
        self._digest: Any = None
        self._digested = 0  # so many characters
        self._pieces: list[str] = []  # those behind them
        self.append(unsent)

    def append(self, text: str) -> None:
        """Add more of its text."""
        self._pieces.append(text)
        self.length += len(text)
        if self.length - self._digested > _MOST_KEPT:
            self._digest = self._digest or hashlib.sha256()
            self._digest.update(_encoded("".join(self._pieces)))
            self._digested = self.length
            self._pieces.clear()

    def begins(self, text: str) -> bool:
        """Return whether the text is this one, with more behind it or not."""
        if not text.startswith("".join(self._pieces), self._digested):
            return False
        return not self._digest or hashlib.sha256(_encoded(text[: self._digested])).digest() == self._digest.digest()


class Item:
    """An assistant message, or an image, as it grows: what is known of each of its parts."""

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it has no text yet."""
        return not any(part.length for part in self.parts.values())


def pieces_of(items: Iterable[Item]) -> Iterator[str | tuple[int, int]]:
    """Yield what the items' text consists of: text, or a place in what was emitted. An empty part leaves no gap."""
    parts = (item.parts[index] for item in items for index in sorted(item.parts))
    for number, part in enumerate(part for part in parts if part.length):
        if number:
            yield SEPARATOR
        yield whole(part.unsent)
        yield from part.places


def join_texts(texts: Iterable[str]) -> str:
    """Return the texts as one; empty ones leave no gap."""
    return SEPARATOR.join(filter(None, texts))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # half a character may have come without the other


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
