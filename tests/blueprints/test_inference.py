"""Body in, answer out: statuses, headers and the honest end of streams."""

import json
import re
import socket
import sys
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder, TestResponse

from gpt_oss_proxy.apis.openai.chat_completions import ChatCompletions
from gpt_oss_proxy.blueprints import inference
from gpt_oss_proxy.chat.events import Event, Extra, Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import Tool
from gpt_oss_proxy.errors import (
    GatewayError,
    InternalError,
    InvalidField,
    Overloaded,
    RateLimited,
    UpstreamAuthRequired,
    UpstreamConnectTimeout,
    UpstreamIncomplete,
    UpstreamRejected,
    UpstreamTls,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from tests.doubles import (
    CHAT,
    HELLO,
    Scripted,
    Step,
    ask,
    chunks,
    client,
    deltas,
    error_shown,
    gateway,
    settle,
)

LONG = 20.0
ROLE = {"role": "assistant", "content": ""}
HI: list[Event] = [TextDelta("Hi")]
END: list[Event] = [Finish("stop")]
Log = list[dict[str, Any]]


def pieces(response: TestResponse) -> list[Any]:
    """What the server is given to send, piece by piece, and how it ends."""
    found: list[Any] = []
    try:
        found.extend(response.response)
    except BrokenPipeError:
        found.append("broken off")
    finally:
        response.close()
    return found


def code(response: TestResponse) -> Any:
    assert response.content_type == "application/json"
    assert response.json is not None
    assert set(response.json) == {"error"}
    assert set(response.json["error"]) == {"message", "type", "param", "code"}
    return response.json["error"]["code"]


def test_a_whole_answer_is_a_chat_completion() -> None:
    response = ask(client([Started("thread-1"), *HI], [ReasoningDelta("Hm"), *END]))
    assert (response.status_code, response.content_type) == (200, "application/json")
    body = response.json
    assert body is not None
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", body.pop("id"))
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": "model-1",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "refusal": None,
                    "annotations": [],
                    "reasoning": "Hm",
                    "reasoning_content": "Hm",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 6 + 4 + 3,
            "completion_tokens": 4,
            "total_tokens": 17,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_a_stream_is_a_piece_for_each_list() -> None:
    response = ask(client(HI, [TextDelta(" there")], END), stream=True)
    assert response.status_code == 200
    assert {name: response.headers[name] for name in ("Content-Type", "Cache-Control", "X-Accel-Buffering")} == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
    }
    assert "Content-Length" not in response.headers
    assert [deltas(piece) for piece in pieces(response)] == [
        [ROLE, {"content": "Hi"}],
        [{"content": " there"}],
        ["stop", "[DONE]"],
    ]


def test_all_chunks_of_a_stream_bear_the_same_stamp() -> None:
    response = ask(client(HI, 0.05, END, keepalive_seconds=0.02), stream=True, stream_options={"include_usage": True})
    *found, done = chunks(response.data)
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in found}) == 1
    assert found[0]["object"] == "chat.completion.chunk"
    assert found[0]["model"] == "model-1"
    assert all("error" not in chunk for chunk in found)
    assert [chunk["usage"] for chunk in found[:-1]] == [None] * (len(found) - 1)
    assert (found[-1]["choices"], found[-1]["usage"]["completion_tokens"]) == ([], 2)


def test_usage_of_the_upstream_is_passed_on() -> None:
    response = ask(client([*HI, Usage(7, 8), *END]))
    assert response.json is not None
    assert response.json["usage"]["total_tokens"] == 15


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/"])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", "text/x", ""])
def test_a_body_is_json_whatever_it_calls_itself(path: str, content_type: str) -> None:
    body = json.dumps({"messages": HELLO})
    assert client(HI, END).post(path, data=body, content_type=content_type).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        UpstreamRejected(),
        RateLimited(retry_after="17"),
        UpstreamIncomplete(),
        UpstreamAuthRequired(),
        UpstreamUnavailable(),
        UpstreamConnectTimeout(),
        InternalError(),
        GatewayError("Ä", param="x", should_retry=True),
    ],
    ids=lambda error: error.code,
)
@pytest.mark.parametrize("accept", ["*/*", "text/plain"])
def test_a_refusal_before_the_first_event_keeps_its_status(error: GatewayError, stream: bool, accept: str) -> None:
    response = ask(client([Started("x")], error), stream=stream, headers={"Accept": accept})
    assert (response.status_code, response.content_type) == (error.status, "application/json")
    assert response.json == error_shown(error)
    assert response.headers.get("retry-after") == error.retry_after
    should_retry = {None: None, True: "true", False: "false"}[error.should_retry]
    assert response.headers.get("x-should-retry") == should_retry


def test_a_failure_in_the_middle_is_one_error_event_and_done() -> None:
    response = ask(client(HI, UpstreamIncomplete()), stream=True, stream_options={"include_usage": True})
    assert response.status_code == 200
    assert deltas(response.data) == [ROLE, {"content": "Hi"}, "upstream_incomplete", "[DONE]"]
    assert chunks(response.data)[-2] == error_shown(UpstreamIncomplete())


