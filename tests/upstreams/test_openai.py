"""Any OpenAI-compatible server: a request goes through with all its fields, a stream is read whatever its quirks."""

import json
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import pytest
import responses
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from gpt_oss_proxy.chat.events import Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Opaque, Text, ToolCall
from gpt_oss_proxy.errors import (
    ModelNotFound,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gpt_oss_proxy.gateway.guard import Guard
from gpt_oss_proxy.upstreams import connections
from gpt_oss_proxy.upstreams.base import Model
from gpt_oss_proxy.upstreams.openai import OpenAI, OpenAIDecoder, build_body
from gpt_oss_proxy.upstreams.transport import HTTPStatusError, Transport
from tests.doubles import ask as post
from tests.doubles import collect, gateway, guard
from tests.upstreams.decoding import (
    SIZES,
    Outcome,
    ask,
    assert_cost_is_linear,
    assert_reads_do_not_matter,
    decode,
    fail,
    run,
    sse_bytes,
)
from tests.upstreams.raw_server import RawServer, with_length

# The request


def test_a_request_goes_through_with_all_its_fields():
    request = ChatRequest(
        "m/1",
        (
            Message("developer", (Text("Be terse."),)),
            Message(
                "user",
                (Text("a"), Image("u", "low"), Image("v"), Opaque("input_audio", {"input_audio": {"data": "x"}})),
            ),
            Message("user", (Text("b"), Text("c")), extra={"name": "Ada"}),
            Message("assistant", (), (ToolCall("c1", "look", "{not json"),)),
            Message("assistant", (Text("d"),), (ToolCall("c2", "look", "{}"),)),
            Message("tool", (Text("7"),), tool_call_id="c1"),
            Message("assistant", ()),
        ),
        reasoning_effort="low",
        options={"temperature": 0.5, "stream": "no", "x": [1]},
    )

    def call(call_id: str, arguments: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}

    assert build_body(request) == {
        "model": "m/1",
        "messages": [
            {"role": "developer", "content": "Be terse."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "v"}},
                    {"type": "input_audio", "input_audio": {"data": "x"}},
                ],
            },
            {"role": "user", "name": "Ada", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
            {"role": "assistant", "content": None, "tool_calls": [call("c1", "{not json")]},
            {"role": "assistant", "content": "d", "tool_calls": [call("c2", "{}")]},
            {"role": "tool", "content": "7", "tool_call_id": "c1"},
            {"role": "assistant", "content": ""},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "x": [1],
        "reasoning_effort": "low",
    }


def test_an_effort_that_was_not_asked_for_is_not_sent():
    assert build_body(ask("Hi", model="m")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


# The stream


def chunk(*choices: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": list(choices), **rest}


def delta(finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return chunk({"index": 0, "delta": fields, "finish_reason": finish_reason})


def tool(index: Any = 0, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}])


DONE = b"data: [DONE]\n\n"
STOP = delta("stop")
USED = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "completion_tokens_details": {"reasoning_tokens": 2},
    "prompt_tokens_details": {"cached_tokens": 1},
}


def decoder(limit: int = 2**24) -> OpenAIDecoder:
    return OpenAIDecoder(limit)


def answer(*events: Any, cut: bool = False) -> Outcome:
    return decode(decoder(), sse_bytes(*events), cut=cut)


def stopped(text: str = "", **rest: Any) -> Outcome:
    return Outcome(**{"reference": "chatcmpl-1", "text": text, "finish": "stop", **rest})


def test_an_answer_is_told_as_it_comes():
    events = [
        delta(role="assistant", content=""),
        delta(reasoning_content="Hm"),
        delta(reasoning="."),
        delta(content="Hi"),
        delta(content="!"),
        STOP,
        chunk(usage=USED),
        DONE,
    ]
    assert run(decoder(), sse_bytes(*events))[0] == [
        Started("chatcmpl-1"),
        ReasoningDelta("Hm"),
        ReasoningDelta("."),
        TextDelta("Hi"),
        TextDelta("!"),
        Usage(3, 4, reasoning_tokens=2, cached_tokens=1),
        Finish("stop"),
    ]


