"""Chunks of a chat completion, or a whole completion in their place → neutral events.

Sources: OpenAI's API reference, chat completions (streaming); docs/openai-upstreams.md lists where other servers
differ, and how each case is handled.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from gpt_oss_proxy.chat.events import Event, Extra, Finish, FinishReason, Usage
from gpt_oss_proxy.errors import (
    UpstreamEmpty,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamProtocolError,
)
from gpt_oss_proxy.quoting import quote
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.openai.choices import choices_of
from gpt_oss_proxy.upstreams.openai.content import read_content, thoughts_of
from gpt_oss_proxy.upstreams.openai.finish_reasons import ending_of
from gpt_oss_proxy.upstreams.openai.framing import DONE, Document, Framer
from gpt_oss_proxy.upstreams.openai.think_tags import ThinkTags
from gpt_oss_proxy.upstreams.openai.tool_calls import ToolCalls, new_call_id
from gpt_oss_proxy.upstreams.openai.usage import read_usage
from gpt_oss_proxy.upstreams.status_error import failure_in, failure_of
from gpt_oss_proxy.upstreams.values import json_value, kept, read_lines

Wire = dict[str, Any]
_Scope = Literal["answer", "choice", "message"]

_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking")  # the first one present is used
# Fields that are decoded, or that the gateway sets itself. All others are kept.
_READ: Mapping[_Scope, frozenset[str]] = {
    "answer": frozenset(
        {
            *("id", "object", "created", "model", "choices", "usage", "error", "obfuscation", "finish_reason"),
            *("delta", "message", "done", "done_reason", "created_at"),
        }
    ),
    "choice": frozenset({"index", "delta", "message", "text", "finish_reason", "usage", "logprobs", "error"}),
    "message": frozenset({"role", "content", "refusal", "tool_calls", "function_call", *_REASONING}),
}
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_Empty = Annotated[list[Any], msgspec.Meta(max_length=0)] | None


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    content: str
    role: str | None = None
    refusal: None = None
    reasoning: None = None
    reasoning_content: None = None
    tool_calls: _Empty = None
    function_call: None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    delta: _Delta
    index: int = 0
    finish_reason: None = None
    logprobs: Any = None


class _TextChunk(msgspec.Struct, forbid_unknown_fields=True):
    """A chunk with text and nothing else. The fields at its top are the same in all chunks of an answer."""

    choices: tuple[_Choice]
    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    system_fingerprint: Any = None
    service_tier: Any = None
    provider: Any = None
    obfuscation: Any = None
    usage: None = None
    error: None = None


_text_chunks = msgspec.json.Decoder(_TextChunk)


class OpenAIDecoder(Decoder):
    """The answer ends with [DONE], or a finish reason that no output follows.

    `think_tags` turns a leading <think>…</think> into reasoning. `unknown_reason` is called with an unknown reason.
    """

    TEXT_MARK = b'"content"'
    _framer: Framer

    def __init__(
        self,
        max_event_bytes: int,
        *,
        think_tags: bool = False,
        new_id: Callable[[], str] = new_call_id,
        unknown_reason: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(Framer(max_event_bytes))
        self._begun = False
        self._reason = ""
        self._ending: FinishReason | None = None  # meaning of the last finish reason, if no output has followed it
        self._outputs = 0
        self._answers = False  # there is output besides reasoning
        self._is_whole = False  # a whole completion came, not chunks
        self._usage: Usage | None = None
        self._calls = ToolCalls(self.call, new_id)
        self._has_deltas = False
        self._messages: dict[str, str] = {}  # texts of `message` fields, which some servers repeat
        self._extra: dict[_Scope, Wire] = {"answer": {}, "choice": {}}
        self._message_fields: set[str] = set()  # the further fields of the message so far
        self._tags = ThinkTags() if think_tags else None
        self._unknown_reason = unknown_reason

    # Chunks of text

    def more_text(self, record: bytes) -> str:
        """Return the text of a chunk with nothing else; '' for the first chunk, and behind a finish reason."""
        if not self._begun or self._reason or not self._is_plain:
            return ""
        try:
            chunk = _text_chunks.decode(record)
        except (ValueError, RecursionError):
            return self._text_alone(record)
        return "" if self._may_start(chunk.id) else chunk.choices[0].delta.content

    def decode_texts(self, records: list[bytes]) -> int:
        """Emit the text of these chunks if all of them are text, as nearly all of an answer is."""
        read = 0
        if not self._begun:  # the first chunk has the fields that all chunks share
            self.decode(records[0])
            read = 1
        if self._reason or not self._is_plain:
            return read
        chunks = read_lines(_text_chunks, records[read:]) if records[read:] else []
        if any(self._may_start(chunk.id) for chunk in chunks):
            return read
        self.say("".join([chunk.choices[0].delta.content for chunk in chunks]))
        return read + len(chunks)

    def say(self, text: str) -> None:
        """Add text of the answer."""
        if text:
            self._outputs += 1
            self._answers = self._has_deltas = True
        super().say(text)

    @property
    def _is_plain(self) -> bool:
        """Whether text is emitted unchanged."""
        return not self._tags or self._tags.over

    def _may_start(self, reference: Any) -> bool:
        """Return whether a chunk may be the first one with an id: Azure's first chunk has an empty id."""
        return bool(reference) and not self._started

    def _text_alone(self, record: bytes) -> str:
        """Return the text of a chunk whose further fields are all known already."""
        try:
            chunk = msgspec.json.decode(record)
            (choice,) = chunk["choices"]
            delta, text = choice["delta"], choice["delta"]["content"]
        except (ValueError, RecursionError, KeyError, TypeError):
            return ""
        if not isinstance(text, str) or not isinstance(delta, dict) or self._may_start(chunk.get("id")):
            return ""
        others = any(value not in _NOTHING for name, value in delta.items() if name not in ("content", "role"))
        ends = chunk.get("usage") or chunk.get("error")
        ends = ends or any(
            choice.get(name) not in _NOTHING for name in ("finish_reason", "message", "text", "usage", "error")
        )
        news = self._news("answer", chunk) or self._news("choice", choice)
        return "" if others or ends or news else text

    # All chunks

    def decode(self, record: bytes) -> None:
        """Emit what one chunk means."""
        self._is_document = isinstance(record, Document)  # and may be a whole completion
        text = record.strip()
        if text.upper() in DONE:
            self.ended = True
            return
        if text[:1] not in (b"{", b"["):  # a heartbeat
            self._framer.note(text)
            return
        try:
            value = json_value(text)
        except UpstreamProtocolError:
            lines = text.split(b"\n")
            if len(lines) == 1:
                raise
            for line in filter(None, lines):
                self.decode(line)
            return
        if not value:
            self._framer.note(text)
        for chunk in value if isinstance(value, list) else [value]:
            if not isinstance(chunk, dict):
                raise UpstreamProtocolError
            self._take_chunk(chunk)

    def close(self) -> list[Event]:
        """Return the last events."""
        if not self.ended:
            for record in self._framer.rest():
                self.decode(record)
        return super().close()

    def finish(self) -> None:
        """Finish if the answer has ended according to its protocol."""
        for reasoning, text in self._tags.rest() if self._tags else ():
            (self.think if reasoning else self.say)(text)
        if not self._begun and self._framer.remark:
            raise UpstreamProtocolError(self._with_remark(UpstreamProtocolError.message), reason=self._remark)
        # Without a finish reason, [DONE] may follow a failure that is reported only as plain text.
        is_cut = not self._reason and (self._framer.remark or not self._calls.are_whole)
        if not (self.ended or self._is_whole or self._ending) or is_cut:
            raise UpstreamIncomplete(self._with_remark(UpstreamIncomplete.message), reason=self._remark)
        self._calls.finish()
        known = ending_of(self._reason)
        if self._reason and not known:
            self._unknown_reason(self._reason)
        ending: FinishReason = known if known and known != "error" else "stop"
        if ending in ("stop", "tool_calls"):
            ending = "tool_calls" if self._calls else "stop"
            if not self._outputs:
                raise UpstreamEmpty
        if self._usage:
            self.emit(self._usage)
        self.emit(Finish(ending))

    def _with_remark(self, message: str) -> str:
        """Return the message, extended by what the server sent beside the answer."""
        return f"{message} It said: {self._remark}" if self._remark else message

    @property
    def _remark(self) -> str:
        return quote(self._framer.remark.decode("utf-8", "replace"))

    def _take_chunk(self, chunk: Wire) -> None:
        if error := failure_in(chunk):
            raise error
        choices = choices_of(chunk)
        if choices is None:
            self._framer.note(msgspec.json.encode(kept(chunk)))
            return
        self._begun = True
        self.start(_text(chunk.get("id")))
        self._take_extra("answer", chunk)
        self._take_usage(chunk.get("usage"))
        for choice in choices:
            self._take_choice(choice)

    def _take_choice(self, choice: Wire) -> None:
        if choice.get("error"):
            raise failure_of(choice["error"])
        before = self._outputs
        delta, message = choice.get("delta"), choice.get("message")
        if not isinstance(delta, dict | None) or not isinstance(message, dict | None):
            raise UpstreamProtocolError
        if delta and self._brings_output(delta):
            self._has_deltas = True
            self._take_message(delta)
        elif message and not self._has_deltas:
            self._take_whole(message)
        elif message:
            self._take_rest(message)
        elif isinstance(choice.get("text"), str):
            self._say(choice["text"])
        self._take_extra("choice", choice)
        self._take_usage(choice.get("usage"))
        if self._outputs > before:
            self._ending, self.complete = None, False
        if reason := _text(choice.get("finish_reason")):
            self._take_reason(reason)

    def _brings_output(self, delta: Wire) -> bool:
        return any(value not in _NOTHING for name, value in delta.items() if name != "role")

    def _take_reason(self, reason: str) -> None:
        ending = ending_of(reason)
        if ending == "error":
            raise UpstreamFailed(
                self._with_remark(f"The model's server ended its answer with {quote(reason)!r}. Try again.")
            )
        self._reason, self._ending = reason, ending
        # Some servers send `stop` with each chunk: it is no end as long as the model only reasons.
        self.complete = bool(ending) and (self._answers or ending != "stop")

    def _take_whole(self, message: Wire) -> None:
        """Decode a `message` in place of a delta. Where several come, each may hold all the text so far."""
        self._is_whole = self._is_document
        for name in ("content", *_REASONING):
            before, text = self._messages.get(name, ""), message.get(name)
            if isinstance(text, str):
                grows = text.startswith(before)
                self._messages[name] = text if grows else before + text
                message = {**message, name: text[len(before) :] if grows else text}
        self._take_message(message)
        self._has_deltas = False

    def _take_rest(self, message: Wire) -> None:
        """Decode what a `message` after deltas has more than they had."""
        content = message.get("content")
        if isinstance(content, str) and not self._tags:
            self._say(content[self.position :])
        if not self._calls:
            self._take_calls(message)
        self._take_extra("message", {k: value for k, value in message.items() if k not in self._message_fields})

    def _take_message(self, message: Wire) -> None:
        self._think(message)
        for kind, piece in read_content(message.get("content")):
            match kind:
                case "text":
                    self._say(piece)  # type: ignore[arg-type] # a text's piece is a str
                case "reasoning":
                    self.think(piece)  # type: ignore[arg-type] # likewise
                case _:
                    self._keep_fields("message", {kind: [piece]})
        self._say(_text(message.get("refusal")))
        self._take_calls(message)
        self._take_extra("message", message)

    def _take_calls(self, message: Wire) -> None:
        if message.get("tool_calls"):
            self._calls.take(message["tool_calls"])
        elif message.get("function_call"):
            self._calls.take_older(message["function_call"])

    def _think(self, message: Wire) -> None:
        found = next((message[name] for name in _REASONING if message.get(name)), None)
        if found is None:
            found = thoughts_of(message.get("reasoning_details"))
        for _, piece in read_content(found):
            self.think(piece if isinstance(piece, str) else "")

    def _say(self, text: str) -> None:
        if not self._tags:
            self.say(text)
            return
        for reasoning, piece in self._tags.feed(text):
            (self.think if reasoning else self.say)(piece)

    def think(self, text: str) -> None:
        """Add text of the reasoning."""
        self._outputs += bool(text)
        super().think(text)

    def call(
        self, index: int, *, call_id: str = "", name: str = "", arguments: str = "", extra: Wire | None = None
    ) -> None:
        """Add the beginning of a tool call, or more of it."""
        self._outputs += 1
        self._answers = True
        super().call(index, call_id=call_id, name=name, arguments=arguments, extra=extra)

    # Fields that are kept

    def _news(self, scope: _Scope, value: Wire) -> Wire:
        """Return the fields that no event carries, and that have not come before."""
        known = self._extra.get(scope, {})
        return {
            name: item
            for name, item in value.items()
            if name not in _READ[scope] and item not in _NOTHING and known.get(name) != item
        }

    def _take_extra(self, scope: _Scope, value: Wire) -> None:
        if news := self._news(scope, value):
            self._keep_fields(scope, news)
            if scope in self._extra:
                self._extra[scope].update(news)

    def _keep_fields(self, scope: _Scope, fields: Wire) -> None:
        fields = kept(fields)
        self._grow(len(msgspec.json.encode(fields)))
        if scope == "message":
            self._outputs += 1
            self._answers = True
            self._message_fields.update(fields)
        self.emit(Extra(scope, fields))

    def _take_usage(self, usage: Any) -> None:
        self._usage = read_usage(usage) or self._usage


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