def test_a_failure_in_the_middle_of_a_whole_answer_keeps_its_status() -> None:
    response = ask(client(HI, UpstreamIncomplete()))
    assert (response.status_code, code(response)) == (502, "upstream_incomplete")


def test_a_keepalive_before_the_first_event_commits_the_stream() -> None:
    response = ask(client(0.05, RateLimited(), keepalive_seconds=0.02), stream=True)
    assert response.status_code == 200
    told = deltas(response.data)
    assert told == [ROLE, *[{}] * (len(told) - 3), "upstream_rate_limited", "[DONE]"]


def test_keepalives_fill_the_silence_before_and_between_events() -> None:
    response = ask(client(0.05, HI, 0.05, END, keepalive_seconds=0.02), stream=True)
    told = deltas(response.data)
    middle = told.index({"content": "Hi"})
    before, after = told[1:middle], told[middle + 1 : -2]
    assert told == [ROLE, *before, {"content": "Hi"}, *after, "stop", "[DONE]"]
    assert before == [{}] * len(before)
    assert after == [{}] * len(after) != []


@pytest.mark.parametrize(
    ("script", "limits", "expected"),
    [
        ([LONG], {"request_timeout_seconds": 0.1}, "upstream_first_event_timeout"),
        ([LONG], {"total_timeout_seconds": 0.1}, "total_timeout"),
        ([[], LONG], {"request_timeout_seconds": 0.1}, "upstream_idle_timeout"),
        ([HI, LONG], {"request_timeout_seconds": 0.1}, "upstream_idle_timeout"),
        ([HI, LONG], {"total_timeout_seconds": 0.1}, "total_timeout"),
    ],
)
def test_each_limit_of_time_has_its_code(script: list[Step], limits: dict[str, float], expected: str) -> None:
    whole = ask(client(*script, **limits))
    assert (whole.status_code, code(whole)) == (504, expected)
    streamed = ask(client(*script, **limits), stream=True)
    if HI in script:
        assert (streamed.status_code, deltas(streamed.data)) == (200, [ROLE, {"content": "Hi"}, expected, "[DONE]"])
    else:
        assert (streamed.status_code, code(streamed)) == (504, expected)
    late = ask(client(*script, keepalive_seconds=0.01, **limits), stream=True)
    assert (late.status_code, deltas(late.data)[-2:]) == (200, [expected, "[DONE]"])


BUGS: list[Any] = [
    [ValueError("secret")],
    [[Started("x")], KeyError("secret")],
    [],  # an upstream that forgot to finish
    [[TextDelta("\ud800")], END],  # one that forgot to mend what it was told
]


@pytest.mark.parametrize("script", BUGS)
def test_a_bug_is_an_internal_error_without_its_details(script: list[Step]) -> None:
    response = ask(client(*script))
    assert (response.status_code, code(response)) == (500, "internal_error")
    assert b"secret" not in response.data


@pytest.mark.parametrize("script", BUGS)
def test_a_bug_in_a_stream_is_an_internal_error_and_never_a_clean_end(script: list[Step]) -> None:
    response = ask(client(HI, *script), stream=True)
    assert deltas(response.data) == [ROLE, {"content": "Hi"}, "internal_error", "[DONE]"]
    assert b"secret" not in response.data


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain", "text/plain; charset=utf-8"),
        ("TEXT/Plain", "text/plain; charset=utf-8"),
        ("text/plain, */*", "text/plain; charset=utf-8"),
        ("text/plain;charset=utf-8;q=0.5", "text/plain; charset=utf-8"),
        ("*/*", "text/event-stream; charset=utf-8"),
        ("", "text/event-stream; charset=utf-8"),
        ("text/*", "text/event-stream; charset=utf-8"),
        ("text/event-stream", "text/event-stream; charset=utf-8"),
        ("text/plain, text/event-stream", "text/event-stream; charset=utf-8"),
        ("application/json", "text/event-stream; charset=utf-8"),
        ("application/json, text/plain, */*", "text/event-stream; charset=utf-8"),  # what axios sends unasked
        ("text/plain;q=0, */*", "text/event-stream; charset=utf-8"),
        ("text/html", "text/event-stream; charset=utf-8"),
        ("nonsense;;;,", "text/event-stream; charset=utf-8"),
    ],
)
def test_bare_text_is_for_those_who_ask_for_it(accept: str, content_type: str) -> None:
    response = ask(client(HI, END), stream=True, headers={"Accept": accept})
    assert response.content_type == content_type
    assert (response.data == b"Hi") == content_type.startswith("text/plain")


def test_a_whole_answer_is_json_even_for_those_who_ask_for_text() -> None:
    assert ask(client(HI, END), headers={"Accept": "text/plain"}).content_type == "application/json"


def test_bare_text_comes_as_it_comes_and_keepalives_are_silent() -> None:
    script: list[Step] = [0.05, HI, [ReasoningDelta("Hm")], [TextDelta(" 👋\n")], END]
    response = ask(client(*script, keepalive_seconds=0.02), stream=True, headers={"Accept": "text/plain"})
    assert [piece for piece in pieces(response) if piece] == [b"Hi", " 👋\n".encode()]


