"""A neutral request → the body of a chat completion.

Source: OpenAI's API reference, POST /v1/chat/completions. Fields without a neutral form are passed on as the client
sent them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from gpt_oss_proxy.chat.request import (
    ChatRequest,
    Image,
    Message,
    Part,
    Passthrough,
    ResponseFormat,
    Text,
    Tool,
    ToolChoice,
)

Wire = dict[str, Any]
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def build_body(request: ChatRequest) -> Wire:
    """Return the JSON object of the request: what the client sent, as a stream that reports usage."""
    further = request.passthrough.get("stream_options") or {}
    body: Wire = {
        **dict(_fields(request)),
        **request.passthrough,
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {**further, "include_usage": True},
    }
    if request.effort:
        body["reasoning_effort"] = request.effort
    return body


def _fields(request: ChatRequest) -> Iterator[tuple[str, Any]]:
    """Yield the typed fields that are set, as the API spells them."""
    if request.tools:
        yield "tools", [_tool(tool) for tool in request.tools]
    if request.tool_choice:
        yield "tool_choice", _tool_choice(request.tool_choice)
    if request.response_format:
        yield "response_format", _response_format(request.response_format)
    if request.stop:
        yield "stop", request.stop  # TGI rejects a bare string
    sampling = request.sampling
    for name, value in (
        ("parallel_tool_calls", request.parallel_calls),
        ("max_tokens", request.limits.text),
        ("max_completion_tokens", request.limits.total),
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
        ("seed", sampling.seed),
        ("logit_bias", sampling.bias),
    ):
        if value is not None:
            yield name, value


def _tool(tool: Tool | Passthrough) -> Any:
    if isinstance(tool, Passthrough):
        return tool.value
    further = {"description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    function = {"name": tool.name, **{name: value for name, value in further.items() if value is not None}}
    return {"type": "function", **tool.extra, "function": {**_within(tool.extra), **function}}


def _tool_choice(choice: ToolChoice | Passthrough) -> Any:
    if isinstance(choice, Passthrough):
        return choice.value
    if choice.names is None:
        return choice.mode
    extra = choice.extra
    if choice.mode == "required" and len(choice.names) == 1 and "allowed_tools" not in extra:
        return {"type": "function", **extra, "function": {**_within(extra), "name": choice.names[0]}}
    named = [{"type": "function", "function": {"name": name}} for name in choice.names]
    allowed = {"mode": choice.mode, "tools": named, **_within(extra, "allowed_tools")}
    return {"type": "allowed_tools", **extra, "allowed_tools": allowed}


def _response_format(wanted: ResponseFormat | Passthrough) -> Any:
    if isinstance(wanted, Passthrough):
        return wanted.value
    if wanted.kind != "schema":
        return {"type": "json_object" if wanted.kind == "object" else "text", **wanted.extra}
    described = {"name": wanted.name, "strict": wanted.strict, "schema": wanted.schema}
    known = {name: value for name, value in described.items() if value is not None}
    return {"type": "json_schema", **wanted.extra, "json_schema": {**known, **_within(wanted.extra, "json_schema")}}


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
                "function": {**_within(call.extra), "name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _within(extra: Mapping[str, Any], name: str = "function") -> Mapping[str, Any]:
    """Return the further fields of an inner object, such as the function of a tool or call."""
    inside: Mapping[str, Any] = extra.get(name, {})
    return inside


def _extra(message: Message) -> Mapping[str, Any]:
    """Return the client's further fields, without the empty ones that our own answers add."""
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
