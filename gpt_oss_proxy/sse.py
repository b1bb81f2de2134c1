"""Server-Sent Events, both directions: bytes ⇄ data, and the lines below them.

Source: WHATWG HTML, section 9.2 "Server-sent events". Only `data` fields are used: event names, ids, retry times and
comments are read and dropped. Lines are split as bytes, because U+2028 and its kin inside JSON are not line ends.
"""

import itertools
from collections.abc import Iterable, Iterator

from gpt_oss_proxy.errors import UpstreamTooLarge

DONE = b"data: [DONE]\n\n"
_BOM = b"\xef\xbb\xbf"


def encode(data: bytes, name: str = "") -> bytes:
    """Return one event, with its name if it has one. `data` is one line (JSON from an encoder has no raw line ends)."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name else b"data: %b\n\n" % data


class Last(bytes):
    """The last piece of a body. Our server sends the end of the transfer together with it, and saves a write."""


class LineDecoder:
    """Splits a byte stream at LF, CRLF or CR, however it is cut into reads, and drops a leading byte order mark.

    Raises UpstreamTooLarge for a line above `max_bytes`, after yielding the lines before it.
    """

    BEGIN, END = b"", b"\n"  # the bytes before and after a record

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes, without their ends. The iterator must be exhausted."""
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._take() + lines[0]
        self._parts.append(rest)
        self._size += len(rest)
        for line in lines:
            if len(line) > self.max_bytes:
                raise UpstreamTooLarge
            if self._first:
                self._first = False
                line = line.removeprefix(_BOM)
            yield line
        if self._size > self.max_bytes:
            raise UpstreamTooLarge

    @property
    def at_start(self) -> bool:
        """Whether the next byte begins a record, and it is not the first."""
        return self.is_at_a_line and not self._first

    def skip_bom(self, data: bytes) -> bool:
        """Return True if `data` is the first and has no byte order mark; from then on none is looked for."""
        if self._first and data and data[:1] != _BOM[:1] and self.is_at_a_line:
            self._first = False
            return True
        return False

    @property
    def is_at_a_line(self) -> bool:
        """Whether the next byte begins a line."""
        return not (self._size or self._after_cr)

    @property
    def is_within(self) -> bool:
        """Whether a record has begun and is incomplete."""
        return not self.is_at_a_line

    def rest(self) -> bytes:
        """Return the last line, which has no end; b'' if there is none."""
        line = self._take()
        return line.removeprefix(_BOM) if self._first else line

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return line

    def _normalise(self, data: bytes) -> bytes:
        # A CR at the end of one read and an LF at the start of the next are one line end.
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class Decoder:
    """Turns a byte stream into the `data` of its events, however it is cut into reads.

    Raises UpstreamTooLarge for an event above `max_bytes`. An event without its closing blank line is dropped, as is
    one with empty data.
    """

    BEGIN, END = b"data: ", b"\n\n"  # the bytes before and after a record, as servers usually write it

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lines = LineDecoder(max_bytes)
        self._data: list[bytes] = []
        self._size = 0
        self.at_start = False  # whether the next byte begins an event, and it is not the first

    @property
    def is_within(self) -> bool:
        """Whether an event has begun and is incomplete."""
        return bool(self._data) or not self._lines.is_at_a_line

    def feed(self, data: bytes) -> Iterable[bytes]:
        """Return the data of the events that `data` completes. Exhaust it before feeding more."""
        if not self.at_start:
            self.at_start = self._lines.skip_bom(data)
        if self.at_start and len(data) <= self.max_bytes and (events := _plain(data)):
            return events
        return itertools.chain.from_iterable(self._parts(data))

    def _parts(self, data: bytes) -> Iterator[Iterable[bytes]]:
        """Yield the same in parts when only the middle may be plain: a read may begin and end within an event."""
        start = 0
        if not self.at_start:
            start = data.find(self.END) + len(self.END)
            yield self._feed(data[:start])
        end = data.rfind(self.END) + len(self.END)
        if start < end and self.at_start and len(data) <= self.max_bytes and (events := _plain(data[start:end])):
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
            elif not line and (event := self._end_event()):
                yield event
        self.at_start = not self.is_within

    def _end_event(self) -> bytes:
        """Return the data of the event that a blank line ends; b'' is no event for us, though browsers fire it."""
        event = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        self._size = 0
        return event

    def _append(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > self.max_bytes + 1:
            raise UpstreamTooLarge


def _plain(data: bytes) -> list[bytes]:
    """Return the data of the events if all are complete and in the usual form, else []."""
    if data[-2:] != Decoder.END or b"\r" in data:
        return []
    events = data[:-2].split(Decoder.END)
    if 2 * len(events) != data.count(b"\n"):
        return []
    found = [event[6:] for event in events if event[:6] == Decoder.BEGIN and len(event) > 6]
    return found if len(found) == len(events) else []