def test_bare_text_that_fails_tells_why_and_is_broken_off(log: Log) -> None:
    response = ask(client(HI, UpstreamIncomplete("Cut.")), stream=True, headers={"Accept": "text/plain"})
    assert pieces(response) == [b"Hi", b"\nerror: Cut.\n", "broken off"]
    assert [line["outcome"] for line in log] == ["upstream_incomplete"]


def effort(fields: dict[str, object], headers: dict[str, str]) -> str | None:
    upstream = Scripted(HI, END)
    ask(gateway(upstream).test_client(), headers=headers, **fields)
    return upstream.asked[0].effort


@pytest.mark.parametrize(
    ("fields", "headers", "asked"),
    [
        ({}, {}, None),
        ({}, {"x-reasoning-effort": "low"}, "low"),
        ({}, {"X-Reasoning-Effort": "XHigh"}, "xhigh"),
        ({}, {"x-reasoning-effort": "max"}, "max"),
        ({"reasoning_effort": "max"}, {}, "max"),
        ({}, {"x-reasoning-effort": ""}, None),
        ({"reasoning_effort": "none"}, {}, "none"),
        ({"reasoning_effort": "none"}, {"x-reasoning-effort": "high"}, "none"),
        ({"reasoning_effort": None}, {"x-reasoning-effort": "high"}, "high"),
        ({"reasoning_effort": "high"}, {"x-reasoning-effort": "nonsense"}, "high"),
    ],
)
def test_the_bodys_effort_goes_before_the_headers(
    fields: dict[str, object], headers: dict[str, str], asked: str | None
) -> None:
    assert effort(fields, headers) == asked


@pytest.mark.parametrize("value", ["much", "low,high", "low high", "lów"])
def test_an_unknown_effort_is_refused_wherever_it_stands(value: str) -> None:
    response = ask(client(HI, END), headers={"x-reasoning-effort": value})
    assert response.status_code == 400
    assert response.json == {
        "error": {
            "message": "The header x-reasoning-effort must be one of none, minimal, low, medium, high, xhigh, max.",
            "type": "invalid_request_error",
            "param": "x-reasoning-effort",
            "code": "invalid_value",
        }
    }
    response = ask(client(HI, END), reasoning_effort=value)
    assert (response.status_code, code(response)) == (400, "invalid_type")


@pytest.mark.parametrize("stream", [False, True])
def test_what_has_no_effect_is_named_in_a_header(stream: bool) -> None:
    turns = [{"role": "user", "content": "a", "name": "Ada"}]
    response = ask(client(HI, END), messages=turns, temperature=0, seed=1, n=1, reasoning_effort="low", stream=stream)
    assert response.headers["x-ignored-params"] == "temperature, seed, reasoning_effort, messages.name"


def test_without_anything_to_name_there_is_no_such_header() -> None:
    assert "x-ignored-params" not in ask(client(HI, END), n=1).headers


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a\r\nSet-Cookie: x=1", "a??Set-Cookie: x=1"),
        ("a\nb\x00\x7f", "a?b??"),
        ("größe", "gr??e"),
        ("\u2028👋", "??"),
        ("x" * 100_000, "x" * 1024),
        ("", ""),
    ],
)
def test_no_name_of_a_field_can_break_the_header(name: str, header: str) -> None:
    response = ask(client(HI, END), **{name: 1})
    assert response.status_code == 200
    assert response.headers["x-ignored-params"] == header
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reference", "header"),
    [
        ("thread-1", "thread-1"),
        ("", None),
        ("a\r\nb: c", None),
        ("é", None),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
    ],
)
def test_the_upstreams_own_id_is_told_if_a_header_can_hold_it(reference: str, header: str | None, stream: bool) -> None:
    response = ask(client([Started(reference), *HI], END), stream=stream)
    assert response.headers.get("x-upstream-id") == header


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{" * 100_000,
        b'{"messages":' * 100_000,
        b'{"messages":[{"role":"user","content":' + b"[" * 900 + b"]" * 900 + b"}]}",
        b'{"messages":NaN}',
        b'{"messages":[{"role":"user","content":"a"}],"seed":1e999}',
        b'{"messages":[{"role":"user","content":"a"}],"seed":' + b"9" * 5000 + b"}",
        b'{"messages":[{"role":"user","content":"a"}],"seed":1,"seed":2}',
        b'{"messages":[{"role":"user","content":"\\ud83d"}]}',
        b'{"messages":[{"role":"user","content":"\xff"}]}',
        '{"messages":[{"role":"user","content":"a"}]}'.encode("utf-16"),
        b"\x00" * 1000,
    ],
)
def test_a_body_that_is_no_request_is_a_400_and_asks_nobody(body: bytes) -> None:
    upstream = Scripted(HI, END)
    response = gateway(upstream).test_client().post(CHAT, data=body)
    assert response.status_code == 400
    assert code(response) in ("invalid_json", "invalid_type", "missing_required_parameter")
    assert upstream.asked == []


