"""A chat completions request → ChatRequest. Every field is checked for its type; null is as good as absent.

The older `functions` become tools here, so that no other part needs to know them.
"""

import re
from typing import Annotated, Any, Literal

import msgspec

from gpt_oss_proxy.apis.base import Incoming
from gpt_oss_proxy.apis.image_url import check_image_url
from gpt_oss_proxy.apis.json_body import convert, parse_object
from gpt_oss_proxy.apis.openai.api import Own
from gpt_oss_proxy.apis.openai.fields import Asked, Options, chat_request, options_of
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat
from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Part, PassthroughPart, Role, Text, ToolCall
from gpt_oss_proxy.errors import InvalidRequest


class _Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class _Text(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class _ImageUrl(msgspec.Struct):
    url: str
    detail: Literal["auto", "low", "high", "original"] | None = None


class _Image(msgspec.Struct, tag_field="type", tag="image_url"):
    image_url: _ImageUrl | str  # some clients send the bare URL


class _Audio(msgspec.Struct, tag_field="type", tag="input_audio"):
    input_audio: dict[str, Any]


class _File(msgspec.Struct, tag_field="type", tag="file"):
    file: dict[str, Any]


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str = ""


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[_Text | _Image | _Audio | _File | _Refusal], msgspec.Meta(min_length=1)] | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _Body(Asked, kw_only=True):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=10_000)]


