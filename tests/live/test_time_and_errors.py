"""The time-outs, unreachable and unwilling upstreams, and what is refused: each with its status and code."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.live.children import free_port
from tests.live.conftest import Gateway
from tests.live.talk import SECONDS, chat, error_of, failed, post, stream, text_of, user
from tests.live.wire import Silent, full_backlog

MODELS = pytest.mark.parametrize("model", ["gpt-oss-120b", "gpt-4o"])
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


# Time


@pytest.fixture(scope="module")
def crowded() -> Iterator[str]:
    with full_backlog() as address:
        yield address


@STREAMED
@MODELS
def test_a_connection_that_is_not_accepted_is_a_connect_timeout(
    gateway: Gateway, crowded: str, model: str, streamed: bool
) -> None:
    base = gateway(BASE_URL=crowded, VERCEL_MINIMAL_API_URL=crowded, CONNECT_TIMEOUT_SECONDS=0.5)
    began = time.monotonic()
    response = chat(base, model, "hi", stream=streamed)
    assert failed(response) == (504, "timeout_error", "upstream_connect_timeout")
    assert 0.4 < time.monotonic() - began < 5


@STREAMED
@MODELS
def test_an_upstream_that_says_nothing_is_a_first_event_timeout(
    gateway: Gateway, silent: Silent, model: str, streamed: bool
) -> None:
    base = gateway(BASE_URL=silent.address, VERCEL_MINIMAL_API_URL=silent.address, REQUEST_TIMEOUT_SECONDS=0.5)
    began = time.monotonic()
    response = chat(base, model, "hi", stream=streamed)
    assert failed(response) == (504, "timeout_error", "upstream_first_event_timeout")
    assert 0.4 < time.monotonic() - began < 6


@MODELS
def test_an_upstream_that_falls_silent_is_an_idle_timeout(gateway: Gateway, model: str) -> None:
    base = gateway(REQUEST_TIMEOUT_SECONDS=1)
    assert failed(chat(base, model, "::stall after=2::")) == (504, "timeout_error", "upstream_idle_timeout")
    answer = stream(base, model, "::stall after=2::")
    assert (answer.status, answer.broken) == (200, False)
    assert answer.text().strip() == "w0 w1"
    assert answer.finishes() == []
    assert [error["code"] for error in answer.errors()] == ["upstream_idle_timeout"]


@MODELS
def test_an_upstream_that_goes_on_for_ever_is_a_total_timeout(gateway: Gateway, model: str) -> None:
    base = gateway(TOTAL_TIMEOUT_SECONDS=1)
    text = "::echo words=10000 gap=50::"
    began = time.monotonic()
    assert failed(chat(base, model, text)) == (504, "timeout_error", "total_timeout")
    assert 0.9 < time.monotonic() - began < 8
    answer = stream(base, model, text)
    assert answer.text().startswith("w0 w1")
    assert answer.finishes() == []
    assert [error["code"] for error in answer.errors()] == ["total_timeout"]


def test_a_slow_answer_with_events_is_no_silence(gateway: Gateway) -> None:
    base = gateway(REQUEST_TIMEOUT_SECONDS=1)
    assert text_of(chat(base, "gpt-oss-120b", "::echo gap=300:: one two three four five")) == "one two three four five"


# Upstreams


@STREAMED
@MODELS
def test_a_port_where_nobody_listens_is_a_502(gateway: Gateway, model: str, streamed: bool) -> None:
    nowhere = f"http://127.0.0.1:{NOWHERE}"
    base = gateway(BASE_URL=nowhere, VERCEL_MINIMAL_API_URL=nowhere)
    response = chat(base, model, "hi", stream=streamed)
    assert failed(response) == (502, "upstream_error", "upstream_unreachable")
    assert "127.0.0.1" not in response.text
    assert str(NOWHERE) not in response.text


NOWHERE = free_port()


@STREAMED
def test_the_sign_in_widget_is_an_error_of_the_upstream(base: str, streamed: bool) -> None:
    response = chat(base, "gpt-oss-120b", "::signin::", stream=streamed)
    assert failed(response) == (502, "upstream_error", "upstream_auth_required")
    assert response.headers["x-should-retry"] == "false"


def test_a_removed_answer_is_a_content_filter(base: str) -> None:
    choice = chat(base, "gpt-oss-120b", "::removed:: forbidden words").json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("content_filter", "")
    answer = stream(base, "gpt-oss-120b", "::removed message=A guardrail tripped.:: forbidden words")
    assert answer.finishes() == ["content_filter"]
    assert answer.errors() == []


def test_text_that_comes_only_at_the_end_and_in_two_messages_is_not_lost(base: str) -> None:
    assert text_of(chat(base, "gpt-oss-120b", "::onlydone:: all at once")) == "all at once"
    assert text_of(chat(base, "gpt-oss-120b", "::twomessages:: first | second")) == "first\n\nsecond"


def test_a_tool_that_the_server_runs_makes_one_answer(base: str) -> None:
    choice = chat(base, "gpt-4o", "::tool pre=1:: It is warm.").json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Let me look. It is warm.", "stop")
    assert "tool_calls" not in choice["message"]


@MODELS
@pytest.mark.parametrize(
    ("status", "options", "expected"),
    [
        (400, "message=The prompt is too long.", (400, "upstream_error", "context_length_exceeded")),
        (413, "", (400, "upstream_error", "upstream_rejected")),
        (401, "body=html", (502, "upstream_error", "upstream_auth_required")),
        (403, "body=empty", (502, "upstream_error", "upstream_auth_required")),
        (404, "body=html", (502, "upstream_error", "upstream_not_found")),
        (429, "body=empty", (429, "rate_limit_error", "upstream_rate_limited")),
        (500, "body=html", (502, "upstream_error", "upstream_error")),
        (302, "body=html", (502, "upstream_error", "upstream_error")),
        (200, "body=html", (502, "upstream_error", "upstream_protocol_error")),
        (503, "", (503, "overloaded_error", "upstream_unavailable")),
    ],
)
def test_an_upstreams_status_becomes_ours(
    base: str, model: str, status: int, options: str, expected: tuple[int, str, str]
) -> None:
    response = chat(base, model, f"::status code={status} {options}::", stream=True)
    assert failed(response) == expected
    assert "<" not in response.text
    if "message" in options:
        assert "The prompt is too long." in response.json()["error"]["message"]
    if status in (429, 503):
        assert int(response.headers["retry-after"]) > 0


# Requests


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", True),
        ("top_logprobs", 3),
        ("audio", {"voice": "ash"}),
        ("modalities", ["text", "audio"]),
    ],
)
@MODELS
def test_what_would_change_the_answers_shape_is_refused(base: str, model: str, name: str, value: Any) -> None:
    for streamed in (False, True):
        error = error_of(chat(base, model, "hi", stream=streamed, **{name: value}))
        assert (error["status"], error["code"], error["param"]) == (400, "unsupported_parameter", name)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b"<html>", "invalid_json", None),
        (b'{"a": NaN}', "invalid_json", None),
        (b'{"a": 1e999}', "invalid_json", None),
        (b'{"a": 1, "a": 2}', "invalid_json", None),
        (b'{"a": "\xff"}', "invalid_json", None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "invalid_json", None),
        ("{}".encode("utf-16"), "invalid_json", None),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "invalid_json", None),
        (b"[" * 100_000, "invalid_json", None),
        (b'{"seed": ' + b"9" * 5000 + b"}", "invalid_json", None),
        (b"{}", "missing_required_parameter", "messages"),
        (b'{"messages": []}', "invalid_type", "messages"),
        (b'{"messages": [{"content": "hi"}]}', "missing_required_parameter", "messages[0].role"),
        (b'{"messages": [{"role": "robot", "content": "hi"}]}', "invalid_type", "messages[0].role"),
        (b'{"messages": [{"role": "user"}]}', "invalid_type", "messages[0].content"),
        (
            b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
            "missing_required_parameter",
            "messages[0].content[0].text",
        ),
        (
            b'{"messages": [{"role": "user", "content": [{"type": 7}]}]}',
            "invalid_type",
            "messages[0].content[0].type",
        ),
        (b'{"messages": [{"role": "user", "content": "hi"}], "stream": "yes"}', "invalid_type", "stream"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": 3}', "invalid_type", "temperature"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "model": 4}', "invalid_type", "model"),
        (
            b'{"messages": [{"role": "user", "content": "hi"}], "reasoning_effort": "huge"}',
            "invalid_type",
            "reasoning_effort",
        ),
    ],
    ids=lambda value: repr(value[:50]) if isinstance(value, bytes) else None,
)
def test_a_malformed_body_is_a_400_with_its_path(base: str, body: bytes, code: str, param: str | None) -> None:
    error = error_of(post(base, body))
    assert (error["status"], error["type"]) == (400, "invalid_request_error")
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize(
    ("body", "header", "sent"),
    [
        (None, None, "high"),
        ("low", None, "low"),
        ("low", "medium", "low"),
        (None, "Medium", "medium"),
        ("xhigh", None, "high"),
        (None, "max", "high"),
        ("minimal", None, "low"),
    ],
)
def test_reasoning_effort_comes_from_the_body_then_the_header_then_the_setting(
    gateway: Gateway, chatkit: Any, body: str | None, header: str | None, sent: str
) -> None:
    base = gateway(CHATKIT_DIALECT="older", BASE_URL=f"{chatkit.address}/older")
    request = {"model": "gpt-oss-120b", "messages": user("hi"), "reasoning_effort": body}
    response = post(base, request, {"x-reasoning-effort": header} if header else None)
    assert text_of(response) == "hi"
    assert chatkit.last()["headers"]["x-reasoning-effort"] == sent
    assert "x-ignored-params" not in response.headers


def test_an_unknown_effort_is_a_400(base: str) -> None:
    response = post(base, {"messages": user("hi")}, {"x-reasoning-effort": "huge"})
    assert failed(response)[::2] == (400, "invalid_value")


def test_an_unknown_model_is_a_404_that_names_the_known_ones(base: str) -> None:
    response = chat(base, "gpt-5", "hi")
    assert failed(response) == (404, "invalid_request_error", "model_not_found")
    for model in ("gpt-5", "gpt-oss-20b", "gpt-oss-120b", "gpt-4o", "gpt-4o-mini"):
        assert model in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/chat/completions", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/a/b", 404, "model_not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/favicon.ico", 404, "not_found"),
        ("GET", "/v1//models", 404, "not_found"),
        ("GET", "/%ff%00", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("BREW", "/v1/models", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_have_openais_error_shape(
    base: str, method: str, path: str, status: int, code: str
) -> None:
    error = error_of(requests.request(method, f"{base}{path}", timeout=SECONDS))
    assert (error["status"], error["type"], error["code"]) == (status, "invalid_request_error", code)


def test_the_front_page_is_html_only_for_browsers(base: str) -> None:
    plain = requests.get(base, timeout=SECONDS)
    assert (plain.headers["content-type"], plain.text.strip()) == ("text/plain; charset=utf-8", "ok")
    page = requests.get(base, headers={"Accept": "text/html,*/*;q=0.8"}, timeout=SECONDS)
    assert page.headers["content-type"].startswith("text/html")