@pytest.mark.parametrize("depth", [10, 500, 900, 950, 1000])
def test_deep_junk_is_never_a_500(depth: int) -> None:
    junk = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"messages":[{"role":"user","content":"a"}],"junk":' + junk + b"}"
    assert client(HI, END).post(CHAT, data=body).status_code in (200, 400)


def test_an_unknown_model_is_a_404_that_names_those_that_exist() -> None:
    response = ask(client(HI, END), model="gpt-9")
    assert response.status_code == 404
    assert response.json is not None
    assert response.json["error"] == {
        "message": "The model 'gpt-9' does not exist. There are: model-1.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_what_arrives_after_the_end_of_the_drain_is_refused_with_the_time_to_come_back() -> None:
    app = gateway(Scripted(HI, END))
    app.dispatcher.drain(0)
    gevent.sleep(0.01)
    response = ask(app.test_client())
    assert (response.status_code, code(response), response.headers["retry-after"]) == (503, "shutting_down", "1")


def test_a_stream_that_is_cut_by_the_end_of_the_drain_says_so() -> None:
    app = gateway(Scripted(HI, LONG))
    response = ask(app.test_client(), stream=True)
    app.dispatcher.drain(0.02)
    assert deltas(response.data) == [ROLE, {"content": "Hi"}, "shutting_down", "[DONE]"]


def test_the_log_knows_the_request_and_not_its_content(log: Log) -> None:
    response = ask(client([Started("thread-1"), *HI], END), stream=True, user="ada")
    assert log == []  # it is not over yet
    pieces(response)
    (line,) = log
    assert line.pop("time").endswith("Z")
    assert 0 <= line.pop("first_seconds") <= line.pop("total_seconds") < 5
    assert line == {
        "id": response.headers["x-request-id"],
        "client": "127.0.0.1",
        "method": "POST",
        "path": CHAT,
        "model": "model-1",
        "upstream": "scripted",
        "upstream_host": "",
        "upstream_status": None,
        "finish": "stop",
        "prompt_tokens": 13,
        "completion_tokens": 2,
        "tries": 1,
        "adopted": False,
        "reference": "thread-1",
        "stream": True,
        "status": 200,
        "outcome": "ok",
        "reason": "",
    }


@pytest.mark.parametrize(
    ("script", "status", "outcome", "reason"),
    [
        ([RateLimited()], 429, "upstream_rate_limited", ""),
        ([UpstreamTls(reason="certificate has expired")], 502, "upstream_tls", "certificate has expired"),
        ([HI, UpstreamTls(reason="certificate has expired")], 200, "upstream_tls", "certificate has expired"),
        ([HI, UpstreamIncomplete()], 200, "upstream_incomplete", ""),
        ([HI, ValueError()], 200, "internal_error", ""),
    ],
)
def test_the_log_knows_how_it_ended(log: Log, script: list[Step], status: int, outcome: str, reason: str) -> None:
    answer = pieces(ask(client(*script), stream=True))
    assert [(line["status"], line["outcome"], line["reason"]) for line in log] == [(status, outcome, reason)]
    assert b"expired" not in b"".join(answer)


def leaving(upstream: Scripted, after_seconds: float = 0.0, **fields: Any) -> TestResponse:
    ours, clients = socket.socketpair()
    gevent.spawn_later(after_seconds, clients.close)
    with ours, gevent.Timeout(2):
        response = (
            gateway(upstream)
            .test_client()
            .post(CHAT, data=json.dumps({"messages": HELLO, **fields}), environ_overrides={"gunicorn.socket": ours})
        )
        response.response = pieces(response)
    settle()
    return response


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_its_answer_ends_the_call(log: Log, stream: bool) -> None:
    upstream = Scripted(LONG)
    assert leaving(upstream, stream=stream).status_code == 499
    assert upstream.ended == 1
    assert [line["outcome"] for line in log] == ["client_gone"]
    assert [(line["prompt_tokens"], line["completion_tokens"]) for line in log] == [(13, 0)]


def test_a_client_that_leaves_in_the_middle_ends_the_call_and_sees_no_clean_end(log: Log) -> None:
    upstream = Scripted(HI, LONG)
    *told, end = leaving(upstream, stream=True).response
    assert (deltas(b"".join(told)), end) == ([ROLE, {"content": "Hi"}], "broken off")
    assert upstream.ended == 1
    assert [line["outcome"] for line in log] == ["client_gone"]


def given_up(upstream: Scripted, *, read: int) -> None:
    """The server reads this many pieces of a stream, cannot send any more, and closes it."""
    asked = EnvironBuilder(CHAT, method="POST", data=json.dumps({"messages": HELLO, "stream": True}))
    body: Any = gateway(upstream)(asked.get_environ(), lambda *_: lambda _: None)
    pieces = iter(body)
    for _ in range(read):
        next(pieces)
    body.close()
    settle()


@pytest.mark.parametrize("read", [0, 1, 2])
def test_a_stream_that_the_server_gives_up_ends_the_call(read: int) -> None:
    upstream = Scripted(HI, HI, LONG)
    given_up(upstream, read=read)
    assert upstream.ended == 1


def test_a_client_that_cannot_be_sent_to_is_gone(log: Log) -> None:
    given_up(Scripted(HI, HI, LONG), read=1)
    assert [line["outcome"] for line in log] == ["client_gone"]


def test_requests_do_not_mix() -> None:
    app = gateway(Scripted(0.01, HI, 0.01, END), Scripted([TextDelta("Ho")], 0.02, END, models=["model-2"]))

    def one(model: str) -> str:
        response = ask(app.test_client(), model=model)
        assert response.json is not None
        return str(response.json["choices"][0]["message"]["content"])

    asking = [gevent.spawn(one, f"model-{1 + number % 2}") for number in range(20)]
    gevent.joinall(asking)
    assert [greenlet.value for greenlet in asking] == ["Hi", "Ho"] * 10


# Limits of concurrency, and what SDKs say of themselves


def test_a_request_above_the_number_of_places_is_refused_at_once_before_its_body() -> None:
    app = gateway(Scripted(HI, LONG), max_requests=1)
    running = ask(app.test_client(), stream=True)
    refused = ask(app.test_client())
    assert (refused.status_code, refused.json) == (503, error_shown(Overloaded()))
    assert refused.headers["retry-after"] == "5"
    running.close()
    assert app.dispatcher.places.taken == 0


@pytest.mark.parametrize(
    ("script", "fields"),
    [([HI, END], {}), ([HI, END], {"stream": True}), ([RateLimited()], {}), ([ValueError()], {}), ([HI], {"n": 9})],
)
def test_every_place_is_given_back(script: list[Step], fields: dict[str, Any]) -> None:
    app = gateway(Scripted(*script), retries=0)
    pieces(ask(app.test_client(), **fields))
    assert app.dispatcher.places.taken == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_is_held_until_an_upstream_has_it(stream: bool) -> None:
    body = json.dumps({"messages": HELLO, "stream": stream})
    app = gateway(Scripted(0.05, HI, LONG), max_bodies_bytes=len(body) + 1)
    running = gevent.spawn(app.test_client().post, CHAT, data=body)
    settle()
    assert app.bodies.taken_bytes == len(body)
    for path in (CHAT, "/chat/completions"):  # all have one budget
        refused = app.test_client().post(path, data=body)
        assert (refused.status_code, refused.json) == (503, error_shown(Overloaded()))
    gevent.sleep(0.07)
    assert (app.bodies.taken_bytes, app.dispatcher.places.taken) == (0, 1)
    running.kill()
    if running.successful() and isinstance(running.value, TestResponse):
        running.value.close()


def test_a_keepalive_says_that_an_upstream_has_the_body() -> None:
    app = gateway(Scripted(LONG), keepalive_seconds=0.05)
    response = ask(app.test_client(), stream=True)
    assert app.bodies.taken_bytes == 0
    response.close()


def test_a_whole_answer_is_awaited_without_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    monkeypatch.setattr(inference, "read_body", lambda *_arguments, **_limits: body)
    before = sys.getrefcount(body)
    running = gevent.spawn(client(HI, LONG).post, CHAT)
    settle()
    assert (running.ready(), sys.getrefcount(body)) == (False, before)
    running.kill()


@pytest.mark.parametrize(
    ("script", "sent"),
    [
        ([HI, END], {}),
        ([HI, END], {"stream": True}),
        ([HI, LONG], {"stream": True}),
        ([RateLimited()], {}),
        ([ValueError()], {}),
        ([UpstreamIncomplete()], {"stream": True}),
        ([HI], {"n": 9}),
        ([HI], {"model": "unknown"}),
        ([HI], {"user": "x" * 2000}),  # too large
    ],
)
def test_all_that_bodies_take_is_given_back(script: list[Step], sent: dict[str, Any]) -> None:
    app = gateway(Scripted(*script), retries=0, max_body_bytes=1500, max_bodies_bytes=1500)
    ask(app.test_client(), **sent).close()
    assert app.bodies.taken_bytes == 0


@pytest.mark.parametrize("script", [[LONG], [HI, LONG]], ids=["silent", "begun"])
def test_a_request_that_is_killed_gives_back_what_it_has_taken(script: list[Step]) -> None:
    app = gateway(Scripted(*script))
    running = gevent.spawn(ask, app.test_client())
    settle()
    running.kill()
    assert (app.bodies.taken_bytes, app.dispatcher.places.taken) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_bug_behind_the_first_events_leaves_no_call_behind(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    def fail(*_arguments: Any) -> None:
        raise LookupError("a bug")

    for name in ("stream", "whole"):
        monkeypatch.setattr(ChatCompletions, name, fail)
    upstream = Scripted(HI, *([LONG] if stream else [END]))
    app = gateway(upstream)
    response = ask(app.test_client(), stream=stream)
    assert (response.status_code, code(response)) == (500, "internal_error")
    settle()
    assert (upstream.ended, app.dispatcher.places.taken, app.dispatcher._running) == (1, 0, {})


@pytest.mark.parametrize("name", ["x-stainless-read-timeout", "X-Stainless-Timeout"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_takes_longer_than_an_sdk_says_that_it_will_wait(name: str, stream: bool) -> None:
    response = ask(client(0.1, HI, END), {name: "0.05"}, stream=stream)
    assert response.status_code == 200
    assert b"Hi" in response.data


def test_when_our_retries_are_used_up_sdks_are_told_not_to_retry() -> None:
    response = ask(client(UpstreamUnreachable()))
    assert (response.status_code, response.headers["x-should-retry"]) == (502, "false")


# Requests that come twice


@pytest.fixture
def twice() -> tuple[FlaskClient, Scripted]:
    upstream = Scripted([Started("thread-1"), *HI], 0.03, END)
    return gateway(upstream).test_client(), upstream


@pytest.mark.parametrize("stream", [False, True])
def test_an_idempotency_key_that_comes_again_gets_the_same_answer_and_the_upstream_is_asked_once(
    log: Log, twice: tuple[FlaskClient, Scripted], stream: bool
) -> None:
    client, upstream = twice
    bodies = [b"".join(pieces(ask(client, {"Idempotency-Key": "k"}, stream=stream))) for _ in range(3)]
    assert len(upstream.asked) == 1
    assert bodies[0] == bodies[1] == bodies[2]
    assert [(line["adopted"], line["tries"], line["upstream"]) for line in log] == [
        (False, 1, "scripted"),
        (True, 0, "scripted"),
        (True, 0, "scripted"),
    ]


def test_a_request_that_comes_again_while_the_first_one_runs_joins_it(twice: tuple[FlaskClient, Scripted]) -> None:
    client, upstream = twice
    asked = [gevent.spawn(ask, client, {"Idempotency-Key": "k"}) for _ in range(5)]
    gevent.joinall(asked)
    assert {greenlet.value.data for greenlet in asked} == {asked[0].value.data}
    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "0"}),
        ({"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}),
        ({"Idempotency-Key": "a"}, {"Idempotency-Key": "b"}),
        ({"Idempotency-Key": "a", "Authorization": "Bearer a"}, {"Idempotency-Key": "a", "Authorization": "Bearer b"}),
    ],
)
def test_requests_that_are_not_the_same_are_asked_each(
    twice: tuple[FlaskClient, Scripted], one: dict[str, str], other: dict[str, str]
) -> None:
    client, upstream = twice
    assert [ask(client, headers).status_code for headers in (one, other)] == [200, 200]
    assert len(upstream.asked) == 2


def test_an_idempotency_key_belongs_to_one_request(twice: tuple[FlaskClient, Scripted]) -> None:
    client, _ = twice
    ask(client, {"Idempotency-Key": "k"})
    refused = ask(client, {"Idempotency-Key": "k"}, user="ada")
    assert refused.json is not None
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "a b", "ü", "x" * 256])
def test_an_idempotency_key_is_visible_ascii(twice: tuple[FlaskClient, Scripted], key: str) -> None:
    refused = ask(twice[0], {"Idempotency-Key": key})
    assert refused.json is not None
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "Idempotency-Key")


