"""Legacy completions in the OpenAPI document."""

from typing import Any

from gpt_oss_proxy.apis.base import Description
from gpt_oss_proxy.apis.document import reference, request_schemas
from gpt_oss_proxy.apis.openai.completions.parse import REQUEST
from gpt_oss_proxy.apis.openai.operation import (
    ABOUT,
    FIELDS,
    STRING,
    USAGE,
    USAGE_IF_ASKED,
    choices,
    object_of,
    operation,
    stamped,
)

_FIELDS = {
    **FIELDS,
    "prompt": "Text, or several texts, each of which gets `n` choices, 64 in all. Token ids are not taken.",
    "echo": "Each text begins with its prompt.",
    "suffix": "Refused, unless it is empty.",
    "best_of": "Anything but 1 and `n` is refused.",
    "logprobs": "Refused.",
}


def describe(path: str) -> Description:
    """Return POST /completions and its schemas."""
    request = request_schemas("CompletionRequest", *REQUEST)
    for field, text in _FIELDS.items():
        request["CompletionRequest"]["properties"][field]["description"] = text
    return Description({path: {"post": _POST}}, request | _SCHEMAS)


_POST = operation(
    "createCompletion",
    "Answer one or several prompts with text, at once or as a stream.",
    f"Each prompt is a chat of one user message. {ABOUT}",
    request="CompletionRequest",
    whole="Completion",
    chunk="CompletionChunk",
    example={"prompt": "Hello!"},
)
_REASONS = ["stop", "length", "content_filter"]
_SCHEMAS: dict[str, Any] = {
    "Completion": object_of(
        {
            **stamped("text_completion", "cmpl-"),
            "choices": choices({"text": STRING}, [*_REASONS], minItems=1),
            "usage": reference("CompletionUsage"),
        }
    ),
    "CompletionChunk": object_of(
        {
            **stamped("text_completion", "cmpl-"),
            "choices": choices({"text": STRING}, [*_REASONS, None], maxItems=1),
            "usage": USAGE_IF_ASKED,
        },
        "usage",
    ),
    "CompletionUsage": USAGE,
}