def test_reasoning_under_two_names_is_told_once():
    assert answer(delta(reasoning_content="Hm", reasoning="Hm"), STOP) == stopped(reasoning="Hm")
    assert answer(delta(reasoning_content="", reasoning="Hm"), STOP) == stopped(reasoning="Hm")


def test_a_refusal_is_text():
    assert answer(delta(refusal="No."), STOP) == stopped("No.")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("eos", "stop"),
    ],
)
def test_reasons_are_openais(reason, finish):
    assert answer(delta(content="Hi"), delta(reason), DONE) == stopped("Hi", finish=finish)


def test_the_reason_error_is_an_error():
    assert answer(delta(content="Hi"), delta("error"), DONE) == stopped("Hi", finish=None, error=UpstreamFailed)


def test_tool_calls_keep_the_order_of_their_coming_without_gaps():
    events = [
        tool(5, "a", "look", ""),
        tool(5, None, None, '{"x"'),
        tool(-1, "b", "see", "{}"),
        tool(5, "a", "look", ":1}"),
        tool(10**18, None, "say"),
        delta("tool_calls"),
    ]
    assert run(decoder(), sse_bytes(*events))[0] == [
        Started("chatcmpl-1"),
        ToolCallDelta(0, "a", "look"),
        ToolCallDelta(0, arguments='{"x"'),
        ToolCallDelta(1, "b", "see"),
        ToolCallDelta(1, arguments="{}"),
        ToolCallDelta(0, arguments=":1}"),
        ToolCallDelta(2, "call_2", "say"),
        Finish("tool_calls"),
    ]


def test_calls_without_an_index_go_by_their_position():
    calls = [{"id": "a", "function": {"name": "x"}}, {"id": "b", "function": {"name": "y"}}, "no call"]
    found = answer(delta(tool_calls=calls), STOP)
    assert (found.tool_calls, found.finish) == ((ToolCall("a", "x", ""), ToolCall("b", "y", "")), "tool_calls")


def test_a_second_choice_is_none_of_ours():
    assert answer(chunk({"index": 1, "delta": {"content": "x"}}, {"delta": {"content": "Hi"}}, 7), STOP) == stopped(
        "Hi"
    )


@pytest.mark.parametrize("number", [None, "7", 7.5, -1, True, 10**30])
def test_usage_that_is_no_sensible_number_is_as_if_absent(number):
    assert answer(STOP, chunk(usage={"prompt_tokens": 1, "completion_tokens": number})) == stopped()


def test_without_a_reason_there_is_no_answer():
    assert answer(delta(content="Hi")) == stopped("Hi", finish=None, error=UpstreamIncomplete)
    assert answer(delta(content="Hi"), DONE) == stopped("Hi", finish=None, error=UpstreamIncomplete)
    assert answer() == Outcome(error=UpstreamIncomplete)


def test_a_break_after_the_reason_does_no_harm_and_one_before_it_does():
    assert answer(delta(content="Hi"), STOP, cut=True) == stopped("Hi")
    assert answer(delta(content="Hi"), cut=True).error is UpstreamIncomplete


def test_only_done_makes_the_end_of_the_body_needless():
    reader = decoder()
    reader.feed(sse_bytes(STOP))
    assert (reader.complete, reader.ended) == (True, False)
    reader.feed(DONE)
    assert reader.ended


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "Overloaded"}, "The model's server reports an error: Overloaded"),
        ("Overloaded", "The model's server reports an error: Overloaded"),
        ({"message": "at http://10.0.0.1"}, "The model's server reports an error: at […]"),
        ({"message": 7}, UpstreamFailed.message),
        (7, UpstreamFailed.message),
    ],
)
def test_an_error_in_the_stream_is_an_error(error, message):
    found = fail(decoder(), sse_bytes(delta(content="Hi"), {"error": error}, STOP, DONE))
    assert (type(found), found.message) == (UpstreamFailed, message)


