"""The state of an answer's items as they grow: a ChatKit server may repeat, extend, replace and remove them."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from gpt_oss_proxy.upstreams.values import whole

SEPARATOR = "\n\n"  # between parts, messages and thoughts of one answer
_MOST_KEPT = 4096  # characters; a shorter text is compared directly


class Part:
    """A part's text so far: its length, and a digest to check whether another text begins with it.

    The text may be long and is not kept; only its last piece is, until the digest includes it. `places` are the ranges
    (start, end) of the whole answer's text where it was emitted; `unsent` came in a replacement and was not emitted.
    """

    __slots__ = ("_digest", "_digested", "_pieces", "length", "places", "unsent")

    def __init__(self, unsent: str = "") -> None:
        self.unsent = unsent
        self.places: list[tuple[int, int]] = []
        self.length = 0
        self._digest: Any = None
        self._digested = 0  # characters in the digest
        self._pieces: list[str] = []  # the text behind them
        self.append(unsent)

    def append(self, text: str) -> None:
        """Add more of the part's text."""
        self._pieces.append(text)
        self.length += len(text)
        if self.length - self._digested > _MOST_KEPT:
            self._digest = self._digest or hashlib.sha256()
            self._digest.update(_encoded("".join(self._pieces)))
            self._digested = self.length
            self._pieces.clear()

    def begins(self, text: str) -> bool:
        """Return whether `text` begins with this part's text."""
        if not text.startswith("".join(self._pieces), self._digested):
            return False
        return not self._digest or hashlib.sha256(_encoded(text[: self._digested])).digest() == self._digest.digest()


class Item:
    """An assistant message, or an image, as it grows: the state of each of its parts."""

    def __init__(self) -> None:
        self.parts: dict[int, Part] = {}

    @property
    def is_empty(self) -> bool:
        """Whether it has no text yet."""
        return not any(part.length for part in self.parts.values())


def pieces_of(items: Iterable[Item]) -> Iterator[str | tuple[int, int]]:
    """Yield the pieces of the items' text: a text, or a range of the emitted text. Empty parts add no separator."""
    parts = (item.parts[index] for item in items for index in sorted(item.parts))
    for number, part in enumerate(part for part in parts if part.length):
        if number:
            yield SEPARATOR
        yield whole(part.unsent)
        yield from part.places


def join_texts(texts: Iterable[str]) -> str:
    """Return the texts as one; empty ones add no separator."""
    return SEPARATOR.join(filter(None, texts))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # it may hold one half of a surrogate pair


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
