"""Completion and events → OpenAI's chat.completion and chat.completion.chunk.

Of a chunk only its delta changes within a stream, so what stands before and after it is rendered once.
"""

from typing import Any

import msgspec

from gpt_oss_proxy import sse
from gpt_oss_proxy.apis.base import Stamp, render_error
from gpt_oss_proxy.chat.collect import Completion
from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError

_json = msgspec.json.encode


def render(completion: Completion, stamp: Stamp) -> bytes:
    """Return the body of a chat.completion."""
    message: dict[str, Any] = {"role": "assistant", "content": completion.text, "refusal": None, "annotations": []}
    if completion.reasoning:
        # Some clients read the one name, some the other.
        message["reasoning"] = message["reasoning_content"] = completion.reasoning
    if completion.tool_calls:
        message["content"] = completion.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in completion.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": completion.finish_reason}
    return _json(
        {
            "id": stamp.id,
            "object": "chat.completion",
            "created": stamp.created,
            "model": stamp.model,
            "choices": [choice],
            "usage": _usage(completion.usage),
        }
    )


def stream(stamp: Stamp, request: ChatRequest) -> "ChunkRenderer":
    """Return a renderer of chunks."""
    return ChunkRenderer(stamp, include_usage=request.include_usage)


class ChunkRenderer:
    """Lists of events → chunks: role first, deltas as they come, one finish, usage if asked for, [DONE]."""

    def __init__(self, stamp: Stamp, *, include_usage: bool) -> None:
        head = _json(
            {"id": stamp.id, "object": "chat.completion.chunk", "created": stamp.created, "model": stamp.model}
        )
        self._head = b"data: " + head[:-1] + b',"choices":['
        usage = b',"usage":null' if include_usage else b""
        self._delta_head = self._head + b'{"index":0,"delta":'
        self._tail = b"]" + usage + b"}\n\n"
        self._delta_tail = b',"logprobs":null,"finish_reason":null}' + self._tail
        self._include_usage = include_usage
        self._begun = False
        self._usage: Usage | None = None

    def render(self, events: list[Event]) -> bytes:
        """Return the chunks that tell these events, or a chunk that tells nothing, to keep the connection alive."""
        out: list[bytes] = []
        if not self._begun:
            self._begun = True
            out.append(self._chunk(b'{"role":"assistant","content":""}'))
        elif not events:
            out.append(self._chunk(b"{}"))
        run: list[str] = []  # text of the same kind that came together goes out together
        for position, event in enumerate(events):
            match event:
                case TextDelta() | ReasoningDelta():
                    run.append(event.text)
                    if position + 1 == len(events) or type(events[position + 1]) is not type(event):
                        out.append(self._text(type(event), "".join(run)))
                        run.clear()
                case ToolCallDelta():
                    out.append(self._chunk(_json({"tool_calls": [_tool_call_delta(event)]})))
                case Usage():
                    self._usage = event
                case Finish():
                    out.append(self._finish(event))
                case _:
                    pass  # Started is told in a header; text that was streamed cannot be taken back
        return b"".join(out)

    def fail(self, error: GatewayError) -> bytes:
        """Return an error event and [DONE]; there is no finish_reason, for there was no finish."""
        return sse.encode(render_error(error)) + sse.DONE

    def _chunk(self, delta: bytes) -> bytes:
        return self._delta_head + delta + self._delta_tail

    def _text(self, kind: type[TextDelta | ReasoningDelta], text: str) -> bytes:
        encoded = _json(text)
        if kind is TextDelta:
            return self._chunk(b'{"content":' + encoded + b"}")
        return self._chunk(b'{"reasoning":' + encoded + b',"reasoning_content":' + encoded + b"}")

    def _finish(self, event: Finish) -> bytes:
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": event.reason}
        chunks = self._head + _json(choice) + self._tail
        if self._include_usage:
            chunks += self._head + b'],"usage":' + _json(_usage(self._usage or Usage(0, 0))) + b"}\n\n"
        return chunks + sse.DONE


def _tool_call_delta(event: ToolCallDelta) -> dict[str, Any]:
    if event.id or event.name:
        function = {"name": event.name, "arguments": event.arguments}
        return {"index": event.index, "id": event.id, "type": "function", "function": function}
    return {"index": event.index, "function": {"arguments": event.arguments}}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