@pytest.mark.parametrize("size", SIZES)
def test_line_ends_comments_and_cut_characters_do_not_matter(size):
    text = "line\u2028sep \x85 café 👍🏽 data: [DONE]\n\n"
    body = b": ping\r\n\r\n" + sse_bytes(delta(content=text), STOP, DONE).replace(b"\n", b"\r\n")
    assert decode(decoder(), body, size) == stopped(text)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "data",
    [b"x", b"7", b"[]", b"{", b"\xff", b'{"a":' * 5000, b'{"choices":7}', b'{"choices":[{"delta":7}]}', b'{"id":7}',
     b'{"choices":[{"delta":{"content":["x"]}}]}', b'{"choices":[{"delta":{"tool_calls":[{"index":1.5}]}}]}',
     b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{}}}]}}]}', b'{"usage":7}'],
)  # fmt: skip
def test_what_is_not_the_protocol_is_a_protocol_error(data, size):
    assert decode(decoder(), b"data: %b\n\n" % data, size).error is UpstreamProtocolError


@pytest.mark.parametrize("size", SIZES)
def test_an_event_above_the_limit_is_too_large(size):
    assert decode(decoder(1000), sse_bytes(delta(content="x" * 1000)), size) == Outcome(error=UpstreamTooLarge)


def numbered(number: int, make: Callable[[int], dict[str, Any]]) -> bytes:
    return b"".join(sse_bytes(make(index)) for index in range(number))


COSTLY: dict[str, Callable[[int], bytes]] = {
    "deltas": lambda n: numbered(n, lambda index: delta(content="x")),
    "calls": lambda n: numbered(n, lambda index: tool(index, str(index), "x")),
    "arguments": lambda n: numbered(n, lambda index: tool(0, "a", "x", "y")),
    "choices": lambda n: sse_bytes(chunk(*[{"delta": {"content": "x"}}] * n)),
}


@pytest.mark.parametrize("name", COSTLY)
def test_no_sequence_of_chunks_costs_more_than_its_length(name):
    assert_cost_is_linear(decoder, lambda number: COSTLY[name](number) + sse_bytes(STOP))


KEYS = st.sampled_from(
    [
        *("id", "choices", "index", "delta", "content", "reasoning", "tool_calls", "function", "arguments", "error"),
        *("finish_reason", "usage", "prompt_tokens", "completion_tokens"),
    ]
)
TEXTS = st.sampled_from(["", "a", "\ud83d", "\ude00", "stop"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
CHUNKS = st.one_of(
    st.sampled_from(["", "a", "\ud83d", "\ude00"]).map(lambda text: delta(content=text)),
    st.sampled_from([STOP, tool(0, "a", "x", "{}"), tool(1, None, None, "y"), chunk(usage=USED)]),
    VALUES,
    VALUES.map(lambda value: chunk({"delta": value})),
    VALUES.map(lambda value: delta(tool_calls=[value])),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(CHUNKS, max_size=8), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]), st.booleans())
def test_any_chunks_give_events_or_one_of_our_errors_wherever_they_are_cut(chunks, end, done):
    body = b"".join(b"data: %b%b" % (json.dumps(each).encode(), end) for each in chunks)
    assert_reads_do_not_matter(decoder, body + (b"data: [DONE]" + end if done else b""))


# The upstream


def upstream(*model_ids: str, key: str = "") -> OpenAI:
    transport = Transport(connect_timeout_seconds=1)
    return OpenAI(transport, base_url="http://llm.example/v1", api_key=key, model_ids=model_ids, max_event_bytes=1000)


@pytest.mark.parametrize(("key", "credentials"), [("", {}), ("sk-1", {"Authorization": "Bearer sk-1"})])
def test_it_posts_below_its_base_url_with_its_key(key, credentials):
    url, headers, body = upstream(key=key).build(ask("Hi"))
    assert url == "http://llm.example/v1/chat/completions"
    assert headers == {"Content-Type": "application/json", "Accept": "text/event-stream", **credentials}
    assert json.loads(body) == build_body(ask("Hi"))


