"""Bytes of one answer → neutral events: what the decoders of all upstreams have in common."""

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
_LOST = "\ufffd"  # what can be said of half a character
_LESSONS = 8  # records in a row that are looked at for what the next ones are like
_LONGEST_ANSWER = 32 * 1024 * 1024  # characters of an answer and its reasoning; no model comes near


class _Mender:
    """Joins characters that were cut between their UTF-16 surrogates; UTF-8 cannot hold the halves."""

    held = ""

    def mend(self, text: str) -> str:
        """Return the text that can be said now."""
        text = self.held + text
        self.held = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self.held = text[-1]
            text = text[:-1]
        return whole(text)


class Decoder(abc.ABC):
    """Bytes of one answer → events, wherever the bytes are cut. Pure: no clock, no sockets.

    A subclass says what one record (the data of an SSE event, a line) means. An error that a record tells of does not
    lose the events before it: it is kept in `failure`, to be raised when they have been delivered.
    """

    TEXT_MARK = b""  # stands in all records that bring text: from one of them one may learn what the next are like
    failure: GatewayError | None = None
    complete = False  # the protocol's terminal event has come: a break from now on does no harm
    ended = False  # nothing more can come: the body's end need not be awaited
    on_text: Callable[[str], None] | None = None  # is told what `more_text` has found
    _heard = False  # the data that were fed last have completed a record

    def __init__(self, framer: sse.Decoder | sse.LineDecoder) -> None:
        self._framer = framer
        self._events: list[Event] = []
        self._run: list[str] = []  # text that will be one event: much of it may come in one read
        self._run_kind: type[TextDelta | ReasoningDelta] = TextDelta
        self._alike: Alike | None = None  # what the next event is like, if it brings more text
        self._lessons = _LESSONS
        self._started = False
        self._said = 0  # characters of the text
        self._room = _LONGEST_ANSWER  # for characters of the text, beside the rest of the answer
        self._text = _Mender()
        self._reasoning = _Mender()

    def feed(self, data: bytes) -> list[Event] | None:
        """Return the events that `data` completes; [] if it told nothing new, None if it completed no record at all."""
        if self.take(self._keep, data):
            return self._take()
        self._heard = False
        try:
            self._decode_all(data)
        except (UpstreamProtocolError, UpstreamTooLarge) as error:
            if self.complete:
                self.ended = True  # the answer is whole, whatever nonsense follows it
            else:
                self.failure = error
        except GatewayError as error:
            self.failure = error
        return self._take() if self._heard or self._run or self._events or self.failure else None

    def raise_failure(self) -> None:
        """Raise what a record has told of."""
        try:
            raise self.failure or UpstreamProtocolError
        finally:
            self.failure = None  # it would keep us, and we it

    @property
    def position(self) -> int:
        """The length of the text so far, in characters, with half a character that waits for its other half."""
        return self._said + len(self._text.held)

    @property
    def knows_more(self) -> bool:
        """Whether it knows what more text would look like, so that it may take it."""
        return self._alike is not None

    def take(self, shortcut: Shortcut, data: bytes) -> bool:
        """Tell the text of data that bring nothing but more of it, as nearly all reads of a slow answer do.

        False if they bring something else, or the shortcut is closed: nothing has happened, and they are to be fed.
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
        """Return the last events, Finish among them: the body has ended. Raises UpstreamIncomplete and its kin."""
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
            # Each look for what is alike goes through all the rest, so there are not many of them.
            size = self._next_size(data) if number < _LESSONS else len(data)
            self._decode_records(data[:size])
            data = data[size:]

    def _next_size(self, data: bytes) -> int:
        """Return how much is read next, in bytes: to the end of a text, which may teach what those behind it are like.

        It is the last of what is read, and the only one. All is read together where there is nothing to learn.
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
                if record:  # blank lines without end are no sign of life
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
        finally:  # an error of the framer must not lose what came before it
            if texts:
                self._decode_texts(texts)

    def _decode_texts(self, records: list[bytes]) -> None:
        record = records[0]
        if len(records) == 1 and (text := self.more_text(record)):
            self._say_more(text)
        else:
            self._alike = None
            told = self.decode_texts(records)
            for rest in records[told:]:
                self.decode(rest)
            text = self.more_text(record) if told == len(records) == 1 else ""  # what follows it may be like it
        if text and self._lessons:
            self._lessons -= 1  # where they are in vain, as all events differ, there is an end
            self._alike = learn(record, text, self._framer.BEGIN, self._framer.END) or self._alike

    def _say_more(self, text: str) -> None:
        self._heard = True
        if self.on_text:
            self.on_text(text)
        self.say(text)

    def more_text(self, record: bytes) -> str:  # noqa: ARG002 - a hook
        """Return the text of a record that brings more of what on_text last, and nothing else; '' if it is not so.

        What holds for a record holds for all that follow at once and differ from it in this text only.
        """
        return ""

    def decode_texts(self, records: list[bytes]) -> int:  # noqa: ARG002 - a hook
        """Emit what the first of these records mean if they bring only text, and return how many they are."""
        return 0

    @abc.abstractmethod
    def decode(self, record: bytes) -> None:
        """Emit what one record means. Raises a GatewayError if it tells of a failure or is malformed."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Emit what the end of the body means: Finish if the answer is whole. Raises a GatewayError if it is not."""

    def emit(self, event: Event) -> None:
        """Add one event to the list that the current bytes complete."""
        self._end_run()
        self._events.append(event)

    def start(self, reference: str) -> None:
        """Tell the upstream's own id of this answer, once."""
        if not self._started and _REFERENCE.fullmatch(reference):
            self._started = True
            self.emit(Started(reference))

    def say(self, text: str) -> None:
        """Add text of the answer; half a character waits for its other half."""
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
        """Bound what an answer costs: the whole answer and its count of tokens keep all of it."""
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
