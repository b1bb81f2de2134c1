"""Any OpenAI-compatible server: a request goes through with all its fields, a stream is read whatever its quirks."""

import json
from typing import Any

import gevent
import gevent.event
import pytest
import responses
from requests.structures import CaseInsensitiveDict

from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import (
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.net.client import connections
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.base import Model
from gpt_oss_proxy.upstreams.openai import OpenAI
from gpt_oss_proxy.upstreams.openai.request import build_body
from tests.doubles import ask as post
from tests.doubles import collect, gate, gateway
from tests.upstreams.decoding import (
    ask,
    decode,
    sse_bytes,
)
from tests.upstreams.openai.chunks import DONE, STOP, delta, stopped
from tests.upstreams.raw_server import RawServer, with_length

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
    assert upstream().native_options is None


KINDS = ("text/event-stream; charset=utf-8", "text/plain", "application/json")


@pytest.mark.parametrize("headers", [{}, *({"content-type": kind} for kind in KINDS)])
def test_an_event_stream_is_read(headers):
    reader = upstream().decoder(CaseInsensitiveDict(headers), ask())
    assert decode(reader, sse_bytes(delta(content="Hi"), STOP)) == stopped("Hi")


def test_a_page_is_a_protocol_error():
    with pytest.raises(UpstreamProtocolError):
        upstream().decoder(CaseInsensitiveDict({"Content-Type": "text/html"}), ask())


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


def test_a_list_of_models_above_its_limit_is_too_large():
    with responses.RequestsMock() as server:
        server.get(MODELS, body=b" " * (4 * 1024 * 1024 + 1))
        with pytest.raises(UpstreamTooLarge):
            upstream().models()


# Efforts that the server may not know

CHATS = "http://llm.example/v1/chat/completions"


class Efforts:
    """A server that takes these efforts only. `asked` is each request's effort, and how many places were taken then."""

    def __init__(self, server: responses.RequestsMock, door: UpstreamGate, *takes: str | None) -> None:
        self.asked: list[tuple[str | None, int]] = []
        self._takes = takes
        self._door = door
        server.add_callback("POST", CHATS, self._answer, content_type="text/event-stream")

    def _answer(self, request: Any) -> tuple[int, dict[str, str], bytes]:
        effort = json.loads(request.body).get("reasoning_effort")
        self.asked.append((effort, self._door.limit.taken))
        if effort in self._takes:
            return 200, {}, sse_bytes(delta(content="Hi"), STOP) + DONE
        error = {"message": f"Unsupported value: {effort!r}", "param": "reasoning_effort", "code": "unsupported_value"}
        return 400, {}, json.dumps({"error": error}).encode()


def asking(effort: str | None) -> ChatRequest:
    return ChatRequest("m", ask("Hi").messages, effort=effort)


def test_a_refused_effort_is_asked_for_lower_within_the_same_slot_and_remembered():
    door = gate(upstream("m"), slots=1)
    with responses.RequestsMock() as server:
        efforts = Efforts(server, door, "high")
        for _ in range(2):
            assert collect(door.stream(asking("max"))).choices[0].text == "Hi"
        assert efforts.asked == [("max", 1), ("xhigh", 1), ("high", 1), ("high", 1)]
        assert door.limit.taken == 0


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
    door = gate(upstream("m"), slots=1)
    with responses.RequestsMock() as server:
        Efforts(server, door, None)
        with pytest.raises(UpstreamRejected, match=f"It said: Unsupported value: '{effort}'"):
            list(door.stream(asking(effort)))
        assert collect(door.stream(asking(None))).choices[0].text == "Hi"


def test_a_refusal_of_something_else_passes_on_as_it_is():
    door = gate(upstream("m"))
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


def test_headers_that_trace_a_request_go_with_it():
    trace = {"x-request-id": "mine", "traceparent": "00-1"}
    with responses.RequestsMock() as server:
        server.post(CHATS, body=sse_bytes(delta(content="Hi"), STOP) + DONE, content_type="text/event-stream")
        collect(upstream("m").stream(ChatRequest("m", ask("Hi").messages, trace=trace)))
        assert trace.items() <= dict(server.calls[0].request.headers).items()


def test_a_word_for_the_end_that_is_not_known_is_counted_and_named_once(caplog):
    asker = upstream("m")
    with responses.RequestsMock() as server:
        body = sse_bytes(delta(content="Hi"), delta("brand new")) + DONE
        server.post(CHATS, body=body, content_type="text/event-stream")
        for _ in range(2):
            assert collect(asker.stream(asking(None))).choices[0].reason == "stop"
    assert asker.unknown_reasons == 2
    assert caplog.messages == ["openai: the finish reason 'brand new' is not known, and taken for `stop`"]


def test_it_is_asked_at_a_host_without_its_password():
    transport = Transport(connect_timeout_seconds=1)
    for url, host in (
        ("http://u:secret@llm.example:8000/v1", "llm.example:8000"),
        ("https://llm.example/v1", "llm.example"),
    ):
        asker = OpenAI(transport, base_url=url, api_key="", model_ids=(), max_event_bytes=1000)
        assert asker.host == host