def test_it_takes_all_fields():
    assert upstream().honours is None


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/event-stream; charset=utf-8"}])
def test_an_event_stream_is_read(headers):
    reader = upstream().decoder(CaseInsensitiveDict(headers), ask())
    assert decode(reader, sse_bytes(delta(content="Hi"), STOP)) == stopped("Hi")


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
def test_an_answer_of_another_type_is_a_protocol_error(content_type):
    with pytest.raises(UpstreamProtocolError):
        upstream().decoder(CaseInsensitiveDict({"Content-Type": content_type}), ask())


@pytest.mark.parametrize(
    ("status", "text", "code", "error"),
    [
        (404, "", "model_not_found", ModelNotFound),
        (404, "The model `x` does not exist", "", ModelNotFound),
        (404, "Not Found", "", UpstreamFailed),
        (500, "model crashed", "model_not_found", UpstreamFailed),
    ],
)
def test_404_is_a_model_that_went_away_or_a_wrong_base_url(status, text, code, error):
    assert type(upstream().status_error(HTTPStatusError(status, text, code, None), ask())) is error


def test_configured_models_are_not_asked_for():
    assert upstream("a", "b/c").models() == (Model("a", "openai", 0), Model("b/c", "openai", 0))


MODELS = "http://llm.example/v1/models"


def test_models_are_asked_for_with_the_key():
    with responses.RequestsMock() as server:
        server.get(MODELS, json={"data": [{"id": "a", "owned_by": "me", "created": 7}, {"id": "b"}]})
        asker = upstream(key="sk-1")
        assert asker.models() == asker.models() == (Model("a", "me", 7), Model("b", "openai", 0))
        assert [call.request.headers["Authorization"] for call in server.calls] == ["Bearer sk-1"]


def test_that_they_cannot_be_listed_is_told_to_the_operator(caplog):
    with responses.RequestsMock() as server:
        server.get(MODELS, status=503)
        with pytest.raises(UpstreamUnavailable):
            upstream().models()
    assert caplog.messages == ["openai: its models cannot be listed: upstream_unavailable"]


def test_a_server_that_is_down_has_no_models_and_the_operator_learns_why(caplog):
    asker = OpenAI(
        Transport(connect_timeout_seconds=1), base_url="http://127.0.0.1:9", api_key="", model_ids=(), max_event_bytes=1
    )
    with pytest.raises(UpstreamUnreachable):
        asker.models()
    assert caplog.messages == ["openai: its models cannot be listed: Connection refused"]


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (b"{}", ()),
        (b'{"data":null}', ()),
        (b'{"data":[7,{},{"id":7},{"id":null},{"id":"a"}]}', (Model("a", "openai", 0),)),
        (
            b'{"data":[{"id":"a\\ud83d","owned_by":"\\ud83d","created":1' + b"0" * 30 + b"}]}",
            (Model("a\ufffd", "\ufffd", 0),),
        ),
        (b'{"data":[{"id":"a","created":"now"}]}', (Model("a", "openai", 0),)),
        (b'{"data":[{"id":"a","created":-1.5}]}', (Model("a", "openai", 0),)),
    ],
)
def test_odd_lists_of_models_are_read_as_far_as_they_make_sense(body, models):
    with responses.RequestsMock() as server:
        server.get(MODELS, body=body)
        assert upstream().models() == models


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"data":7}', b'{"data":[{"id":"a","owned_by":7}]}', b"[" * 100_000]
)
def test_a_list_of_models_that_is_none_is_a_protocol_error(body):
    with responses.RequestsMock() as server:
        server.get(MODELS, body=body)
        with pytest.raises(UpstreamProtocolError):
            upstream().models()


def test_a_list_of_models_above_its_limit_is_too_large():
    with responses.RequestsMock() as server:
        server.get(MODELS, body=b" " * (4 * 1024 * 1024 + 1))
        with pytest.raises(UpstreamTooLarge):
            upstream().models()


def test_further_fields_of_parts_and_calls_are_passed_on() -> None:
    message = Message(
        "assistant", (Text("a", {"cache_control": {}}),), (ToolCall("c1", "f", "{}", {"extra_content": 1}),)
    )
    assert build_body(ChatRequest("m", (message,)))["messages"] == [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a", "cache_control": {}}],
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": 1}
            ],
        }
    ]


