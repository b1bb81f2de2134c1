"""Answers that consist of choices, whole and as chunks: what chat completions and legacy completions share.

Within a choice only the news of a chunk change, so what stands before and after them is rendered once.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from gpt_oss_proxy import sse
from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.openai.errors import error_event
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat, placing
from gpt_oss_proxy.chat.events import (
    Choice,
    Event,
    Extra,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.errors import GatewayError

_json = msgspec.json.encode
_OURS = frozenset({"id", "object", "created", "model", "choices", "usage", "error"})


def further(fields: Mapping[str, Any], ours: Collection[str]) -> dict[str, Any]:
    """Return the server's further fields that have room beside ours."""
    return {name: value for name, value in fields.items() if name not in ours}


def render_whole(
    kind: str, stamp: Stamp, choices: list[dict[str, Any]], usage: Usage, extra: Mapping[str, Any]
) -> bytes:
    """Return the body of a whole answer. `kind` is its `object`, `extra` what its server says beside it."""
    ours = {**_stamped(kind, stamp), "choices": choices, "usage": _usage(usage)}
    return _json(ours | further(extra, ours.keys()))


class ChunkStream(ABC):
    """Lists of events → chunks: what opens a choice, deltas as they come, a finish each, usage if asked for, [DONE].

    A subclass words the news of a chunk: each `…_fields` method returns fields of its choice, as JSON without braces,
    or b'' for no chunk. `NO_FIELDS` are those of a chunk that only keeps the connection alive, and `AROUND_TEXT` is
    what stands before and after new text.
    """

    KIND: str
    NO_FIELDS: bytes
    AROUND_TEXT: tuple[bytes, bytes]

    def __init__(self, stamp: Stamp, *, include_usage: bool, reasoning_format: ReasoningFormat) -> None:
        self._head = b"data: " + _json(_stamped(self.KIND, stamp))[:-1] + b',"choices":['
        self._tail = b"]" + (b',"usage":null' if include_usage else b"") + b"}\n\n"
        self._open_tail = b',"logprobs":null,"finish_reason":null}' + self._tail
        self._heads: dict[int, bytes] = {}  # of the choices that have appeared
        self._around_text: tuple[bytes, bytes] = b"", b""  # in a chunk of choice 0, when it has appeared
        self._include_usage = include_usage
        self._usage = Usage(0, 0)
        self._extra: dict[str, Any] = {}  # of the answer
        self._choice_extra: dict[int, dict[str, Any]] = {}
        self._place = placing(reasoning_format)

    @abstractmethod
    def opening_fields(self, index: int) -> bytes:
        """Return what a choice begins with."""

    def text_fields(self, text: str) -> bytes:
        """Return new text."""
        before, after = self.AROUND_TEXT
        return before + _json(text) + after

    def reasoning_fields(self, _text: str) -> bytes:
        """Return new reasoning, where there is a field for it."""
        return b""

    def call_fields(self, _event: ToolCallDelta) -> bytes:
        """Return a tool call that begins or grows, where there is a field for it."""
        return b""

    def extra_fields(self, _fields: Mapping[str, Any]) -> bytes:
        """Return further fields of a message, where there is room for them."""
        return b""

    def choice_extra(self, _fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return further fields of a choice, where there is room for them."""
        return {}

    @abstractmethod
    def reason(self, reason: FinishReason) -> str:
        """Return the client API's word for it."""

    def feed(self, events: list[Event]) -> bytes:
        """Return the chunks of these events, or for [] a chunk without news, to keep the connection alive."""
        if len(events) == 1 and type(events[0]) is TextDelta and self._around_text[0] and not self._place:
            before, after = self._around_text  # as nearly all lists of a long answer are
            return before + _json(events[0].text) + after
        out: list[bytes] = []
        index, head = 0, self._appear(0, out)
        if not events and not out:
            return self._chunk(head, self.NO_FIELDS)
        if self._place:
            events = self._place(events)
        run: list[str] = []  # text of the same kind that came together goes out together
        for position, event in enumerate(events):
            match event:
                case TextDelta() | ReasoningDelta():
                    run.append(event.text)
                    if position + 1 == len(events) or type(events[position + 1]) is not type(event):
                        fields = self.text_fields if type(event) is TextDelta else self.reasoning_fields
                        out.append(self._chunk(head, fields("".join(run))))
                        run.clear()
                case ToolCallDelta():
                    out.append(self._chunk(head, self.call_fields(event)))
                case Choice():
                    index, head = event.index, self._appear(event.index, out)
                case Extra(of="message"):
                    out.append(self._chunk(head, self.extra_fields(event.fields)))
                case Extra(of="choice"):
                    self._choice_extra.setdefault(index, {}).update(self.choice_extra(event.fields))
                case Extra():
                    self._extra |= event.fields
                case Usage():
                    self._usage = event
                case Finish():
                    self._finish(event, out)
                case _:
                    pass  # Started is in a header; text that was streamed cannot be taken back
        return b"".join(out)

    end = feed

    def fail(self, error: GatewayError) -> bytes:
        """Return an error event and [DONE]; there is no finish_reason, for there was no finish."""
        return error_event(error)

    def _appear(self, index: int, out: list[bytes]) -> bytes:
        """Return what each chunk of a choice begins with; the first time, the choice is opened."""
        head = self._heads.get(index)
        if head is None:
            head = self._heads[index] = b'%b{"index":%d,' % (self._head, index)
            out.append(self._chunk(head, self.opening_fields(index)))
            if not out[-1]:
                out.pop()
            if index == 0:
                before, after = self.AROUND_TEXT
                self._around_text = head + before, after + self._open_tail
        return head

    def _chunk(self, head: bytes, fields: bytes) -> bytes:
        return head + fields + self._open_tail if fields else b""

    def _finish(self, event: Finish, out: list[bytes]) -> None:
        for index, reason in enumerate((event.reason, *event.others)):
            head = self._appear(index, out)
            end = b',"logprobs":null,"finish_reason":%b' % _json(self.reason(reason))
            end += _members(self._choice_extra.get(index, {})) + b"}"
            # What its server says of the whole answer goes out with its end, once.
            tail = self._tail if index else self._with_extra(self._tail)
            out.append(head + self.NO_FIELDS + end + tail)
        if self._include_usage:
            out.append(self._head + b'],"usage":' + _json(_usage(self._usage)) + b"}\n\n")
        out.append(sse.DONE)

    def _with_extra(self, tail: bytes) -> bytes:
        return tail[:1] + _members(further(self._extra, _OURS)) + tail[1:]


def _members(fields: Mapping[str, Any]) -> bytes:
    """Return the members of an object, behind others."""
    return b"," + _json(fields)[1:-1] if fields else b""


def _stamped(kind: str, stamp: Stamp) -> dict[str, Any]:
    return {"id": stamp.id, "object": kind, "created": stamp.created, "model": stamp.model}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
