"""A real llama.cpp server, the demo's, behind OPENAI_BASE_URL."""

import json
from typing import Any

import pytest
import requests

from tests.live.conftest import PYTHON, Gateway, Start
from tests.live.talk import SECONDS

HELLO = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "country": {"enum": ["France", "Spain"]}},
    "required": ["city", "country"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(start: Start) -> str:
    """The root of its API."""
    child = start("llama.cpp", PYTHON, "-m", "gpt_oss_proxy.demo.model", "--port", "0")
    return f"http://127.0.0.1:{child.ready_port()}/v1"


@pytest.fixture(scope="module")
def model(server: str) -> str:
    return str(requests.get(f"{server}/models", timeout=SECONDS).json()["data"][0]["id"])


@pytest.fixture(scope="module")
def base(server: str, gateway: Gateway) -> str:
    return gateway(OPENAI_BASE_URL=server)


def asked(base: str, model: str, **fields: Any) -> requests.Response:
    body = {"model": model, "messages": HELLO, "max_tokens": 40, "temperature": 0, **fields}
    answer = requests.post(f"{base}/chat/completions", json=body, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    return answer


def chunks(answer: requests.Response) -> list[dict[str, Any]]:
    *events, done, end = answer.text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_its_model_is_listed_with_the_length_of_its_context(base: str, model: str) -> None:
    found = {one["id"]: one for one in requests.get(f"{base}/v1/models", timeout=SECONDS).json()["data"]}
    assert found[model]["context_length"] > 0


def test_an_answer_has_its_text_its_usage_and_its_timings(base: str, server: str, model: str) -> None:
    direct, ours = (asked(root, model).json() for root in (server, f"{base}/v1"))
    message = ours["choices"][0]["message"]
    assert message["content"] == direct["choices"][0]["message"]["content"]
    assert ours["choices"][0]["finish_reason"] == direct["choices"][0]["finish_reason"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert ours["usage"][name] == direct["usage"][name]
    assert ours["timings"].keys() == direct["timings"].keys()
    assert ours["timings"]["predicted_n"] == direct["timings"]["predicted_n"]
    assert ours["system_fingerprint"] == direct["system_fingerprint"]


def test_a_stream_says_the_same_and_has_the_timings_at_its_end(base: str, model: str) -> None:
    whole = asked(f"{base}/v1", model).json()
    streamed = chunks(asked(f"{base}/v1", model, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice["delta"].get("content") or "" for chunk in streamed for choice in chunk["choices"])
    assert text == whole["choices"][0]["message"]["content"]
    assert streamed[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    ended = next(chunk for chunk in streamed if chunk["choices"] and chunk["choices"][0]["finish_reason"])
    assert ended["timings"]["predicted_n"] == whole["timings"]["predicted_n"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_server_itself_keeps_its_model_to_a_schema(base: str, model: str, stream: bool) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    answer = asked(f"{base}/v1", model, response_format=wanted, stream=stream, max_tokens=200)
    if stream:
        text = "".join(c["delta"].get("content") or "" for chunk in chunks(answer) for c in chunk["choices"])
    else:
        text = answer.json()["choices"][0]["message"]["content"]
    found = json.loads(text)
    assert found.keys() == {"city", "country"}
    assert found["country"] in ("France", "Spain")


def test_a_prompt_that_is_too_long_is_told_by_the_code_that_agents_know(base: str, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "word " * 20_000}]}
    answer = requests.post(f"{base}/v1/chat/completions", json=body, timeout=SECONDS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
