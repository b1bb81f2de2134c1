"""The fields that chat completions and legacy completions share: their types, and their neutral values."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from gpt_oss_proxy.apis.base import Incoming
from gpt_oss_proxy.apis.openai.api import Own
from gpt_oss_proxy.apis.openai.formats import response_format, tool, tool_choice
from gpt_oss_proxy.chat.request import ChatRequest, Limits, Message, Sampling
from gpt_oss_proxy.config.settings import EFFORTS, REASONING_FIELDS, Effort
from gpt_oss_proxy.errors import InvalidRequest

T = TypeVar("T", bound=str)
Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
# OpenAI's limits; the schema that it publishes has them in words.
Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


class StreamOptions(msgspec.Struct):
    """What a stream holds besides the answer."""

    include_usage: bool | None = None


_STREAM_OPTIONS = frozenset(StreamOptions.__struct_fields__)


class Asked(msgspec.Struct, kw_only=True):
    """The fields that nearly all requests have."""

    model: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    reasoning_effort: Effort | None = None


class Options(msgspec.Struct, kw_only=True):
    """The types of further fields."""

    stop: str | Annotated[list[str], msgspec.Meta(max_length=4)] | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    response_format: dict[str, Any] | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: int | None = None
    logit_bias: dict[str, Annotated[float, msgspec.Meta(ge=-100, le=100)]] | None = None
    user: str | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    service_tier: str | None = None


# Those of them that have a neutral form; all others are passed through.
_TYPED = frozenset(
    {
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "stop", "max_tokens"),
        *("max_completion_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed"),
        "logit_bias",
    }
)


def options_of(value: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Return the body's further fields that are set, those of `asked` left out but for what is further in them."""
    options = {name: item for name, item in value.items() if item is not None and name not in asked.__struct_fields__}
    further = value.get("stream_options") or {}
    if further.keys() - _STREAM_OPTIONS:
        options["stream_options"] = {name: item for name, item in further.items() if name not in _STREAM_OPTIONS}
    return options


def chat_request(
    asked: Asked,
    messages: tuple[Message, ...],
    options: dict[str, Any],
    incoming: Incoming,
    own: Own,
    *,
    default_model: str,
    further_prompts: tuple[tuple[Message, ...], ...] = (),
) -> ChatRequest:
    """Return the request for an answer to these messages.

    The path's model goes before the body's, the body's effort before the header's, and the header's reasoning format
    before that of `own`. Raises InvalidRequest for a header.
    """
    stream = bool(asked.stream)
    effort: str | None = asked.reasoning_effort
    if not effort and (given := incoming.header("x-reasoning-effort")):
        effort = _one_of(given, "x-reasoning-effort", EFFORTS)
    if given := incoming.header("x-reasoning-format"):
        own = msgspec.structs.replace(own, reasoning=_one_of(given, "x-reasoning-format", REASONING_FIELDS))
    typed = typed_fields(options) if options else {}
    return ChatRequest(
        model=incoming.path.get("model") or asked.model or default_model,
        messages=messages,
        stream=stream,
        n=asked.n or 1,
        further_prompts=further_prompts,
        effort=effort,
        wants_usage=stream and bool(asked.stream_options and asked.stream_options.include_usage),
        own=own,
        **typed,
    )


def typed_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ChatRequest for options whose types are checked."""
    stop = options.get("stop") or ()
    return {
        "tools": tuple(map(tool, options.get("tools") or ())),
        "tool_choice": tool_choice(options.get("tool_choice")),
        "parallel_calls": options.get("parallel_tool_calls"),
        "response_format": response_format(options.get("response_format")),
        "stop": (stop,) if isinstance(stop, str) else tuple(filter(None, stop)),
        "limits": Limits(options.get("max_tokens"), options.get("max_completion_tokens")),
        "sampling": Sampling(
            options.get("temperature"),
            options.get("top_p"),
            options.get("presence_penalty"),
            options.get("frequency_penalty"),
            options.get("seed"),
            options.get("logit_bias"),
        ),
        "passthrough": {name: item for name, item in options.items() if name not in _TYPED},
    }


def _one_of(given: str, header: str, values: Sequence[T]) -> T:
    """Return the value that a header gives, however it is capitalised. Raises InvalidRequest."""
    given = given.lower()
    for value in values:
        if value == given:
            return value
    raise InvalidRequest(f"The header {header} must be one of {', '.join(values)}.", code="invalid_value", param=header)