class _OfferedFunction(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _ChosenFunction(msgspec.Struct):
    name: str


class _Options(Options, kw_only=True):
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[_OfferedFunction] | None = None
    function_call: Literal["none", "auto"] | _ChosenFunction | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None


REQUEST = (_Body, _Options)  # the types of all known fields, for the OpenAPI document


def parse(incoming: Incoming, *, default_model: str, reasoning: ReasoningFormat) -> ChatRequest:
    """Return what the body asks for. Raises InvalidRequest with `param` set to the path of the fault."""
    value = parse_object(incoming.body)
    asked = convert(_with_known_parts(value), _Body)
    convert(value, _Options)
    options = options_of(value, asked)
    if options:
        _refuse_what_cannot_be_given(options)
    messages = tuple(
        _message(message, raw, index)
        for index, (message, raw) in enumerate(zip(asked.messages, value["messages"], strict=True))
    )
    has_functions = _functions_to_tools(options) if options else False
    own = Own(reasoning, tuple(options), has_functions)
    return chat_request(asked, messages, options, incoming, own, default_model=default_model)


def _functions_to_tools(options: dict[str, Any]) -> bool:
    """Spell older functions as tools, and return whether there are any: then the answer must spell its call so, too."""
    functions, chosen = options.pop("functions", None), options.pop("function_call", None)
    if not functions and not chosen:
        return False
    _refuse_two_spellings("functions" if functions else "function_call", options)
    named = chosen["name"] if isinstance(chosen, dict) else None
    if named is not None and named not in [function["name"] for function in functions or ()]:
        raise InvalidRequest(
            "function_call.name: `functions` has none of that name.", code="invalid_value", param="function_call.name"
        )
    if not functions:
        return False
    options["tools"] = [{"type": "function", "function": function} for function in functions]
    options["parallel_tool_calls"] = False  # the older spelling has room for one call
    if chosen:
        options["tool_choice"] = chosen if named is None else {"type": "function", "function": {"name": named}}
    return True


def _refuse_two_spellings(older: str, options: dict[str, Any]) -> None:
    for newer in ("tools", "tool_choice"):
        if options.get(newer):
            raise InvalidRequest(
                f"{older} is the older spelling of what {newer} says. Send one of the two.",
                code="unsupported_parameter",
                param=older,
            )


def _refuse_what_cannot_be_given(options: dict[str, Any]) -> None:
    refused = {
        "logprobs": options.get("logprobs") is True,
        "top_logprobs": bool(options.get("top_logprobs")),
        "modalities": "modalities" in options and options["modalities"] != ["text"],
        "audio": "audio" in options,
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise InvalidRequest(
                f"{name} is not supported here. Leave the field out.", code="unsupported_parameter", param=name
            )


def _with_known_parts(value: dict[str, Any]) -> dict[str, Any]:
    """Return the body with a text in the place of each part of a type that is not known: it is not ours to check."""
    messages = value.get("messages")
    if not isinstance(messages, list) or not any(map(_has_unknown_part, messages)):
        return value
    return {**value, "messages": [_of_known_parts(turn) if _has_unknown_part(turn) else turn for turn in messages]}


def _has_unknown_part(message: Any) -> bool:
    content = message.get("content") if isinstance(message, dict) else None
    return isinstance(content, list) and any(map(_is_unknown, content))


def _of_known_parts(message: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "text", "text": ""}
    return {**message, "content": [text if _is_unknown(part) else part for part in message["content"]]}


def _is_unknown(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] not in PART_TYPES


def _message(message: _Message, raw: dict[str, Any], index: int) -> Message:
    if type(message.content) is str and raw.keys() == _PLAIN_FIELDS and message.role in _PLAIN_ROLES:
        return Message(message.role, (Text(message.content),))  # type: ignore[arg-type] # "function" is no plain one
    path = f"messages[{index}]"
    _check(message, path)
    calls = [
        ToolCall(call.id, call.function.name, call.function.arguments, _call_extra(given))
        for call, given in zip(message.tool_calls or (), raw.get("tool_calls") or (), strict=True)
    ]
    if message.function_call:  # the older spelling of a single call
        calls.append(ToolCall(message.function_call.name, message.function_call.name, message.function_call.arguments))
    is_function = message.role == "function"
    known = _FUNCTION_FIELDS if is_function else _MESSAGE_FIELDS
    return Message(
        role="tool" if is_function else _role(message),
        parts=_parts(message.content, raw.get("content"), f"{path}.content"),
        tool_calls=tuple(calls),
        tool_call_id=message.name if is_function else message.tool_call_id,
        extra=_extra(raw, known),
    )


def _check(message: _Message, path: str) -> None:
    """Check what depends on the role. Raises InvalidRequest."""
    if message.content is None and message.role not in ("assistant", "function"):
        raise InvalidRequest(
            f"{path}.content: a {message.role} message needs text.", code="invalid_type", param=f"{path}.content"
        )
    if message.role == "tool" and message.tool_call_id is None:
        raise InvalidRequest(
            f"{path}.tool_call_id: a tool message needs the id of the call that it answers.",
            code="missing_required_parameter",
            param=f"{path}.tool_call_id",
        )
    if message.name is not None and message.role in _PLAIN_ROLES and not _AUTHOR.fullmatch(message.name):
        raise InvalidRequest(
            f"{path}.name: an author's name has 1 to 64 characters, no spaces and none of < > | / \\.",
            code="invalid_value",
            param=f"{path}.name",
        )


def _extra(raw: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return what else the client wrote there, for an upstream that may know it."""
    return {name: item for name, item in raw.items() if name not in known and item is not None}


def _call_extra(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the further fields of a call, and those within its function under `function`."""
    inside = _extra(raw["function"], _FUNCTION_CALL_FIELDS)
    return _extra(raw, _CALL_FIELDS) | ({"function": inside} if inside else {})


# As OpenAI checks it. A tool's name is checked only where tools are emulated: many servers take dots and slashes.
_AUTHOR = re.compile(r"[^\s<|\\/>]{1,64}")
_PLAIN_FIELDS = frozenset({"role", "content"})
_PLAIN_ROLES = frozenset({"system", "developer", "user", "assistant"})
_MESSAGE_FIELDS = frozenset(_Message.__struct_fields__) - {"name"}
_FUNCTION_FIELDS = _MESSAGE_FIELDS | {"name"}
_FUNCTION_CALL_FIELDS = frozenset({"name", "arguments"})
_CALL_FIELDS = frozenset({"type", "function", "id", "index"})
PART_TYPES = ("text", "image_url", "input_audio", "file", "refusal")
_PART_FIELDS = frozenset({"type", "text", "refusal", "image_url"})


def _role(message: _Message) -> Role:
    return message.role  # type: ignore[return-value] # "function" has been mapped


def _parts(content: Any, raw: Any, path: str) -> tuple[Part, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    return tuple(
        _part(part, given, f"{path}[{index}]") for index, (part, given) in enumerate(zip(content, raw, strict=True))
    )


def _part(part: _Text | _Image | _Audio | _File | _Refusal, raw: dict[str, Any], path: str) -> Part:
    if _is_unknown(raw):
        return PassthroughPart(
            raw["type"], {name: item for name, item in raw.items() if name != "type"}, is_known=False
        )
    extra = _extra(raw, _PART_FIELDS)
    match part:
        case _Text():
            return Text(part.text, extra)
        case _Refusal():
            return Text(part.refusal, extra)
        case _Image():
            image = part.image_url
            if isinstance(image, str):
                check_image_url(image, param=f"{path}.image_url")
                return Image(image, None, extra)
            check_image_url(image.url, param=f"{path}.image_url.url")
            return Image(image.url, image.detail, extra)
        case _Audio():
            return PassthroughPart("input_audio", {"input_audio": part.input_audio})
        case _File():
            return PassthroughPart("file", {"file": part.file})
