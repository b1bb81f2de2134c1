"""The models of a server are read in every known form of a list."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.errors import GatewayError, RateLimited, UpstreamFailed, UpstreamProtocolError
from gpt_oss_proxy.upstreams.base import Model
from gpt_oss_proxy.upstreams.openai.models import read_models


def read(value: Any) -> tuple[Model, ...]:
    return read_models(value if isinstance(value, bytes) else json.dumps(value).encode())


def model(model_id: str, owner: str = "openai", created: int = 0, length: int | None = None) -> Model:
    return Model(model_id, owner, created, length)


@pytest.mark.parametrize(
    ("body", "models"),
    [
        ({"object": "list", "data": [{"id": "a", "owned_by": "me", "created": 7}, {"id": "b"}]},
         [model("a", "me", 7), model("b")]),
        ([{"id": "a"}, {"id": "b"}], [model("a"), model("b")]),  # Together
        ({"models": [{"name": "llama3:latest", "model": "llama3:latest"}]}, [model("llama3:latest")]),  # Ollama
        ({"models": [{"name": "x"}], "data": [{"id": "a"}]}, [model("a")]),  # llama.cpp tells both
        ({"models": [{"name": "models/gemini-2.0", "inputTokenLimit": 9}]}, [model("gemini-2.0", length=9)]),  # Google
        ({"data": [{"id": "models/gemini-2.0"}]}, [model("gemini-2.0")]),
        (["a", "b"], [model("a"), model("b")]),
        ({"data": ["a"]}, [model("a")]),
        ({"data": {"a": {"owned_by": "me"}, "b": None}}, [model("a", "me"), model("b")]),
        ([], []),
        ({"data": []}, []),
        ({"data": [], "message": "ok"}, []),
    ],
)  # fmt: skip
def test_a_list_of_models_is_read_in_every_form(body: Any, models: list[Model]) -> None:
    assert read(body) == tuple(models)


@pytest.mark.parametrize(
    ("about", "length"),
    [
        ({"max_model_len": 8192}, 8192),  # vLLM
        ({"meta": {"n_ctx": 4096, "n_ctx_train": 131072}}, 4096),  # llama.cpp
        ({"max_context_length": 32768, "loaded_context_length": 4096}, 32768),  # LM Studio, Mistral
        ({"context_window": 131072}, 131072),  # Groq
        ({"context_length": 7, "meta": {"n_ctx": 8}}, 7),  # OpenRouter
        ({"max_model_len": None, "context_length": 7}, 7),
        ({"max_model_len": 0}, None),
        ({"max_model_len": "8192"}, None),
        ({"max_model_len": True}, None),
        ({"meta": 7}, None),
        ({"meta": None}, None),
        ({}, None),
    ],
)
def test_the_length_of_a_context_is_read_where_servers_put_it(about: dict[str, Any], length: int | None) -> None:
    assert read({"data": [{"id": "a", **about}]}) == (model("a", length=length),)


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (b"{}", []),
        (b'{"data":null}', []),
        (b'{"data":null,"models":["a"]}', [model("a")]),
        (b'{"data":[7,{},{"id":7},{"id":null},{"id":""},{"id":"models/"},{"id":"a"}]}', [model("a")]),
        (b'{"data":[{"id":7,"name":"a"}]}', [model("a")]),
        (b'{"data":[{"id":"a\\ud83d","owned_by":"\\ud83d","created":1' + b"0" * 30 + b"}]}",
         [model("a\ufffd", "\ufffd")]),
        (b'{"data":[{"id":"a","created":"now"}]}', [model("a")]),
        (b'{"data":[{"id":"a","created":-1.5}]}', [model("a")]),
        (b'{"data":[{"id":"a","owned_by":7}]}', [model("a")]),
    ],
)  # fmt: skip
def test_odd_lists_are_read_as_far_as_they_make_sense(body: bytes, models: list[Model]) -> None:
    assert read(body) == tuple(models)


@pytest.mark.parametrize("body", [b"", b"<html>", b"7", b'{"data":7}', b'"a"', b"[" * 100_000])
def test_a_list_of_models_that_is_none_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        read(body)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"message": "boom"}}, UpstreamFailed),
        ({"error": "slow", "status": 429}, RateLimited),
        ({"error": "boom", "data": []}, UpstreamFailed),
        ({"detail": "boom"}, UpstreamFailed),
        ({"object": "error", "message": "slow", "code": 429}, RateLimited),
    ],
)
def test_a_failure_in_place_of_a_list_is_that_failure(body: Any, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as raised:
        read(body)
    assert type(raised.value) is error
