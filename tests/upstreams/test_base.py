"""What every upstream is: how an answer ends, and what takes a shortcut."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
import msgspec
import pytest
import urllib3
from requests.structures import CaseInsensitiveDict

from gpt_oss_proxy.chat.events import Event, Finish, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import (
    GatewayError,
    ModelNotFound,
    UpstreamConnectionError,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamRejected,
)
from gpt_oss_proxy.upstreams.base import Model, Upstream
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.status_error import Said, StatusError
from tests.upstreams.decoding import Lines, ask


class Raw:
    """A body that comes as the script says: bytes, an exception, or seconds of silence."""

    def __init__(self, *script: bytes | Exception | float) -> None:
        self._script = list(script)
        self.left = len(script)
        self.on_bytes: Callable[[bytes], bool] | None = None

    def offer(self, on_bytes: Callable[[bytes], bool]) -> None:
        self.on_bytes = on_bytes

    def read1(self, _size: int, *, decode_content: bool) -> bytes:
        assert decode_content
        while self._script:
            step = self._script.pop(0)
            self.left -= 1
            if isinstance(step, bytes):
                if self.on_bytes and self.on_bytes(step):
                    continue
                return step
            if isinstance(step, Exception):
                raise step
            gevent.sleep(step)
        return b""


class Response:
    headers: Mapping[str, str] = CaseInsensitiveDict()
    closed = False

    def __init__(self, *script: bytes | Exception | float) -> None:
        self.raw = Raw(*script)

    def close(self) -> None:
        self.closed = True


class Script:
    """A transport that has one answer."""

    def __init__(self, answer: Response | Exception) -> None:
        self._answer = answer
        self.sent: list[Any] = []

    def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Response:
        self.sent.append((method, url, headers, body))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Scripted(Upstream):
    name = "scripted"

    def models(self) -> tuple[Model, ...]:
        return ()

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        return "http://x", {"A": "b"}, b"body"

    def decoder(self, headers: Mapping[str, str], request: ChatRequest) -> Decoder:
        if "Odd" in headers:
            raise UpstreamProtocolError
        return Lines()


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch):
    monkeypatch.setattr(Upstream, "grace_seconds", 0.15)


def read(response: Response) -> tuple[list[list[Event]], type[GatewayError] | None]:
    """Return the lists of events until their end, and the error that ended them, if one did."""
    lists = []
    try:
        lists.extend(Scripted(Script(response)).stream(ask()))  # type: ignore[arg-type]
    except GatewayError as error:
        return lists, type(error)
    finally:
        assert response.closed
    return lists, None


HANG = 20.0
CUT = urllib3.exceptions.ProtocolError("cut")


def test_what_an_upstream_must_define_and_what_holds_unless_it_says_otherwise():
    """Above all: a POST that may have been accepted is not sent again."""
    assert Upstream.__abstractmethods__ == {"models", "build", "decoder"}
    assert (Upstream.native_options, Upstream.leaks_harmony, Upstream.repeatable) == (frozenset(), False, False)


def test_a_request_goes_out_as_it_was_built():
    script = Script(Response(b"END\n"))
    list(Scripted(script).stream(ask()))  # type: ignore[arg-type]
    assert script.sent == [("POST", "http://x", {"A": "b"}, b"body")]


def test_each_read_is_a_list_and_one_that_tells_nothing_is_a_sign_of_life():
    response = Response(b'"a"\n"b"\n', b'"c', b'"\n', b'""\n', b"END\n")
    assert read(response) == ([[TextDelta("ab")], [TextDelta("c")], [], [Finish("stop")]], None)


def test_what_comes_with_the_end_is_told_with_it():
    assert read(Response(b'"a"\n"b"\nEND\n')) == ([[TextDelta("ab"), Finish("stop")]], None)
    response = Response(b'"a"\n', b'"b"\ndone\n')
    response.raw.at_end = True
    assert read(response) == ([[TextDelta("a")], [TextDelta("b"), Finish("stop")]], None)


def test_what_comes_with_an_end_that_is_none_is_told_before_the_failure(monkeypatch):
    def fail(_decoder: Lines) -> None:
        raise UpstreamFailed

    monkeypatch.setattr(Lines, "finish", fail)
    assert read(Response(b'"a"\nEND\n')) == ([[TextDelta("a")]], UpstreamFailed)
    assert read(Response(b"END\n")) == ([], UpstreamFailed)


def test_a_failure_comes_after_the_events_before_it():
    assert read(Response(b'"a"\nfail\n', b'"b"\n')) == ([[TextDelta("a")]], UpstreamFailed)


@pytest.mark.parametrize("end", [[], [CUT], [ConnectionResetError()]])
def test_an_end_before_the_terminal_event_is_incomplete(end):
    assert read(Response(b'"a"\n', *end)) == ([[TextDelta("a")]], UpstreamIncomplete)


def test_a_body_that_breaks_before_the_terminal_event_fails_as_the_transport_says():
    broken = urllib3.exceptions.DecodeError("no gzip")
    assert read(Response(b'"a"\n', broken)) == ([[TextDelta("a")]], UpstreamProtocolError)


@pytest.mark.parametrize("end", [[], [CUT], [HANG], [b"half", HANG], [0.001, b'"late', CUT]])
def test_after_the_terminal_event_neither_a_break_nor_silence_does_harm(end):
    assert read(Response(b'"a"\n', b"done\n", *end)) == ([[TextDelta("a")], [], [Finish("stop")]], None)


def test_after_the_terminal_event_more_may_come_within_the_grace():
    response = Response(b'"a"\ndone\n', 0.001, b'"b"\n', 0.001, b"fail\n")
    assert read(response) == ([[TextDelta("a")], [TextDelta("b")], []], UpstreamFailed)


def test_the_grace_begins_again_with_each_record_and_not_with_bytes_that_are_none():
    response = Response(b"done\n", 0.1, b'"b"\n', 0.1, b'"c"\n', *[0.1, b"x"] * 100)
    assert read(response) == ([[], [TextDelta("b")], [TextDelta("c")], [Finish("stop")]], None)
    assert response.raw.left > 150


@pytest.mark.parametrize("record", [b"\n", b'""\n'], ids=["blank line", "empty text"])
def test_records_without_events_do_not_renew_the_grace(record):
    """Blank lines are no sign of life, and make no list; an empty text is one, and makes an empty list."""
    response = Response(b"done\n", *[0.03, record] * 100)
    events, error = read(response)
    assert (events[0], events[-1], error) == ([], [Finish("stop")], None)
    assert response.raw.left > 150


def test_after_the_end_the_answer_does_not_wait_for_the_body():
    response = Response(b'"a"\nEND\n', HANG)
    call = Scripted(Script(response)).stream(ask())  # type: ignore[arg-type]
    assert (next(call), response.raw.left) == ([TextDelta("a"), Finish("stop")], 1)
    assert next(call, None) is None
    assert response.closed


@pytest.mark.parametrize("rest", [[CUT], [b"rest", b"of it"], [b"x"] * 100_000])
def test_what_comes_after_the_end_is_read_for_the_pool_but_not_for_ever(rest):
    response = Response(b"END\n", *rest)
    assert read(response) == ([[Finish("stop")]], None)
    assert (response.raw.left == 0) is (len(rest) < 10)


def test_an_answer_that_was_waited_for_in_vain_is_not_waited_for_again(monkeypatch):
    monkeypatch.setattr(Upstream, "grace_seconds", 0.6)
    response = Response(b'"a"\ndone\n', HANG)
    begun = time.monotonic()
    assert read(response) == ([[TextDelta("a")], [Finish("stop")]], None)
    assert time.monotonic() - begun < 1.15


def test_closing_the_stream_closes_the_connection():
    response = Response(b'"a"\n', HANG)
    call = Scripted(Script(response)).stream(ask())  # type: ignore[arg-type]
    next(call)
    call.close()
    assert response.closed


def test_a_time_limit_of_the_caller_is_not_taken_for_the_grace():
    response = Response(b"done\n", HANG)
    call = Scripted(Script(response)).stream(ask())  # type: ignore[arg-type]
    next(call)
    with pytest.raises(gevent.Timeout) as raised, gevent.Timeout(0.001) as limit:
        next(call)
    assert raised.value is limit
    assert response.closed


def test_an_answer_that_is_none_closes_the_connection():
    response = Response(b"END\n")
    response.headers = {"Odd": "1"}
    assert read(response) == ([], UpstreamProtocolError)


def test_a_status_is_an_error_of_ours():
    refusal = StatusError(422, Said("bad"))
    with pytest.raises(UpstreamRejected) as raised:
        list(Scripted(Script(refusal)).stream(ask()))  # type: ignore[arg-type]
    assert raised.value.__cause__ is refusal


def test_a_missing_model_is_the_one_that_was_asked_for():
    with pytest.raises(ModelNotFound, match="does not know 'gpt-9'"):
        list(Scripted(Script(StatusError(404, Said("no such model")))).stream(ask(model="gpt-9")))  # type: ignore[arg-type]


def test_an_error_of_the_transport_passes_through():
    with pytest.raises(UpstreamConnectionError):
        list(Scripted(Script(UpstreamConnectionError())).stream(ask()))  # type: ignore[arg-type]


def test_more_text_takes_the_shortcut_and_what_is_something_else_comes_in_its_place():
    told: list[Any] = []
    is_open = True

    def shortcut(text: str) -> bool:
        if is_open:
            told.append(text)
        return is_open

    steps = [b'"a"\n', b'"b"\n', b'"c"\n"d"\n', b"\n", b'"e"\n"', b'f"\n', b"done\n", b'"g"\n', b'"h"\n']
    for events in Scripted(Script(Response(*steps))).stream(ask(), shortcut):  # type: ignore[arg-type]
        told.append(events)
    assert told == [
        [TextDelta("a")],  # there is nothing that it could be like
        "b",
        "cd",
        [TextDelta("e")],
        [TextDelta("f")],
        [],
        [TextDelta("g")],  # behind an end there is a time limit, which must know of it
        [TextDelta("h")],
        [Finish("stop")],
    ]
    is_open = False
    told.clear()
    for events in Scripted(Script(Response(*steps))).stream(ask(), shortcut):  # type: ignore[arg-type]
        told += events
    assert told == [*map(TextDelta, ["a", "b", "cd", "e", "f", "g", "h"]), Finish("stop")]


@pytest.mark.parametrize(
    ("body", "reported"),
    [
        ([b'"a"\nEND\n'], [None]),
        ([b'"a"\n', CUT], [UpstreamIncomplete]),
        ([UpstreamConnectionError()], [UpstreamConnectionError]),
    ],
)
def test_how_an_answer_ends_is_reported_once(body, reported):
    upstream = Scripted(Script(body[0] if isinstance(body[0], Exception) else Response(*body)))
    heard: list[object] = []
    upstream.report = lambda error: heard.append(error and type(error))
    with contextlib.suppress(GatewayError):
        list(upstream.stream(ask()))
    assert heard == reported


def test_an_end_is_reported_though_nothing_reads_on_and_a_client_that_leaves_says_nothing():
    heard: list[object] = []
    for events in (1, 2):
        upstream = Scripted(Script(Response(b'"a"\n', b"END\n", HANG)))
        upstream.report = heard.append
        lists = upstream.stream(ask())
        for _ in range(events):
            next(lists)
        lists.close()
    assert heard == [None]


def test_headers_that_trace_a_request_go_with_it():
    script = Script(Response(b"END\n"))
    list(Scripted(script).stream(msgspec.structs.replace(ask(), trace={"x-request-id": "mine"})))
    assert script.sent[0][2] == {"A": "b", "x-request-id": "mine"}