def test_a_retry_after_a_failure_is_asked_anew() -> None:
    upstream = Scripted(UpstreamIncomplete())
    client = gateway(upstream).test_client()
    assert [ask(client, {"x-stainless-retry-count": count}).status_code for count in "012"] == [502] * 3
    assert len(upstream.asked) == 3


# Where reasoning is shown

THINKING: list[Step] = [[ReasoningDelta("Hm"), *HI], END]


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({}, {"content": "Hi", "reasoning": "Hm"}),
        ({"x-reasoning-format": ""}, {"content": "Hi", "reasoning": "Hm"}),
        ({"x-reasoning-format": "hidden"}, {"content": "Hi"}),
        ({"X-Reasoning-Format": "Think-Tags"}, {"content": "<think>Hm</think>Hi"}),
        ({"x-reasoning-format": "BOTH"}, {"content": "Hi", "reasoning": "Hm", "reasoning_content": "Hm"}),
    ],
)
def test_the_header_says_where_reasoning_is_shown_before_the_setting(
    headers: dict[str, str], shown: dict[str, str]
) -> None:
    asking = client(*THINKING, reasoning_fields="reasoning")
    message = json.loads(ask(asking, headers).data)["choices"][0]["message"]
    assert {name: message[name] for name in message if name not in ("role", "refusal", "annotations")} == shown
    told: dict[str, str] = {}
    for delta in deltas(ask(asking, headers, stream=True).data)[:-2]:
        for name, text in delta.items():
            told[name] = told.get(name, "") + text
    assert told == {"role": "assistant", **shown}


