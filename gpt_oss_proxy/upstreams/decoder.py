"""Bytes of one answer → neutral events: the base of all upstreams' decoders."""

import abc
import itertools
import re
from collections.abc import Callable
from typing import Any

import msgspec

from gpt_oss_proxy import sse
from gpt_oss_proxy.chat.events import Event, ReasoningDelta, Started, TextDelta, ToolCallDelta
from gpt_oss_proxy.errors import GatewayError, UpstreamProtocolError, UpstreamTooLarge
from gpt_oss_proxy.net.lists import Shortcut
from gpt_oss_proxy.upstreams.alike import Alike, learn
from gpt_oss_proxy.upstreams.values import kept, whole

_REFERENCE = re.compile(r"[A-Za-z0-9_=-]{1,128}")  # no URL, host name or address: it goes into a header and the log
_LOST = "\ufffd"  # replaces an unpaired surrogate
_LESSONS = 8  # records in a row from which a template is inferred, until one matches
_LONGEST_ANSWER = 32 * 1024 * 1024  # characters of an answer and its reasoning; no model comes near


class _Mender:
    """Joins characters that were cut between their UTF-16 surrogates; UTF-8 cannot encode the halves."""

    held = ""

    def mend(self, text: str) -> str:
        """Return the text without a trailing half, which is held for the next call."""
        text = self.held + text
        self.held = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self.held = text[-1]
            text = text[:-1]
        return whole(text)


