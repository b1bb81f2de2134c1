"""Completion and events → OpenAI's chat.completion and chat.completion.chunk.

A client that asked with `functions` is answered with `function_call`, the older spelling of a single tool call.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.openai.api import own
from gpt_oss_proxy.apis.openai.choices import ChunkStream, further, render_whole
from gpt_oss_proxy.apis.openai.reasoning import FIELDS, placed
from gpt_oss_proxy.chat.completion import Completion, CompletionChoice
from gpt_oss_proxy.chat.events import FinishReason, ToolCallDelta
from gpt_oss_proxy.chat.request import ChatRequest, ToolCall

_json = msgspec.json.encode
_CHOICE = frozenset({"index", "message", "delta", "logprobs", "finish_reason"})
_MESSAGE = frozenset({"role", "content", "refusal", "tool_calls", "function_call", *FIELDS["both"]})
_REASONING_HEADS = {where: [b'"%b":' % name.encode() for name in names] for where, names in FIELDS.items()}


def render(completion: Completion, stamp: Stamp, request: ChatRequest) -> bytes:
    """Return the body of a chat.completion."""
    choices = [
        {
            "index": index,
            "message": _message(placed(choice, own(request).reasoning), request),
            "logprobs": None,
            "finish_reason": _reason(choice.reason, request),
            **further(choice.extra, _CHOICE),
        }
        for index, choice in enumerate(completion.choices)
    ]
    return render_whole("chat.completion", stamp, choices, completion.usage, completion.extra)


class ChunkRenderer(ChunkStream):
    """Batches of events → chunks: for each choice the role first."""

    KIND = "chat.completion.chunk"
    NO_FIELDS = b'"delta":{}'
    AROUND_TEXT = b'"delta":{"content":', b"}"

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        mine = own(request)
        super().__init__(stamp, include_usage=request.wants_usage, reasoning_format=mine.reasoning)
        self._request = request
        self._has_functions = mine.has_functions
        self._reasoning_heads = _REASONING_HEADS[mine.reasoning]

    def opening_fields(self, _index: int) -> bytes:
        """Return the role."""
        return b'"delta":{"role":"assistant","content":""}'

    def reasoning_fields(self, text: str) -> bytes:
        """Return new reasoning under each name that the client may read."""
        encoded = _json(text)
        return b'"delta":{' + b",".join([head + encoded for head in self._reasoning_heads]) + b"}"

    def call_fields(self, event: ToolCallDelta) -> bytes:
        """Return a call's first delta with id and name, a later one with arguments alone."""
        if self._has_functions:
            return b'"delta":' + _json({"function_call": _function_delta(event)}) if event.index == 0 else b""
        return b'"delta":' + _json({"tool_calls": [_tool_call_delta(event)]})

    def extra_fields(self, fields: Mapping[str, Any]) -> bytes:
        """Return further fields of the message."""
        kept = further(fields, _MESSAGE)
        return b'"delta":' + _json(kept) if kept else b""

    def choice_extra(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return those of a choice that have room beside ours."""
        return further(fields, _CHOICE)

    def reason(self, reason: FinishReason) -> str:
        """Return the reason as the request spells calls."""
        return _reason(reason, self._request)


def _reason(reason: FinishReason, request: ChatRequest) -> str:
    return "function_call" if reason == "tool_calls" and own(request).has_functions else reason


def _message(choice: CompletionChoice, request: ChatRequest) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice.text,
        "refusal": None,
        "annotations": [],
        **further(choice.message_extra, _MESSAGE),
    }
    if choice.reasoning:
        message |= dict.fromkeys(FIELDS[own(request).reasoning], choice.reasoning)
    if choice.tool_calls:
        message["content"] = choice.text or None
        if own(request).has_functions:
            message["function_call"] = _function(choice.tool_calls[0])
        else:
            message["tool_calls"] = [
                {
                    **call.extra,
                    "id": call.id,
                    "type": "function",
                    "function": {**_within(call.extra), **_function(call)},
                }
                for call in choice.tool_calls
            ]
    return message


def _function(call: ToolCall) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def _function_delta(event: ToolCallDelta) -> dict[str, str]:
    begins = event.id or event.name
    return {"name": event.name, "arguments": event.arguments} if begins else {"arguments": event.arguments}


def _tool_call_delta(event: ToolCallDelta) -> dict[str, Any]:
    if event.id or event.name:
        head = {"index": event.index, "id": event.id, "type": "function", "function": _function_delta(event)}
    else:
        head = {"index": event.index, "function": _function_delta(event)}
    if not event.extra:
        return head
    return {**event.extra, **head, "function": {**_within(event.extra), **_function_delta(event)}}


def _within(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the further fields within a call's function."""
    inside = extra.get("function")
    return dict(inside) if isinstance(inside, dict) else {}
