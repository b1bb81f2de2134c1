"""The fields that chat completions and legacy completions share: the types that check them, and what they ask for."""

from typing import Annotated, Any

import msgspec

from gpt_oss_proxy.chat.request import ChatRequest, Message
from gpt_oss_proxy.config.settings import Effort

Temperature = Annotated[float, msgspec.Meta(ge=0, le=2)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
# OpenAI's limits; the schema that it publishes tells them in words.
Metadata = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]],
    msgspec.Meta(max_length=16),
]


class StreamOptions(msgspec.Struct):
    """What a stream tells besides the answer."""

    include_usage: bool | None = None


_STREAM_OPTIONS = frozenset(StreamOptions.__struct_fields__)


class Asked(msgspec.Struct, kw_only=True):
    """The fields that a ChatRequest knows by name."""

    model: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=8)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    reasoning_effort: Effort | None = None


class Options(msgspec.Struct, kw_only=True):
    """The types of fields that pass through as they are."""

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
    *,
    default_model: str,
    further: tuple[tuple[Message, ...], ...] = (),
    spelling: frozenset[str] = frozenset(),
) -> ChatRequest:
    """Return the request for an answer to these messages, and to `further` ones."""
    stream = bool(asked.stream)
    return ChatRequest(
        model=asked.model or default_model,
        messages=messages,
        stream=stream,
        include_usage=stream and bool(asked.stream_options and asked.stream_options.include_usage),
        reasoning_effort=asked.reasoning_effort,
        n=asked.n or 1,
        further=further,
        options=options,
        spelling=spelling,
    )
