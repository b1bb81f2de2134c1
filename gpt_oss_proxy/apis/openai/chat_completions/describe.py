"""Chat completions in the OpenAPI document."""

from typing import Any, get_args

from gpt_oss_proxy.apis.base import Description
from gpt_oss_proxy.apis.document import reference, request_schemas
from gpt_oss_proxy.apis.openai.chat_completions.parse import PART_TYPES, REQUEST
from gpt_oss_proxy.apis.openai.operation import (
    ABOUT,
    FIELDS,
    INDEX,
    NULL,
    STRING,
    USAGE,
    USAGE_IF_ASKED,
    choices,
    object_of,
    operation,
    stamped,
)
from gpt_oss_proxy.chat.events import FinishReason

_FIELDS = {
    **FIELDS,
    "messages": (
        "A message needs `content`, unless an assistant or a function speaks; a tool's needs `tool_call_id`. "
        "An author's `name` has 1 to 64 characters, no spaces and none of `<>|/\\`."
    ),
    "functions": "The older spelling of `tools`; the answer is then a `function_call`.",
    "function_call": "The older spelling of `tool_choice`.",
    "logprobs": "true is refused.",
    "top_logprobs": "More than 0 is refused.",
    "audio": "Refused.",
    "modalities": 'Anything but `["text"]` is refused.',
}


def describe(path: str) -> Description:
    """Return POST /chat/completions and its schemas."""
    request = request_schemas("ChatCompletionRequest", *REQUEST)
    for field, text in _FIELDS.items():
        request["ChatCompletionRequest"]["properties"][field]["description"] = text
    _add_unknown_parts(request["ChatCompletionRequestMessage"]["properties"]["content"])
    return Description({path: {"post": _POST}}, request | _SCHEMAS)


def _add_unknown_parts(content: dict[str, Any]) -> None:
    """Describe parts of other types beside those that the request's type knows: they are passed on unchecked."""
    (parts,) = (form["items"] for form in content["anyOf"] if form.get("type") == "array")
    del parts["discriminator"]
    other = {"type": "object", "properties": {"type": {**STRING, "not": {"enum": [*PART_TYPES]}}}, "required": ["type"]}
    parts["anyOf"].append(other)


_POST = operation(
    "createChatCompletion",
    "Answer a conversation, at once or as a stream.",
    f"The whole conversation reaches the model. {ABOUT}",
    request="ChatCompletionRequest",
    whole="ChatCompletion",
    chunk="ChatCompletionChunk",
    example={"messages": [{"role": "user", "content": "Hello!"}]},
)
_REASONING = {
    "reasoning": {"type": "string", "description": "The model's reasoning, where it tells, and if it is wanted here."},
    "reasoning_content": {"type": "string", "description": "The same, for clients that look for it here."},
}
_FINISH_REASONS = [*get_args(FinishReason), "function_call"]
_FUNCTION = object_of({"name": STRING, "arguments": STRING})
_FUNCTION_DELTA = object_of({"name": STRING, "arguments": STRING}, "name")
_ROLE = {"const": "assistant"}
_CALL = {"id": STRING, "type": {"const": "function"}}
_MESSAGE = object_of(
    {
        "role": _ROLE,
        "content": {"type": ["string", "null"]},
        "refusal": NULL,
        "annotations": {"type": "array", "maxItems": 0},
        **_REASONING,
        "tool_calls": {"type": "array", "minItems": 1, "items": object_of({**_CALL, "function": _FUNCTION})},
        "function_call": _FUNCTION,
    },
    *(*_REASONING, "tool_calls", "function_call"),
)
_DELTA = object_of(
    {
        "role": _ROLE,
        "content": STRING,
        **_REASONING,
        "tool_calls": {
            "type": "array",
            "minItems": 1,
            "items": object_of({"index": INDEX, **_CALL, "function": _FUNCTION_DELTA}, *_CALL),
        },
        "function_call": _FUNCTION_DELTA,
    },
    *("role", "content", *_REASONING, "tool_calls", "function_call"),
)
_SCHEMAS: dict[str, Any] = {
    "ChatCompletion": object_of(
        {
            **stamped("chat.completion", "chatcmpl-"),
            "choices": choices({"message": _MESSAGE}, _FINISH_REASONS, minItems=1),
            "usage": reference("CompletionUsage"),
        }
    ),
    "ChatCompletionChunk": object_of(
        {
            **stamped("chat.completion.chunk", "chatcmpl-"),
            "choices": choices({"delta": _DELTA}, [*_FINISH_REASONS, None], maxItems=1),
            "usage": USAGE_IF_ASKED,
        },
        "usage",
    ),
    "CompletionUsage": USAGE,
}