class Decoder(abc.ABC):
    """Bytes of one answer → events, however the bytes are cut. Pure: no clock, no sockets.

    A subclass decodes one record (the data of an SSE event, a line). An error in a record does not discard the events
    before it: it is stored in `failure`, to be raised after they were delivered.
    """

    TEXT_MARK = b""  # in all records that bring text, and so a candidate for the template of the next ones
    failure: GatewayError | None = None
    complete = False  # the protocol's terminal event has come: a broken connection does no harm now
    ended = False  # nothing more can come: the body's end need not be awaited
    on_text: Callable[[str], None] | None = None  # called with what `more_text` has found
    _heard = False  # the last data fed have completed a record

    def __init__(self, framer: sse.Decoder | sse.LineDecoder) -> None:
        self._framer = framer
        self._events: list[Event] = []
        self._run: list[str] = []  # text that becomes one event: one read may bring much of it
        self._run_kind: type[TextDelta | ReasoningDelta] = TextDelta
        self._alike: Alike | None = None  # the template of the next event, if it brings more text
        self._lessons = _LESSONS
        self._started = False
        self._said = 0  # characters of the text
        self._room = _LONGEST_ANSWER  # remaining limit for the text's characters, after the rest of the answer
        self._text = _Mender()
        self._reasoning = _Mender()

    def feed(self, data: bytes) -> list[Event] | None:
        """Return the events that `data` completes; [] for records without events, None if no record is complete."""
        if self.take(self._keep, data):
            return self._take()
        self._heard = False
        try:
            self._decode_all(data)
        except (UpstreamProtocolError, UpstreamTooLarge) as error:
            if self.complete:
                self.ended = True  # the answer is complete, whatever invalid data follows
            else:
                self.failure = error
        except GatewayError as error:
            self.failure = error
        return self._take() if self._heard or self._run or self._events or self.failure else None

    def raise_failure(self) -> None:
        """Raise the error of the failed record."""
        try:
            raise self.failure or UpstreamProtocolError
        finally:
            self.failure = None  # it and the decoder would refer to each other

    @property
    def position(self) -> int:
        """The length of the text so far, in characters, with a held surrogate."""
        return self._said + len(self._text.held)

    @property
    def knows_more(self) -> bool:
        """Whether it has a template for more text, so that `take` can accept it."""
        return self._alike is not None

    def take(self, shortcut: Shortcut, data: bytes) -> bool:
        """Pass text to the shortcut if `data` brings only more text, as nearly all reads of a slow answer do.

        Returns False, without side effects, if it brings anything else or the shortcut declines: then feed it.
        """
        alike, framer = self._alike, self._framer
        if not alike or self.complete or not framer.at_start or len(data) > framer.max_bytes:
            return False
        text = alike.read_all(data)
        if not text or self._text.held or self._said + len(text) > self._room:
            return False
        if not shortcut(text):
            return False
        self._said += len(text)
        if self.on_text:
            self.on_text(text)
        return True

    def _keep(self, text: str) -> bool:
        self._events.append(TextDelta(text))
        return True

    def close(self) -> list[Event]:
        """Return the last events, Finish among them, at the end of the body. Raises UpstreamIncomplete and its kin."""
        self._flush()
        self.finish()
        return self._take()

    def _decode_all(self, data: bytes) -> None:
        for number in itertools.count():
            text, size = self._read_alike(data)
            if size:
                self._lessons = _LESSONS
                self._say_more(text)
                data = data[size:]
            if not data or self.ended:
                return
            # Each attempt with the template scans all the rest, so their number is limited.
            size = self._next_size(data) if number < _LESSONS else len(data)
            self._decode_records(data[:size])
            data = data[size:]

    def _next_size(self, data: bytes) -> int:
        """Return how many bytes to read next: up to the end of one text record, from which the template is inferred.

        That record is the last of these bytes, and their only text. Without anything to infer, it is all of them.
        """
        if not (self._lessons and self.TEXT_MARK):
            return len(data)
        mark = 0 if self._framer.is_within else data.find(self.TEXT_MARK)
        end = data.find(self._framer.END, mark) if mark >= 0 else -1
        return end + len(self._framer.END) if end >= 0 else len(data)

    def _read_alike(self, data: bytes) -> tuple[str, int]:
        framer = self._framer
        known = self._alike and framer.at_start and len(data) <= framer.max_bytes
        return self._alike.read(data) if self._alike and known else ("", 0)

    def _decode_records(self, data: bytes) -> None:
        mark = self.TEXT_MARK
        texts: list[bytes] = []
        try:
            for record in self._framer.feed(data):
                if record:  # blank lines do not count as a sign of life
                    self._heard = True
                if mark and mark in record:
                    texts.append(record)
                    continue
                if texts:
                    waiting, texts = texts, []
                    self._decode_texts(waiting)
                self._alike = None
                self.decode(record)
                if self.ended:
                    break
        finally:  # an error of the framer must not discard the records before it
            if texts:
                self._decode_texts(texts)

    def _decode_texts(self, records: list[bytes]) -> None:
        record = records[0]
        if len(records) == 1 and (text := self.more_text(record)):
            self._say_more(text)
        else:
            self._alike = None
            emitted = self.decode_texts(records)
            for rest in records[emitted:]:
                self.decode(rest)
            text = self.more_text(record) if emitted == len(records) == 1 else ""  # the sample for a template
        if text and self._lessons:
            self._lessons -= 1  # give up inferring where all records differ
            self._alike = learn(record, text, self._framer.BEGIN, self._framer.END) or self._alike

    def _say_more(self, text: str) -> None:
        self._heard = True
        if self.on_text:
            self.on_text(text)
        self.say(text)

    def more_text(self, record: bytes) -> str:  # noqa: ARG002 - a hook
        """Return the text of a record that only continues the last text; '' for any other record.

        The result must hold for all records that directly follow and differ only in this text.
        """
        return ""

    def decode_texts(self, records: list[bytes]) -> int:  # noqa: ARG002 - a hook
        """Emit the text of the leading records if they bring only text, and return their number."""
        return 0

    @abc.abstractmethod
    def decode(self, record: bytes) -> None:
        """Emit what one record means. Raises a GatewayError if it reports a failure or is malformed."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Emit what the end of the body means: Finish if the answer is complete. Raises a GatewayError if it is not."""

    def emit(self, event: Event) -> None:
        """Add one event to the batch."""
        self._end_run()
        self._events.append(event)

    def start(self, reference: str) -> None:
        """Emit Started with the upstream's own id of this answer, once."""
        if not self._started and _REFERENCE.fullmatch(reference):
            self._started = True
            self.emit(Started(reference))

    def say(self, text: str) -> None:
        """Add text of the answer; a trailing half of a surrogate pair is held."""
        if self._text.held or not text.isascii():
            text = self._text.mend(text)
        if text:
            self._add(TextDelta, text)

    def think(self, text: str) -> None:
        """Add text of the reasoning."""
        if self._reasoning.held or not text.isascii():
            text = self._reasoning.mend(text)
        if text:
            self._add(ReasoningDelta, text)

    def call(
        self,
        index: int,
        *,
        call_id: str = "",
        name: str = "",
        arguments: str = "",
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Add the beginning of a tool call, or more of its arguments, or further fields."""
        self._grow(len(arguments) + (len(msgspec.json.encode(kept(extra))) if extra else 0))
        self.emit(ToolCallDelta(index, whole(call_id), whole(name), whole(arguments), kept(extra) if extra else {}))

    def _add(self, kind: type[TextDelta | ReasoningDelta], text: str) -> None:
        if kind is TextDelta:
            self._said += len(text)
        else:
            self._room -= len(text)
        if self._said > self._room:
            raise UpstreamTooLarge
        if kind is not self._run_kind:
            self._end_run()
            self._run_kind = kind
        self._run.append(text)

    def _end_run(self) -> None:
        if self._run:
            self._events.append(self._run_kind("".join(self._run)))
            self._run.clear()

    def _grow(self, length: int) -> None:
        """Count towards the limit of the answer's size: the whole answer and its token count are kept in memory."""
        self._room -= length
        if self._said > self._room:
            raise UpstreamTooLarge

    def _flush(self) -> None:
        if self._reasoning.held:
            self.emit(ReasoningDelta(_LOST))
        if self._text.held:
            self.emit(TextDelta(_LOST))

    def _take(self) -> list[Event]:
        if self._run:
            self._end_run()
        events, self._events = self._events, []
        return events