# Efforts that the server may not know

CHATS = "http://llm.example/v1/chat/completions"


class Efforts:
    """A server that takes these efforts only. `asked` is each request's effort, and how many places were taken then."""

    def __init__(self, server: responses.RequestsMock, door: Guard, *takes: str | None) -> None:
        self.asked: list[tuple[str | None, int]] = []
        self._takes = takes
        self._door = door
        server.add_callback("POST", CHATS, self._answer, content_type="text/event-stream")

    def _answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        effort = json.loads(request.body).get("reasoning_effort")
        self.asked.append((effort, self._door.places.taken))
        if effort in self._takes:
            return 200, {}, sse_bytes(delta(content="Hi"), STOP) + DONE
        error = {"message": f"Unsupported value: {effort!r}", "param": "reasoning_effort", "code": "unsupported_value"}
        return 400, {}, json.dumps({"error": error}).encode()


def asking(effort: str | None) -> ChatRequest:
    return ChatRequest("m", ask("Hi").messages, reasoning_effort=effort)


def test_a_refused_effort_is_asked_for_lower_within_the_same_place_and_remembered():
    door = guard(upstream("m"), places=1)
    with responses.RequestsMock() as server:
        efforts = Efforts(server, door, "high")
        for _ in range(2):
            assert collect(door.stream(asking("max"))).choices[0].text == "Hi"
        assert efforts.asked == [("max", 1), ("xhigh", 1), ("high", 1), ("high", 1)]
        assert door.places.taken == 0


def test_the_lower_effort_goes_over_the_same_connection(monkeypatch):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    refused = with_length(b"reasoning_effort: unknown variant `max`", status=b"400 Bad Request")
    server = RawServer([refused], [with_length(sse_bytes(delta(content="Hi"), STOP) + DONE)])
    transport = Transport(connect_timeout_seconds=5)
    asker = OpenAI(transport, base_url=server.url, api_key="", model_ids=("m",), max_event_bytes=1000)
    assert collect(asker.stream(asking("max"))).choices[0].text == "Hi"
    assert [json.loads(body)["reasoning_effort"] for body in server.bodies] == ["max", "xhigh"]
    assert server.connections == 1
    transport.close()
    server.stop()


@pytest.mark.parametrize("effort", ["max", "minimal"])
def test_a_server_that_takes_no_effort_refuses_the_one_that_was_asked_for(effort):
    door = guard(upstream("m"), places=1)
    with responses.RequestsMock() as server:
        Efforts(server, door, None)
        with pytest.raises(UpstreamRejected, match=f"It said: Unsupported value: '{effort}'"):
            list(door.stream(asking(effort)))
        assert collect(door.stream(asking(None))).choices[0].text == "Hi"


def test_a_refusal_of_something_else_passes_on_as_it_is():
    door = guard(upstream("m"))
    with responses.RequestsMock() as server:
        server.post(CHATS, status=400, json={"error": {"message": "Too long", "code": "context_length_exceeded"}})
        with pytest.raises(UpstreamRejected) as raised:
            list(door.stream(asking("max")))
        assert (raised.value.code, len(server.calls)) == ("context_length_exceeded", 1)


def test_the_limits_of_time_hold_over_all_efforts_together():
    app = gateway(upstream("model-1"), request_timeout_seconds=0.2)
    asked = []

    def refuse_once(request: Any) -> tuple[int, dict[str, str], bytes]:
        asked.append(json.loads(request.body)["reasoning_effort"])
        if len(asked) > 1:
            gevent.event.Event().wait()
        return 400, {}, b'{"error": {"message": "no", "param": "reasoning_effort"}}'

    with responses.RequestsMock() as server:
        server.add_callback("POST", CHATS, refuse_once)
        answer = post(app.test_client(), reasoning_effort="max")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (504, "upstream_first_event_timeout")
    assert asked == ["max", "xhigh"]
