"""JSON → ChatRequest: each prompt is one user message, exactly as it was typed.

Source: OpenAI's API reference, POST /v1/completions.
"""

from typing import Annotated, Any

import msgspec

from gpt_oss_proxy.apis.base import Incoming
from gpt_oss_proxy.apis.json_body import convert, parse_object
from gpt_oss_proxy.apis.openai.api import Own
from gpt_oss_proxy.apis.openai.fields import Asked, Options, Positive, chat_request, options_of
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.errors import InvalidRequest

_MOST_CHOICES = 64
# What a text completion has no place for; an upstream would take it for what it is in a chat.
_FIELDS_OF_CHATS = (
    *("messages", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
    *("top_logprobs", "modalities", "audio"),
)


class _Body(Asked, kw_only=True):
    prompt: str | Annotated[list[str], msgspec.Meta(min_length=1, max_length=_MOST_CHOICES)]
    echo: bool | None = None
    suffix: str | None = None
    best_of: Positive | None = None
    logprobs: int | None = None


REQUEST = (_Body, Options)  # the types of all known fields, for the OpenAPI document


def parse(incoming: Incoming, *, default_model: str, reasoning: ReasoningFormat) -> ChatRequest:
    """Return what the body asks for. Raises InvalidRequest with `param` set to the path of the fault."""
    value = parse_object(incoming.body)
    _refuse_token_ids(value.get("prompt"))
    asked = convert(value, _Body)
    convert(value, Options)
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    options = options_of(value, asked)
    _refuse_what_cannot_be_given(asked, len(prompts), options)
    first, *further = ((Message("user", (Text(prompt),)),) for prompt in prompts)
    options = {name: item for name, item in options.items() if name not in _FIELDS_OF_CHATS}
    own = Own(reasoning, tuple(options), has_echo=bool(asked.echo))
    return chat_request(
        asked, first, options, incoming, own, default_model=default_model, further_prompts=tuple(further)
    )


def _refuse_token_ids(prompt: Any) -> None:
    if isinstance(prompt, list) and prompt and all(type(item) in (int, list) for item in prompt):
        raise InvalidRequest(
            "prompt: token ids are not taken, for each model has its own. Send text.",
            code="invalid_type",
            param="prompt",
        )


def _refuse_what_cannot_be_given(asked: _Body, prompts: int, options: dict[str, Any]) -> None:
    n = asked.n or 1
    if n * prompts > _MOST_CHOICES:
        raise InvalidRequest(
            f"prompt: {prompts} prompts with n = {n} are more than {_MOST_CHOICES} choices. Ask several times.",
            code="invalid_value",
            param="prompt",
        )
    refused = {
        "suffix": bool(asked.suffix),
        "best_of": asked.best_of not in (None, 1, n),
        "logprobs": asked.logprobs is not None,
        **{name: bool(options.get(name)) for name in _FIELDS_OF_CHATS},
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise InvalidRequest(
                f"{name} is not supported here. Leave the field out, or see /chat/completions.",
                code="unsupported_parameter",
                param=name,
            )
