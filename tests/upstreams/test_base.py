"""What every upstream is: decoding as bytes come, how an answer ends, and what takes a shortcut."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
import pytest
import urllib3
from requests.structures import CaseInsensitiveDict

from gpt_oss_proxy import sse
from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import (
    GatewayError,
    UpstreamConnectionError,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTooLarge,
)
from gpt_oss_proxy.upstreams import base
from gpt_oss_proxy.upstreams.base import (
    Decoder,
    Model,
    Upstream,
)
from gpt_oss_proxy.upstreams.transport import HTTPStatusError
from tests.upstreams.decoding import ask


class Lines(Decoder):
    """Each line is text, but for some words; `done` is the terminal event, after which more may follow."""

    TEXT_MARK = b'"'

    def __init__(self) -> None:
        super().__init__(sse.LineDecoder(1000))

    def decode(self, record: bytes) -> None:
        match record:
            case b"{":
                raise UpstreamProtocolError
            case b"done":
                self.complete = True
            case b"END":
                self.complete = self.ended = True
            case b"fail":
                raise UpstreamFailed
            case b"":
                pass
            case _:
                self.say(json.loads(record))

    def more_text(self, record: bytes) -> str:
        return json.loads(record) if record.startswith(b'"') else ""

    def finish(self) -> None:
        if not self.complete:
            raise UpstreamIncomplete
        self.emit(Finish("stop"))


# A decoder


def test_bytes_that_complete_no_record_are_told_apart_from_records_that_tell_nothing():
    decoder = Lines()
    assert [decoder.feed(data) for data in (b'"a', b'"', b"\n", b'""\n', b'"b"\n"c"\n')] == [
        None,
        None,
        [TextDelta("a")],
        [],
        [TextDelta("bc")],
    ]


def test_blank_lines_are_no_sign_of_life():
    assert Lines().feed(b"\n\r\n\n") is None


def test_an_error_does_not_lose_the_events_before_it():
    decoder = Lines()
    assert decoder.feed(b'"a"\nfail\n"b"\n') == [TextDelta("a")]
    assert type(decoder.failure) is UpstreamFailed


def test_a_record_above_the_limit_is_a_failure():
    decoder = Lines()
    assert decoder.feed(b"x" * 1001) == []
    assert type(decoder.failure) is UpstreamTooLarge


def test_an_answer_that_grows_without_end_is_a_failure(monkeypatch):
    monkeypatch.setattr(base, "_LONGEST_ANSWER", 10)
    for grow in (Decoder.say, Decoder.think, lambda decoder, text: decoder.call(0, arguments=text)):
        decoder = Lines()
        grow(decoder, "x" * 10)
        with pytest.raises(UpstreamTooLarge):
            grow(decoder, "x")


@pytest.mark.parametrize("nonsense", [b"{\n", b"x" * 2000])
def test_what_is_no_record_ends_an_answer_that_is_whole(nonsense):
    decoder = Lines()
    assert decoder.feed(b'"a"\ndone\n' + nonsense) == [TextDelta("a")]
    assert (decoder.failure, decoder.ended) == (None, True)


def test_records_after_the_end_are_not_read():
    decoder = Lines()
    assert decoder.feed(b'"a"\nEND\n"b"\nfail\n') == [TextDelta("a")]
    assert (decoder.ended, decoder.failure) == (True, None)
    assert decoder.close() == [Finish("stop")]


def test_half_characters_of_text_and_reasoning_wait_each_for_its_own_half():
    decoder = Lines()
    decoder.say("\ud83d")
    decoder.think("\ud83d")
    decoder.say("\ude00")
    decoder.think("x\udbff")
    decoder.say("a\ud83d")
    decoder.complete = True
    assert decoder.close() == [
        TextDelta("😀"),
        ReasoningDelta("\ufffdx"),
        TextDelta("a"),
        ReasoningDelta("\ufffd"),
        TextDelta("\ufffd"),
        Finish("stop"),
    ]


@pytest.mark.parametrize("reference", ["", "a\ud83d", "é", "a b", "a" * 129, "http://10.1.2.3/a", "db.internal", "::1"])
def test_what_may_be_more_than_an_id_is_no_reference(reference):
    decoder = Lines()
    decoder.start(reference)
    decoder.start("thr_1-a=")
    decoder.complete = True
    assert decoder.close() == [Started("thr_1-a="), Finish("stop")]


def test_empty_text_and_a_second_start_are_no_events():
    decoder = Lines()
    decoder.start("a")
    decoder.start("b")
    decoder.say("")
    decoder.think("")
    decoder.call(7, call_id="\ud83d", name="\ud83d", arguments="\ud83d")
    decoder.complete = True
    assert decoder.close() == [Started("a"), ToolCallDelta(7, "\ufffd", "\ufffd", "\ufffd"), Finish("stop")]


# The stream


class Raw:
    """A body that comes as the script says: bytes, an exception, or seconds of silence."""

    def __init__(self, *script: bytes | Exception | float) -> None:
        self._script = list(script)
        self.left = len(script)
        self.taker: Callable[[bytes], bool] | None = None

    def offer(self, taker: Callable[[bytes], bool]) -> None:
        self.taker = taker

    def read1(self, _size: int, *, decode_content: bool) -> bytes:
        assert decode_content
        while self._script:
            step = self._script.pop(0)
            self.left -= 1
            if isinstance(step, bytes):
                if self.taker and self.taker(step):
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


def test_records_that_mean_nothing_do_not_renew_the_grace():
    response = Response(b"done\n", *[0.03, b"\n"] * 100)
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


def test_an_answer_that_was_waited_for_in_vain_is_not_waited_for_again():
    response = Response(b'"a"\ndone\n', HANG)
    begun = time.monotonic()
    assert read(response) == ([[TextDelta("a")], [Finish("stop")]], None)
    assert time.monotonic() - begun < 0.25  # a grace is 0.15


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
    refusal = HTTPStatusError(422, "bad", "", None)
    with pytest.raises(UpstreamRejected) as raised:
        list(Scripted(Script(refusal)).stream(ask()))  # type: ignore[arg-type]
    assert raised.value.__cause__ is refusal


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
