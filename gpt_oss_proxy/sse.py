"""Server-Sent Events, both directions: bytes ⇄ data, and the lines below them.

Source: WHATWG HTML, section 9.2 "Server-sent events". Only `data` fields matter here: event names, ids, retry times and
comments are read and dropped. Lines are split as bytes: U+2028 and its kin inside JSON are no line ends.
"""

import itertools
from collections.abc import Iterable, Iterator

from gpt_oss_proxy.errors import UpstreamTooLarge

DONE = b"data: [DONE]\n\n"
_BOM = b"\xef\xbb\xbf"
_FIELD = b"data: "
_END = b"\n\n"


def encode(data: bytes) -> bytes:
    """Return one event. `data` is one line (JSON written by a machine has no raw line ends)."""
    return b"data: %b\n\n" % data


class Last(bytes):
    """The last piece of a body: a server that knows this ends the transfer with it, and need not write once more."""


class LineDecoder:
    """Splits a byte stream at LF, CRLF or CR, wherever it is cut, and drops a byte order mark at its beginning.

    Raises UpstreamTooLarge above `max_bytes` a line, when the lines before it have been handed over.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True

    def skip_bom(self, data: bytes) -> bool:
        """Return whether `data` is the first, and begins a line without a byte order mark: then none is looked for."""
        if not self._first or not data or data[:1] == _BOM[:1] or not self.is_at_a_line:
            return False
        self._first = False
        return True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes, without their ends. It must be run to its end."""
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._take() + lines[0]
        self._parts.append(rest)
        self._size += len(rest)
        for line in lines:
            if len(line) > self._max_bytes:
                raise UpstreamTooLarge
            if self._first:
                self._first = False
                line = line.removeprefix(_BOM)
            yield line
        if self._size > self._max_bytes:
            raise UpstreamTooLarge

    def only(self, data: bytes) -> bytes:
        """Return the one line that `data` is, b'' if it is anything else; then it is to be fed."""
        plain = data[-1:] == b"\n" and data.count(b"\n") == 1 and b"\r" not in data and self.is_at_a_line
        return data[:-1] if plain and not self._first and len(data) <= self._max_bytes else b""

    @property
    def is_at_a_line(self) -> bool:
        """Whether the next byte begins a line."""
        return not (self._size or self._after_cr)

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return line

    def _normalise(self, data: bytes) -> bytes:
        # A CR at the end of one read and the LF at the start of the next are one line end.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class Decoder:
    """Turns a byte stream into the `data` of its events, wherever it is cut.

    Raises UpstreamTooLarge above `max_bytes` an event. An event without its closing blank line is no event, nor is one
    whose data is empty.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines = LineDecoder(max_bytes)
        self._data: list[bytes] = []
        self._size = 0
        self._at_an_event = False  # at the beginning there may be a byte order mark

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Return the data of the events that `data` completes, to be read to its end before more is fed."""
        if self._at_an_event and len(data) <= self._max_bytes and (events := _plain(data)):
            return events
        return itertools.chain.from_iterable(self._parts(data))

    def only(self, data: bytes) -> bytes:
        """Return the data of the one event that `data` is, b'' if it is anything else; then it is to be fed."""
        if not self._at_an_event:
            self._at_an_event = self._lines.skip_bom(data)
        plain = data[:6] == _FIELD and data[-2:] == _END and data.count(b"\n") == 2 and b"\r" not in data
        return data[6:-2] if plain and self._at_an_event and len(data) <= self._max_bytes else b""

    def _parts(self, data: bytes) -> Iterator[Iterable[bytes]]:
        """Yield the same where only the middle may be plain: a read may begin and end within an event."""
        start = 0
        if not self._at_an_event:
            start = data.find(_END) + len(_END)
            yield self._feed(data[:start])
        end = data.rfind(_END) + len(_END)
        if start < end and self._at_an_event and len(data) <= self._max_bytes and (events := _plain(data[start:end])):
            yield events
            start = end
        if start < len(data):
            yield self._feed(data[start:])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        for line in self._lines.feed(data):
            if line.startswith(b"data:"):
                self._append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line == b"data":  # a field without a colon has an empty value
                self._append(b"")
            elif not line and self._data:
                event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                self._data = []
                self._size = 0
                if event:  # a browser would fire it, but no protocol here says anything by it
                    yield event
        self._at_an_event = not self._data and self._lines.is_at_a_line

    def _append(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > self._max_bytes + 1:
            raise UpstreamTooLarge


def _plain(data: bytes) -> list[bytes]:
    """Return the data of the events if all are whole and written as all servers write them, else nothing."""
    if data[-2:] != _END or b"\r" in data:
        return []
    events = data[:-2].split(_END)
    if 2 * len(events) != data.count(b"\n"):
        return []
    told = [event[6:] for event in events if event[:6] == _FIELD and len(event) > 6]
    return told if len(told) == len(events) else []
