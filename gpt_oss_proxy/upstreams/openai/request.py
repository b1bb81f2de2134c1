"""A neutral request → the body of a chat completion. A request goes through with all its fields."""

from collections.abc import Mapping
from typing import Any

from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Part, Text

Wire = dict[str, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def build_body(request: ChatRequest) -> Wire:
    """Return the JSON object of the request: what the client sent, as a stream that reports usage."""
    further = request.options.get("stream_options") or {}
    body: Wire = {
        **request.options,
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {**further, "include_usage": True},
    }
    if request.reasoning_effort:
        body["reasoning_effort"] = request.reasoning_effort
    return body


def _message(message: Message) -> Wire:
    wire: Wire = {"role": message.role, **_extra(message)}
    if len(message.parts) == 1 and isinstance(message.parts[0], Text) and not message.parts[0].extra:
        wire["content"] = message.parts[0].text
    elif message.parts:
        wire["content"] = [_part(part) for part in message.parts]
    else:
        wire["content"] = None if message.tool_calls else ""
    if message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                **call.extra,
                "function": {**call.extra.get("function", {}), "name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _extra(message: Message) -> Mapping[str, Any]:
    """Return the client's further fields; an answer's empty ones, which we put there, do not go back to a server."""
    if message.role != "assistant":
        return message.extra
    return {name: value for name, value in message.extra.items() if value not in _EMPTY}


def _part(part: Part) -> Wire:
    match part:
        case Text():
            return {"type": "text", "text": part.text, **part.extra}
        case Image():
            image_url = {"url": part.url, **({"detail": part.detail} if part.detail else {})}
            return {"type": "image_url", "image_url": image_url, **part.extra}
        case _:
            return {"type": part.kind, **part.fields}