@pytest.mark.parametrize("value", ["none", "reasoning,hidden", "think", "bóth"])
def test_an_unknown_format_of_reasoning_is_refused(value: str) -> None:
    response = ask(client(*THINKING), headers={"x-reasoning-format": value})
    assert response.status_code == 400
    assert response.json == {
        "error": {
            "message": "The header x-reasoning-format must be one of both, reasoning, reasoning_content, think-tags, "
            "hidden.",
            "type": "invalid_request_error",
            "param": "x-reasoning-format",
            "code": "invalid_value",
        }
    }


def test_a_client_that_is_not_shown_the_thoughts_is_kept_alive_meanwhile() -> None:
    thoughts: list[Step] = [step for _ in range(10) for step in ([ReasoningDelta("Hm")], 0.01)]
    response = ask(client(HI, *thoughts, END, keepalive_seconds=0.05), {"x-reasoning-format": "hidden"}, stream=True)
    told = deltas(response.data)
    assert told == [ROLE, {"content": "Hi"}, *[{}] * (len(told) - 4), "stop", "[DONE]"]
    assert 1 <= len(told) - 4 <= 4


def test_an_answer_that_is_shared_is_shown_to_each_as_he_wants_it() -> None:
    upstream = Scripted(*THINKING)
    asking = gateway(upstream).test_client()
    bodies = [
        json.loads(ask(asking, {"Idempotency-Key": "k", "x-reasoning-format": where}).data)["choices"][0]["message"]
        for where in ("hidden", "think-tags")
    ]
    assert [body["content"] for body in bodies] == ["Hi", "<think>Hm</think>Hi"]
    assert len(upstream.asked) == 1


