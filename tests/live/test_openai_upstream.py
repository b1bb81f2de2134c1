"""The openai upstream: one gateway in front of another, whose models it discovers.

Between the two stands servers/other_names.py, because both know the same four models: the far ones are GPT-… here.
"""

import json
from urllib.parse import urlsplit

import pytest
import requests

from tests.live.children import wait_for
from tests.live.conftest import PYTHON, SERVERS, Gateway, Start
from tests.live.talk import AWKWARD, SECONDS, Upstream, chat, error_of, failed, post, stream, text_of
from tests.live.test_clients_that_leave import begin
from tests.live.test_conversations import CONVERSATION

MODELS = pytest.mark.parametrize("model", ["GPT-oss-120b", "GPT-4o"])
FAR = ["GPT-oss-20b", "GPT-oss-120b", "GPT-4o", "GPT-4o-mini"]


@pytest.fixture(scope="module")
def near(start: Start, gateway: Gateway, base: str) -> str:
    """The address of the second gateway; `base` is the first."""
    url = urlsplit(base)
    relay = start("relay with other names", PYTHON, str(SERVERS / "other_names.py"), url.hostname, str(url.port))
    return gateway(OPENAI_BASE_URL=f"http://127.0.0.1:{relay.ready_port()}/v1")


def test_the_far_models_are_discovered(near: str) -> None:
    models = requests.get(f"{near}/v1/models", timeout=SECONDS).json()["data"]
    assert [model["id"] for model in models] == ["gpt-oss-20b", "gpt-oss-120b", "gpt-4o", "gpt-4o-mini", *FAR]
    assert requests.get(f"{near}/v1/models/GPT-4o", timeout=SECONDS).json()["id"] == "GPT-4o"
    response = chat(near, "GPT-5", "hi")
    assert failed(response) == (404, "invalid_request_error", "model_not_found")
    assert "GPT-4o-mini" in response.json()["error"]["message"]


@MODELS
def test_text_is_exact_through_both(near: str, model: str) -> None:
    assert text_of(chat(near, model, AWKWARD)) == AWKWARD
    answer = stream(near, model, AWKWARD)
    assert answer.text() == AWKWARD
    assert answer.finishes() == ["stop"]
    assert {chunk["model"] for chunk in answer.chunks()} == {model}


@MODELS
def test_text_is_not_held_back_by_two_gateways(near: str, model: str) -> None:
    answer = stream(near, model, "::echo words=5 gap=300::")
    assert answer.first_arrival("w4") - answer.first_arrival("w0") > 0.6


@pytest.mark.parametrize(
    ("model", "directive", "reason"), [("GPT-oss-120b", "echo", "stop"), ("GPT-4o", "echo length=1", "length")]
)
def test_reasoning_usage_and_finish_reason_pass_both(
    near: str, base: str, model: str, directive: str, reason: str
) -> None:
    asked = f"::{directive} think=1:: Hello world"
    direct = chat(base, model.replace("GPT", "gpt"), asked).json()
    through = chat(near, model, asked).json()
    assert through["choices"] == direct["choices"]
    assert through["usage"] == direct["usage"]
    assert through["choices"][0]["message"]["reasoning"] == "The user wants an answer."
    assert through["choices"][0]["finish_reason"] == reason
    answer = stream(near, model, asked, stream_options={"include_usage": True})
    assert answer.chunks()[-1]["usage"] == direct["usage"]
    assert "".join(delta.get("reasoning_content", "") for delta in answer.deltas()) == "The user wants an answer."


def test_a_content_filter_passes_both(near: str) -> None:
    choice = chat(near, "GPT-oss-120b", "::removed:: x").json()["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert stream(near, "GPT-oss-120b", "::removed:: x").finishes() == ["content_filter"]


def test_the_conversation_arrives_whole_through_both(near: str) -> None:
    given = json.loads(text_of(post(near, {"model": "GPT-4o", "messages": CONVERSATION})))
    assert [message["role"] for message in given] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert given[1]["content"][0]["text"] == CONVERSATION[1]["content"]
    assert given[3]["content"][0]["text"] == "Second\nquestion? 🦊"


def test_fields_pass_the_near_gateway_and_the_far_one_judges_them(near: str) -> None:
    error = error_of(chat(near, "GPT-4o", "hi", response_format={"type": "xml"}))
    assert (error["status"], error["type"], error["code"]) == (400, "upstream_error", "upstream_rejected")
    assert "json_object or json_schema" in error["message"]
    assert text_of(chat(near, "GPT-4o", "one END two", stop="END")) == "one "
    response = chat(near, "GPT-4o", "hi", temperature=0.5)
    assert (text_of(response), "x-ignored-params" in response.headers) == ("hi", False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("::status code=429 retry_after=7::", (429, "rate_limit_error", "upstream_rate_limited")),
        ("::status code=503 retry_after=7::", (503, "overloaded_error", "upstream_unavailable")),
        ("::status code=500::", (502, "upstream_error", "upstream_error")),
        ("::status code=422::", (400, "upstream_error", "upstream_rejected")),
        ("::error after=0 message=The model is gone.::", (502, "upstream_error", "upstream_error")),
    ],
)
@MODELS
def test_errors_pass_both(near: str, model: str, text: str, expected: tuple[int, str, str]) -> None:
    for streamed in (False, True):
        response = chat(near, model, text, stream=streamed)
        assert failed(response) == expected
        assert response.headers.get("retry-after") == ("7" if "retry_after" in text else None)


@MODELS
def test_an_error_in_mid_stream_passes_both_with_its_message(near: str, model: str) -> None:
    answer = stream(near, model, "::error after=2 message=The model is gone.::")
    assert answer.text().strip() == "w0 w1"
    assert answer.finishes() == []
    (error,) = answer.errors()
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_error")
    assert "The model is gone." in error["message"]


@pytest.mark.parametrize("clean", ["", " clean=1"], ids=["broken", "clean end of the body"])
@MODELS
def test_a_cut_answer_is_a_failure_through_both(near: str, model: str, clean: str) -> None:
    answer = stream(near, model, f"::drop after=2{clean}::")
    assert answer.text().strip() == "w0 w1"
    assert answer.finishes() == []
    assert len(answer.errors()) == 1
    assert failed(chat(near, model, f"::drop after=2{clean}::"))[:2] == (502, "upstream_error")


@MODELS
def test_a_client_that_leaves_ends_the_work_behind_both(
    near: str, chatkit: Upstream, ai_sdk: Upstream, settled: None, model: str
) -> None:
    upstream = chatkit if "oss" in model else ai_sdk
    before = upstream.connections()["closed_early"]
    client = begin(near, model, "::stall after=2::", streamed=True)
    client.read_until(b"w1")
    client.close()
    wait_for("the upstream's end", lambda: upstream.connections()["closed_early"] > before, seconds=10)


def test_a_far_gateway_that_is_gone_takes_only_its_own_models_with_it(gateway: Gateway) -> None:
    base = gateway(OPENAI_BASE_URL="http://127.0.0.1:1/v1")
    models = requests.get(f"{base}/v1/models", timeout=SECONDS).json()["data"]
    assert [model["id"] for model in models] == ["gpt-oss-20b", "gpt-oss-120b", "gpt-4o", "gpt-4o-mini"]
    assert failed(chat(base, "GPT-4o", "hi")) == (502, "upstream_error", "upstream_unreachable")
    assert text_of(chat(base, "gpt-4o", "hi")) == "hi"
