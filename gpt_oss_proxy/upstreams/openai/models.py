"""The models that a server lists, in all forms in use.

Sources: OpenAI's `GET /models`; Together returns a bare list, Ollama and Google put it under `models`. The context
length is read from the fields of vLLM, llama.cpp, LM Studio, Groq, Mistral, OpenRouter and Google.
"""

from collections.abc import Iterator
from typing import Any

from gpt_oss_proxy.errors import UpstreamProtocolError
from gpt_oss_proxy.upstreams.base import Model
from gpt_oss_proxy.upstreams.status_error import failure_in
from gpt_oss_proxy.upstreams.values import count, json_value, whole

_LENGTHS = (
    *("max_model_len", "context_length", "context_window", "max_context_length", "max_context_window", "n_ctx"),
    *("inputTokenLimit", "max_input_tokens", "max_sequence_length"),
)
_IDS = ("id", "name", "model", "model_name", "model_id")


def read_models(body: bytes) -> tuple[Model, ...]:
    """Return the models of a list. Raises UpstreamProtocolError if it is not a list of models."""
    value = json_value(body)
    if isinstance(value, dict) and isinstance(value.get("result"), dict | list):
        value = value["result"]
    items = value
    if isinstance(value, dict):
        items = next((value[name] for name in ("data", "models", "body") if value.get(name) is not None), None)
        if (value.get("error") or items is None) and (failure := failure_in(value)):
            raise failure
        items = [] if items is None else items
    if isinstance(items, dict):
        items = [{**(about if isinstance(about, dict) else {}), "id": name} for name, about in items.items()]
    if not isinstance(items, list):
        raise UpstreamProtocolError
    return tuple(_read(items))


def _read(items: list[Any]) -> Iterator[Model]:
    for item in items:
        about = {"id": item} if isinstance(item, str) else item
        if not isinstance(about, dict):
            continue
        names = (about[name].removeprefix("models/") for name in _IDS if isinstance(about.get(name), str))
        if model_id := next(filter(None, names), ""):
            owner = about.get("owned_by")
            yield Model(
                whole(model_id),
                whole(owner) if owner and isinstance(owner, str) else "openai",
                count(about, "created") or 0,
                _length(about),
            )


def _length(about: dict[str, Any]) -> int | None:
    """Return the context length in tokens, None if it is not reported."""
    meta = about.get("meta")
    for place in (about, meta if isinstance(meta, dict) else {}):
        for name in _LENGTHS:
            if length := count(place, name):
                return length
    return None