# Legacy completions


def complete(client: FlaskClient, headers: dict[str, str] | None = None, **fields: Any) -> TestResponse:
    return client.post("/v1/completions", data=json.dumps({"prompt": "Say hi.", **fields}), headers=headers)


def test_a_prompt_is_completed() -> None:
    response = complete(client(*THINKING), temperature=0)
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert response.headers["x-ignored-params"] == "temperature"
    body = response.json
    assert body is not None
    assert re.fullmatch(r"cmpl-[0-9a-f]{32}", body.pop("id"))
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "text_completion",
        "model": "model-1",
        "choices": [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 7 + 4 + 3,
            "completion_tokens": 4,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_a_completion_is_streamed() -> None:
    response = complete(client([ReasoningDelta("Hm")], 0.05, HI, END, keepalive_seconds=0.02), stream=True, echo=True)
    assert response.content_type == "text/event-stream; charset=utf-8"
    *told, done = chunks(response.data)
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in told} == {"text_completion"}
    texts = [chunk["choices"][0]["text"] for chunk in told]
    assert [text for text in texts if text] == ["Say hi.", "Hi"]
    assert (texts[0], told[-1]["choices"][0]["finish_reason"]) == ("Say hi.", "stop")


def test_a_completion_that_fails_in_the_middle_says_so() -> None:
    told = chunks(complete(client(HI, UpstreamIncomplete()), stream=True).data)
    assert told[1:] == [error_shown(UpstreamIncomplete()), "[DONE]"]


def test_a_completion_is_bare_text_for_those_who_ask_for_it() -> None:
    response = complete(client(*THINKING), {"Accept": "text/plain"}, stream=True, echo=True)
    assert (response.content_type, response.data) == ("text/plain; charset=utf-8", b"Say hi.Hi")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"prompt": [1]}, "invalid_type"), ({"suffix": "a"}, "unsupported_parameter"), ({"stop": "a"}, None)],
)
def test_a_completion_that_cannot_be_given_is_refused_and_asks_nobody(
    fields: dict[str, Any], expected: str | None
) -> None:
    upstream = Scripted(HI, END, native_options=frozenset({"stop"}))
    response = complete(gateway(upstream).test_client(), **fields)
    assert (response.status_code, len(upstream.asked)) == ((400, 0) if expected else (200, 1))
    if expected:
        assert code(response) == expected


def test_older_functions_are_answered_with_a_function_call() -> None:
    call: list[Event] = [ToolCallDelta(0, "call_1", "f"), ToolCallDelta(0, arguments="{}"), Finish("tool_calls")]
    upstream = Scripted(call, native_options=None)
    asking = gateway(upstream).test_client()
    choice = json.loads(ask(asking, functions=[{"name": "f"}]).data)["choices"][0]
    assert (choice["message"]["function_call"], choice["finish_reason"]) == (
        {"name": "f", "arguments": "{}"},
        "function_call",
    )
    assert (upstream.asked[0].tools, upstream.asked[0].parallel_calls) == ((Tool("f"),), False)


