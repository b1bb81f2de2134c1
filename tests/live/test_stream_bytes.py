"""A streamed answer, byte by byte, its arrival times, and the headers of every answer."""

import re
import time

import pytest
import requests

from tests.live.conftest import Gateway
from tests.live.talk import SECONDS, Upstream, chat, post, stream, user
from tests.live.wire import Silent

MODELS = pytest.mark.parametrize("model", ["gpt-oss-120b", "gpt-4o"])


@pytest.mark.parametrize("usage", [None, False, True])
@MODELS
def test_a_stream_has_role_text_one_finish_usage_if_asked_for_and_done(
    base: str, model: str, usage: bool | None
) -> None:
    options = {} if usage is None else {"stream_options": {"include_usage": usage}}
    began = int(time.time())
    answer = stream(base, model, "::echo think=1:: Hello, wide world\u2028!", **options)
    chunks = answer.chunks()
    assert not answer.broken
    assert {tuple(chunk[key] for key in ("id", "object", "created", "model")) for chunk in chunks} == {
        (chunks[0]["id"], "chat.completion.chunk", chunks[0]["created"], model)
    }
    assert re.fullmatch(r"chatcmpl-\w+", chunks[0]["id"])
    assert began <= chunks[0]["created"] <= time.time()
    assert not any("error" in chunk for chunk in chunks)
    assert b"\r" not in answer.body
    if usage:
        *chunks, last = chunks
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] > 0
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert not any("usage" in chunk for chunk in chunks)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert deltas[-1] == {}
    assert all(delta and "role" not in delta for delta in deltas[1:-1])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert answer.text() == "Hello, wide world\u2028!"


def test_a_failed_stream_has_one_error_event_and_done_and_no_finish(base: str) -> None:
    answer = stream(base, "gpt-4o", "::error after=2 message=It broke.::", stream_options={"include_usage": True})
    *_, last = answer.chunks()
    assert not answer.broken
    assert list(last) == ["error"]
    assert list(last["error"]) == ["message", "type", "param", "code"]
    assert "It broke." in last["error"]["message"]
    assert answer.body.count(b'"error"') == 1
    assert not re.search(rb'"finish_reason":"', answer.body)
    assert b'"usage":{' not in answer.body


@MODELS
def test_text_is_not_held_back(base: str, model: str) -> None:
    gap = 0.2
    answer = stream(base, model, f"::echo words=5 gap={int(gap * 1000)}::")
    # Four gaps lie between the first word and the last; half of them are left to a slow machine.
    assert answer.first_arrival("w4") - answer.first_arrival("w0") > 2 * gap
    assert len(answer.pieces) >= 4
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"


@MODELS
def test_empty_chunks_keep_the_stream_alive_while_the_upstream_is_silent(gateway: Gateway, model: str) -> None:
    base = gateway(KEEPALIVE_SECONDS=0.2, REQUEST_TIMEOUT_SECONDS=1.3)
    answer = stream(base, model, "::stall after=2::")
    deltas = answer.deltas()
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert answer.text().strip() == "w0 w1"
    assert 3 <= deltas.count({}) <= 6
    assert [error["code"] for error in answer.errors()] == ["upstream_idle_timeout"]


@MODELS
def test_keep_alive_begins_before_the_upstream_has_answered_at_all(
    gateway: Gateway, silent: Silent, model: str
) -> None:
    base = gateway(
        BASE_URL=silent.address,
        VERCEL_MINIMAL_API_URL=silent.address,
        KEEPALIVE_SECONDS=0.2,
        REQUEST_TIMEOUT_SECONDS=1.3,
    )
    answer = stream(base, model, "hi")
    assert answer.status == 200
    role, *rest = answer.deltas()
    assert role == {"role": "assistant", "content": ""}
    assert rest == [{}] * len(rest)
    assert 3 <= len(rest) <= 6
    assert 0.1 < answer.first_arrival("assistant") < 1.2
    assert [error["code"] for error in answer.errors()] == ["upstream_first_event_timeout"]


def test_an_answer_that_is_not_streamed_waits_in_silence(gateway: Gateway) -> None:
    base = gateway(KEEPALIVE_SECONDS=0.2, REQUEST_TIMEOUT_SECONDS=1.3)
    response = chat(base, "gpt-4o", "::echo gap=300:: one two three")
    assert response.content.startswith(b'{"id":')


# Headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/gpt-4o"),
        ("GET", "/v1/nothing"),
        ("DELETE", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("OPTIONS", "/v1/chat/completions"),
    ],
)
def test_every_answer_has_an_id_and_its_time(base: str, method: str, path: str) -> None:
    response = requests.request(method, f"{base}{path}", timeout=SECONDS)
    assert re.fullmatch(r"req_\w{32}", response.headers["x-request-id"])
    assert response.headers["openai-processing-ms"].isdigit()
    assert response.status_code < 500
    assert "html" not in response.headers["content-type"]


@pytest.mark.parametrize(
    ("given", "kept"), [("mine-1/2:3", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("é", False)]
)
def test_the_clients_own_request_id_is_kept_if_it_is_fit(base: str, given: str, kept: bool) -> None:
    headers = {"x-request-id": given.encode("utf-8")}
    for response in (
        requests.get(f"{base}/v1/models", headers=headers, timeout=SECONDS),
        stream(base, "gpt-4o", "hi", headers=headers),
    ):
        assert (response.headers["x-request-id"] == given) == kept


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_has_no_effect_is_named_in_a_header(base: str, streamed: bool) -> None:
    body = {
        "model": "gpt-oss-120b",
        "messages": [{**user("hi")[0], "name": "me"}],
        "stream": streamed,
        "temperature": 0.5,
        "seed": 7,
        "user": None,
        "made_up": {"x": 1},
    }
    response = post(base, body)
    assert response.status_code == 200
    assert response.headers["x-ignored-params"] == "temperature, seed, made_up, messages.name"
    assert "x-ignored-params" not in chat(base, "gpt-oss-120b", "hi", n=1, tools=[]).headers


def test_everything_under_v1_answers_without_it_too(base: str, chatkit: Upstream) -> None:
    assert requests.get(f"{base}/models", timeout=SECONDS).json()["data"][0]["id"] == "gpt-oss-20b"
    assert requests.get(f"{base}/models/gpt-4o", timeout=SECONDS).json()["id"] == "gpt-4o"
    response = requests.post(f"{base}/chat/completions", json={"messages": user("hi")}, timeout=SECONDS)
    assert response.json()["choices"][0]["message"]["content"] == "hi"
    assert response.json()["model"] == "gpt-oss-120b"


def test_no_cookie_of_an_upstream_reaches_another_request(base: str, chatkit: Upstream) -> None:
    for _ in range(2):
        response = chat(base, "gpt-oss-120b", "hi")
        assert "set-cookie" not in response.headers
        assert "cookie" not in chatkit.last()["headers"]
