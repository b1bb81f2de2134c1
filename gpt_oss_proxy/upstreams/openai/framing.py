"""The bytes of an answer → its records: Server-Sent Events, and JSON where a server sends that instead.

A line that is a record by itself ends at once: some servers put one line end between events where the standard has two.
JSON outside of events (a whole answer, one object per line, an error behind events) is a record, too.
"""

import re
from collections.abc import Iterator

import msgspec

from gpt_oss_proxy import sse
from gpt_oss_proxy.errors import UpstreamProtocolError, UpstreamTooLarge
from gpt_oss_proxy.upstreams.values import json_value

DONE = frozenset({b"[DONE]", b"DONE"})
_FIELDS = (b"data", b"event", b"id", b"retry", b"")  # "" begins a comment
_HEARTBEAT = re.compile(
    rb'\s*(?:[.\d\s]*|null|true|false|""|\{\}|\[\]|ping|pong|ok|heart-?beat|keep-?alive|(?:\w+ )?processing'
    rb'|\{"type": ?"(?:ping|heartbeat|keep-?alive)".{0,80}\})\s*',
    re.IGNORECASE,
)
_LONGEST_REMARK = 1000  # bytes
_STRING = re.compile(rb'"(?:[^"\\]+|\\.)*(?:"|\\?\Z)')  # up to the line's end if it is not closed


class Document(bytes):
    """A record that was not in an event."""


def is_json(text: bytes) -> bool:
    """Return whether this is a JSON object or array."""
    if text[:1] + text[-1:] not in (b"{}", b"[]"):
        return False
    try:
        json_value(text)
    except UpstreamProtocolError:
        return False
    return True


def _error(data: bytes) -> bytes:
    """Return a chunk for the data of an event of the type `error`."""
    text = data if is_json(data) else msgspec.json.encode(data.decode("utf-8", "replace"))
    return b'{"error":%b}' % text


def _is_record(text: bytes) -> bool:
    return is_json(text) or text.upper() in DONE


def _depth(line: bytes) -> int:
    """Return how many brackets a line of a JSON document opens, less those that it closes."""
    signs = _STRING.sub(b"", line)
    return signs.count(b"{") + signs.count(b"[") - signs.count(b"}") - signs.count(b"]")


class Framer(sse.Decoder):
    """Like sse.Decoder, but lenient. `remark` is the first line that is not part of an answer, like an error's text."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.remark = b""
        self._document: list[bytes] = []  # the lines of an incomplete JSON document
        self._document_size = 0
        self._depth = 0  # its open brackets
        self._is_error = False  # the event that has begun has the type `error`

    @property
    def is_within(self) -> bool:
        """Whether a record has begun and is incomplete."""
        return bool(self._document) or super().is_within

    def rest(self) -> Iterator[bytes]:
        """Yield what the body ends with, without the line end or blank line that should follow it."""
        if line := self._lines.rest():
            yield from self._read(line)
        if event := self._end_event().strip():
            if _is_record(event):
                yield event
            elif event[:1] not in (b"{", b"["):  # else it is incomplete
                self.note(event)

    def note(self, text: bytes) -> None:
        """Keep a line that is not part of an answer, if it is the first and not a heartbeat."""
        if not _HEARTBEAT.fullmatch(text):
            self.remark = self.remark or text[:_LONGEST_REMARK]

    def _feed(self, data: bytes) -> Iterator[bytes]:
        for line in self._lines.feed(data):
            yield from self._read(line)
        self.at_start = not self.is_within

    def _read(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):  # no line of a document begins like this
            self._give_up_document()
            value = line[5:].removeprefix(b" ")
            if self._is_error:
                yield _error(value.strip())
            elif not self._data and _is_record(value.strip()):
                yield value.strip()
            else:
                self._append(value)
        elif self._document or line.lstrip()[:1] in (b"{", b"["):
            yield from self._read_document(line)
        elif not line:
            self._is_error = False
            if event := self._end_event():
                yield event
        elif line.partition(b":")[0] not in _FIELDS:
            self.note(line)
        elif line.startswith(b"event:"):
            self._is_error = line[6:].strip() == b"error"

    def _read_document(self, line: bytes) -> Iterator[bytes]:
        self._document.append(line)
        self._document_size += len(line) + 1
        if self._document_size > self.max_bytes + 1:
            raise UpstreamTooLarge
        self._depth += _depth(line)
        if self._depth > 0:
            return
        text = b"\n".join(self._document).strip()
        if is_json(text):
            self._end_document()
            yield Document(text)
        else:
            self._give_up_document()

    def _give_up_document(self) -> None:
        if self._document:
            self.note(b"\n".join(self._document).strip())
            self._end_document()

    def _end_document(self) -> None:
        self._document.clear()
        self._document_size = self._depth = 0
