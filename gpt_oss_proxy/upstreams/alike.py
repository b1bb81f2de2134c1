"""Recognises events that differ only in one JSON string, as nearly all events of an answer do, without parsing them.

The bytes around the string identify such an event: however many come together, a search finds the bytes between two
strings, and one call decodes all strings.
"""

import itertools
from typing import Final

import msgspec

_COMMA = b'","'
_LONG = 100  # bytes; see Alike.__init__
_SHORT = 16
_text: Final = msgspec.json.Decoder(str)
_texts: Final = msgspec.json.Decoder(list[str])


class Alike:
    """The template: the bytes before an event's text (with its opening quotation mark), and those behind it to its end.

    `tail` contains a line end, and JSON strings contain none: so an event ends at the first `tail`.
    """

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head = head
        self._tail = tail
        self._between = tail + head
        # Long needles make the search slow: of a long one only the beginning is searched, which always includes `tail`.
        most = len(self._between) if len(self._between) < _LONG else max(_SHORT, len(tail))
        self._needle, self._rest = self._between[:most], self._between[most:]
        self._start = len(head) - len(self._rest)  # where the unsearched rest stands before the first text

    def read_all(self, data: bytes) -> str:
        """Return the text of `data` if it consists of whole events of this kind only, else ''."""
        if not (data.startswith(self._head) and data.endswith(self._tail)):
            return ""
        if self._between in data:
            text, size = self.read(data)
            return text if size == len(data) else ""
        try:
            return _text.decode(b'"%b"' % data[len(self._head) : -len(self._tail)])
        except ValueError:
            return ""

    def read(self, data: bytes) -> tuple[str, int]:
        """Return the text of the whole events of this kind that `data` begins with, and their size in bytes.

        Returns ('', 0) if there are none, or if one is unusual: such events must be parsed.
        """
        if not data.startswith(self._head):
            return "", 0
        pieces = data[self._start :].rsplit(self._needle)  # several times as fast as split
        pieces[-1], end, _ = pieces[-1].partition(self._tail)
        if not end:  # the last event is incomplete
            pieces.pop()
        if self._rest:
            pieces = self._without_rest(pieces, data)
        joined = _COMMA.join(pieces)
        if b"\n" in joined:  # other bytes stand between some of them
            pieces = self._first_ones(pieces)
            joined = _COMMA.join(pieces)
        # A text that ends with an escaped quotation mark would continue in the next one.
        if b"\\" in joined and (joined.endswith(b"\\") or b"\\" + _COMMA in joined):
            return "", 0
        try:
            texts = _texts.decode(b'["%b"]' % joined)
        except ValueError:
            return "", 0
        if len(texts) != len(pieces):  # a supposed text consists of several JSON strings
            return "", 0
        text = "".join(texts)
        size = len(joined) - len(_COMMA) * (len(pieces) - 1) + len(self._between) * len(pieces)
        return (text, size) if text else ("", 0)

    def _without_rest(self, pieces: list[bytes], data: bytes) -> list[bytes]:
        """Return the texts of the leading pieces in which the unsearched rest follows the needle."""
        while pieces and not pieces[-1].startswith(self._rest):  # other events often come last
            pieces.pop()
        size = len(self._rest)
        texts = [piece[size:] for piece in pieces]
        if data.startswith(self._between.join(texts), len(self._head)):
            return texts
        return [piece[size:] for piece in itertools.takewhile(lambda piece: piece.startswith(self._rest), pieces)]

    def _first_ones(self, pieces: list[bytes]) -> list[bytes]:
        for position, piece in enumerate(pieces):
            if b"\n" in piece:
                return [*pieces[:position], piece.partition(self._tail)[0]]
        return pieces


def learn(record: bytes, text: str, begin: bytes, end: bytes) -> Alike | None:
    """Return the template of the events that differ from `record` only in `text`; None if it is ambiguous.

    `text` is one of the record's JSON strings. `begin` and `end` are the bytes around a record in its stream.
    """
    if b"\\" in record or b"\n" in record:  # without escapes a string has only one spelling
        return None
    # A text that equals JSON punctuation (":") may match elsewhere; the template then only matches itself, which is
    # safe.
    before, found, after = record.partition(b'"%b"' % text.encode("utf-8", "surrogatepass"))
    if not found or found in after:
        return None
    return Alike(begin + before + b'"', b'"' + after + end)
