"""Server-Sent Events, both directions: bytes ⇄ data, and the lines below them.

Source: WHATWG HTML, section 9.2 "Server-sent events". Only `data` fields matter here: event names, ids, retry times and
comments are read and dropped. Lines are split as bytes: U+2028 and its kin inside JSON are no line ends.
"""

from gpt_oss_proxy.errors import UpstreamTooLarge

DONE = b"data: [DONE]\n\n"
_BOM = b"\xef\xbb\xbf"


def encode(data: bytes) -> bytes:
    """Return one event. `data` is one line (JSON written by a machine has no raw line ends)."""
    return b"data: %b\n\n" % data


class LineDecoder:
    """Splits a byte stream at LF, CRLF or CR, wherever it is cut. Raises UpstreamTooLarge above `max_bytes` a line."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes, without their ends."""
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._take() + lines[0]
        self._parts.append(rest)
        self._size += len(rest)
        if self._size > self._max_bytes or any(len(line) > self._max_bytes for line in lines):
            raise UpstreamTooLarge
        return lines

    def close(self) -> bytes:
        """Return the last line if it had no end, else b''."""
        return self._take()

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

    Raises UpstreamTooLarge above `max_bytes` an event. An event without its closing blank line is no event.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lines = LineDecoder(max_bytes)
        self._first = True
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that `data` completes."""
        events = []
        for line in self._lines.feed(data):
            if self._first:
                self._first = False
                line = line.removeprefix(_BOM)
            if line.startswith(b"data:"):
                self._append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line == b"data":  # a field without a colon has an empty value
                self._append(b"")
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data = []
                self._size = 0
        return events

    def _append(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + 1
        if self._size > self._max_bytes + 1:
            raise UpstreamTooLarge
