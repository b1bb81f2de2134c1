"""Events that differ in nothing but a text, as nearly all events of an answer do: of those only the text is looked at.

Whoever knows what one of them means knows what all of them mean, however many come together: they are found by a
search for what stands between two texts, and the texts are decoded by one call.
"""

import itertools
from typing import Final

import msgspec

_COMMA = b'","'
_LONG = 100  # bytes
_SHORT = 16
_text: Final = msgspec.json.Decoder(str)
_texts: Final = msgspec.json.Decoder(list[str])


class Alike:
    """What stands before the text of such events, its quotation mark included, and what behind it, to the event's end.

    There is a line end in `tail`, and none in a JSON text: so an event ends where `tail` comes first.
    """

    def __init__(self, head: bytes, tail: bytes) -> None:
        self._head = head
        self._tail = tail
        self._between = tail + head
        # The more letters are looked for, the slower is the search: of much only the beginning is, `tail` included.
        most = len(self._between) if len(self._between) < _LONG else max(_SHORT, len(tail))
        self._needle, self._rest = self._between[:most], self._between[most:]
        self._start = len(head) - len(self._rest)  # where the rest stands before the first text

    def read_all(self, data: bytes) -> str:
        """Return the text of data that are whole events of this kind and nothing else, else ''."""
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
        """Return the text of the whole events of this kind that `data` begins with, and how many bytes they are.

        ('', 0) if there are none, or if one is not as it should be: then they are to be read with more patience.
        """
        if not data.startswith(self._head):
            return "", 0
        pieces = data[self._start :].rsplit(self._needle)  # several times as fast as split
        pieces[-1], end, _ = pieces[-1].partition(self._tail)
        if not end:  # it is cut
            pieces.pop()
        if self._rest:
            pieces = self._without_rest(pieces, data)
        told = _COMMA.join(pieces)
        if b"\n" in told:  # something else stands between some of them
            pieces = self._first_ones(pieces)
            told = _COMMA.join(pieces)
        # A text whose last quotation mark is escaped would go on in the next one.
        if b"\\" in told and (told.endswith(b"\\") or b"\\" + _COMMA in told):
            return "", 0
        try:
            texts = _texts.decode(b'["%b"]' % told)
        except ValueError:
            return "", 0
        if len(texts) != len(pieces):  # what looks like a text is more than one
            return "", 0
        text = "".join(texts)
        size = len(told) - len(_COMMA) * (len(pieces) - 1) + len(self._between) * len(pieces)
        return (text, size) if text else ("", 0)

    def _without_rest(self, pieces: list[bytes], data: bytes) -> list[bytes]:
        """Return the texts of the first pieces that are as they should be: behind the needle comes the rest."""
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
    """Return what events are like that say what this record says, but another text; None if it is not sure.

    `text` is what the record says, one of its JSON strings. `begin` and `end` stand around a record in its stream.
    """
    if b"\\" in record or b"\n" in record:  # without escapes a string is written in one way only
        return None
    # If the text is ":", what is found may stand between a name and its value; then only the same text is like it.
    before, found, after = record.partition(b'"%b"' % text.encode("utf-8", "surrogatepass"))
    if not found or found in after:
        return None
    return Alike(begin + before + b'"', b'"' + after + end)