@pytest.mark.parametrize(
    ("path", "param", "of_functions"),
    [
        (("tools",), "tools", "functions"),
        (("tools", 1), "tools[1]", "functions[1]"),
        (("tools", 1, "name"), "tools[1].function.name", "functions[1].name"),
        (("tools", 1, "parameters"), "tools[1].function.parameters", "functions[1].parameters"),
        (("tool_choice",), "tool_choice", "function_call"),
        (("messages", 0, "tools"), "messages[0].tools", "messages[0].tools"),
    ],
)
def test_an_error_names_what_the_client_sent_and_not_what_became_of_it(
    path: tuple[str | int, ...], param: str, of_functions: str
) -> None:
    for fields, expected in (({"functions": [{"name": "f"}]}, of_functions), ({}, param)):
        upstream = Scripted(InvalidField(path, "no."), native_options=None)
        response = ask(gateway(upstream).test_client(), **fields)
        assert response.status_code == 400
        error = json.loads(response.data)["error"]
        assert (error["param"], error["message"]) == (expected, f"{expected}: no.")
        late = Scripted(HI, InvalidField(path, "no."), native_options=None)
        (*_, error, _done) = chunks(ask(gateway(late).test_client(), stream=True, **fields).data)
        assert error["error"]["param"] == expected
        late = Scripted(HI, InvalidField(path, "no."), native_options=None)
        assert json.loads(ask(gateway(late).test_client(), **fields).data)["error"]["param"] == expected


@pytest.mark.parametrize("prefix", ["/openai/deployments", "/deployments", "/v1/openai/deployments"])
def test_a_path_of_azure_s_clients_names_the_model(prefix: str) -> None:
    upstream = Scripted([*HI, *END], models=("model-1", "org/m"))
    asker = gateway(upstream).test_client()
    for path, field in (("org/m", None), ("org/m", "model-1")):
        body = {"messages": HELLO, **({"model": field} if field else {})}
        answer = asker.post(f"{prefix}/{path}/chat/completions?api-version=2026-01-01", data=json.dumps(body))
        assert (answer.status_code, answer.get_json()["model"]) == (200, "org/m")
    assert [request.model for request in upstream.asked] == ["org/m", "org/m"]
    missing = asker.post(f"{prefix}/gone/chat/completions", data=json.dumps({"messages": HELLO}))
    assert (missing.status_code, code(missing)) == (404, "model_not_found")
    assert asker.get(f"{prefix}/org/m/chat/completions").status_code == 405


def test_a_retry_for_another_deployment_is_another_request() -> None:
    upstream = Scripted([*HI, *END], models=("model-1", "b"))
    asker = gateway(upstream).test_client()
    for model in ("model-1", "b", "b"):
        asker.post(
            f"/deployments/{model}/chat/completions",
            data=json.dumps({"messages": HELLO}),
            headers={"Idempotency-Key": model},
        )
    assert [request.model for request in upstream.asked] == ["model-1", "b"]


def test_fields_that_the_gateway_does_not_know_reach_the_client() -> None:
    script: list[Event] = [
        Extra("answer", {"system_fingerprint": "fp", "id": "no"}),
        Extra("message", {"annotations": [{"type": "url_citation"}], "role": "no"}),
        Extra("choice", {"stop_reason": 7, "index": 9}),
        ToolCallDelta(0, "a", "f", extra={"extra_content": 1, "id": "no"}),
        ToolCallDelta(0, arguments="{}"),
        Finish("tool_calls"),
    ]
    whole = ask(client(script)).get_json()
    choice = whole["choices"][0]
    assert (whole["system_fingerprint"], choice["stop_reason"], choice["index"]) == ("fp", 7, 0)
    assert whole["id"].startswith("chatcmpl-")
    assert (choice["message"]["annotations"], choice["message"]["role"]) == ([{"type": "url_citation"}], "assistant")
    assert choice["message"]["tool_calls"] == [
        {"extra_content": 1, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]
    *streamed, end, _ = chunks(ask(client(script), stream=True).get_data())
    assert [part["choices"][0]["delta"] for part in streamed] == [
        ROLE,
        {"annotations": [{"type": "url_citation"}]},
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "a",
                    "type": "function",
                    "extra_content": 1,
                    "function": {"name": "f", "arguments": ""},
                }
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
    ]
    assert (end["system_fingerprint"], end["choices"][0]["stop_reason"], end["choices"][0]["index"]) == ("fp", 7, 0)


@pytest.mark.parametrize(
    ("script", "tokens"),
    [
        ([HI, UpstreamIncomplete()], (13, 2)),
        ([HI, [Usage(7, 8)], END], (7, 8)),
        ([[ReasoningDelta("Hm.")], HI, END], (13, 5)),
        ([[ToolCallDelta(0, "a", "f")], [ToolCallDelta(0, arguments="{}")], END], (13, 3)),
        ([UpstreamUnreachable()], (None, None)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_log_knows_the_tokens_of_answers_however_they_end(
    log: Log, script: list[Step], tokens: tuple[int | None, int | None], stream: bool
) -> None:
    pieces(ask(client(*script), stream=stream))
    assert [(line["prompt_tokens"], line["completion_tokens"]) for line in log] == [tokens]


def test_a_request_is_found_again_in_the_logs_of_its_upstream() -> None:
    upstream = Scripted(HI, END)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asker = gateway(upstream).test_client()
    for given in (parent, "00-nonsense", ""):
        ask(asker, {"x-request-id": "mine", "traceparent": given})
    ask(asker)
    *known, new = (request.trace for request in upstream.asked)
    assert known == [{"x-request-id": "mine", "traceparent": parent}, *[{"x-request-id": "mine"}] * 2]
    assert re.fullmatch(r"req_[0-9a-f]{32}", new["x-request-id"])
