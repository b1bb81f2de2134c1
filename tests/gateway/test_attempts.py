"""Who is asked, how often, and when nobody is asked again."""

import email.utils
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpt_oss_proxy.chat.events import Event, Finish, Started, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.prepare import Emulation
from gpt_oss_proxy.errors import (
    CircuitOpen,
    GatewayError,
    Overloaded,
    RateLimited,
    UpstreamBadGateway,
    UpstreamConnectionError,
    UpstreamConnectTimeout,
    UpstreamFailed,
    UpstreamFirstEventTimeout,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTls,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gpt_oss_proxy.gateway import attempts as module
from gpt_oss_proxy.gateway.attempts import Attempts, PreparedAttempt
from gpt_oss_proxy.gateway.gate import Attempt, UpstreamGate
from gpt_oss_proxy.net.lists import Shortcut
from tests.doubles import Characters, Scripted, Step, gate, record

A: list[Event] = [TextDelta("a")]
END: list[Event] = [Finish("stop")]
NOT_TAKEN = [UpstreamUnreachable, RateLimited, UpstreamBadGateway, UpstreamUnavailable]
TAKEN = [UpstreamConnectionError, UpstreamIncomplete, UpstreamProtocolError, UpstreamFailed, UpstreamRejected]


class Turns(Scripted):
    """Plays another script for each request, the last one again and again."""

    def __init__(self, *scripts: list[Step], name: str = "scripted") -> None:
        super().__init__()
        self.name = name
        self._scripts = list(scripts)

    def stream(self, request: ChatRequest, shortcut: Shortcut | None = None) -> Any:
        self.script = tuple(self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0])
        return super().stream(request, shortcut)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What was waited between the rounds; nobody really waits."""
    waited: list[float] = []
    monkeypatch.setattr(module.gevent, "sleep", waited.append)
    return waited


def call_of(
    *upstreams: Scripted | UpstreamGate, retries: int = 2, seconds: float = 60.0, may_retry: bool = True
) -> Attempts:
    gates = [door if isinstance(door, UpstreamGate) else gate(door) for door in upstreams]
    return Attempts(
        [PreparedAttempt(door, Emulation(ChatRequest(f"model-{number}", ()))) for number, door in enumerate(gates, 1)],
        record(),
        Characters(),
        retries=retries,
        seconds=seconds,
        may_retry=lambda: may_retry,
        counts=False,
    )


def told(call: Attempts) -> list[Any]:
    """The lists, and the name of the error."""
    found: list[Any] = []
    try:
        found.extend(call)
    except GatewayError as error:
        found.append(type(error).__name__)
    return found


def failure(call: Attempts) -> GatewayError:
    with pytest.raises(GatewayError) as raised:
        list(call)
    return raised.value


def test_an_answer_at_once_is_asked_once(pauses: list[float]) -> None:
    call = call_of(upstream := Scripted(A, END))
    assert told(call) == [A, END]
    assert (len(upstream.asked), len(call._record.asked), call._record.upstream, pauses) == (1, 1, "scripted", [])


@pytest.mark.parametrize("error", NOT_TAKEN)
def test_what_nobody_has_taken_is_asked_again_after_a_pause(error: type[GatewayError], pauses: list[float]) -> None:
    call = call_of(upstream := Turns([error()], [error()], [A, END]))
    assert told(call) == [A, END]
    assert (len(upstream.asked), len(call._record.asked)) == (3, 3)
    assert 0.1 <= pauses[0] <= 0.2 <= pauses[1] <= 0.4


@pytest.mark.parametrize("error", NOT_TAKEN)
def test_when_the_tries_are_used_up_the_client_is_told_not_to_begin_anew(error: type[GatewayError]) -> None:
    found = failure(call_of(upstream := Scripted(error())))
    assert (type(found), found.should_retry, len(upstream.asked)) == (error, False, 3)


@pytest.mark.parametrize("error", NOT_TAKEN)
def test_without_retries_the_client_may_begin_anew(error: type[GatewayError]) -> None:
    found = failure(call_of(upstream := Scripted(error()), retries=0))
    assert (found.should_retry, len(upstream.asked)) == (None, 1)


@pytest.mark.parametrize("error", TAKEN)
def test_what_may_have_been_taken_is_not_asked_again_nor_elsewhere(error: type[GatewayError]) -> None:
    call = call_of(upstream := Scripted(error()), other := Scripted(A, END))
    assert told(call) == [error.__name__]
    assert (len(upstream.asked), other.asked) == (1, [])


@pytest.mark.parametrize("first", [A, [], [Started("x")]], ids=["text", "a sign of life", "an id"])
@pytest.mark.parametrize("error", NOT_TAKEN)
def test_nothing_is_asked_again_once_anything_has_come(first: list[Event], error: type[GatewayError]) -> None:
    call = call_of(upstream := Scripted(first, error()), other := Scripted(A, END))
    assert told(call) == [first, error.__name__]
    assert (len(upstream.asked), other.asked) == (1, [])


def test_an_upstream_that_says_that_it_does_no_harm_is_asked_again_after_a_broken_connection() -> None:
    upstream = Turns([UpstreamConnectionError()], [A, END])
    upstream.repeatable = True
    assert told(call_of(upstream)) == [A, END]


@pytest.mark.parametrize("error", [CircuitOpen, Overloaded, UpstreamConnectTimeout, UpstreamTls])
def test_what_waiting_does_not_help_is_told_at_once(error: type[GatewayError], pauses: list[float]) -> None:
    found = failure(call_of(upstream := Scripted(error())))
    assert (len(upstream.asked), found.should_retry, pauses) == (1, error.should_retry, [])


@pytest.mark.parametrize("error", [*NOT_TAKEN, CircuitOpen, Overloaded, UpstreamConnectTimeout, UpstreamTls])
def test_the_next_upstream_is_asked_at_once_for_its_own_model(error: type[GatewayError], pauses: list[float]) -> None:
    call = call_of(Turns([error()], name="first"), other := Turns([A, END], name="second"))
    assert told(call) == [A, END]
    assert [request.model for request in other.asked] == ["model-2"]
    assert (call._record.upstream, call.asked.upstream, pauses) == ("second", other, [])


def test_why_the_first_was_not_reached_is_noted_though_the_next_one_answers() -> None:
    call = call_of(Scripted(UpstreamTls(reason="certificate has expired")), Scripted(A, END))
    assert told(call) == [A, END]
    assert call._record.reason == "certificate has expired"


def test_all_are_asked_before_anybody_waits_and_the_first_one_s_error_is_told(pauses: list[float]) -> None:
    call = call_of(first := Scripted(UpstreamUnreachable()), second := Scripted(RateLimited()))
    found = failure(call)
    assert (type(found), found.should_retry) == (UpstreamUnreachable, False)
    assert (len(first.asked), len(second.asked), len(pauses)) == (3, 3, 2)


@pytest.mark.parametrize(
    ("says", "waited"),
    [("1", 1.0), ("2", 2.0), ("0", 0.1), (email.utils.formatdate(time.time() - 60, usegmt=True), 0.1)],
    ids=["1", "2", "0", "date"],
)
def test_a_short_retry_after_is_waited_for(says: str, waited: float, pauses: list[float]) -> None:
    assert told(call_of(Turns([RateLimited(retry_after=says)], [END]))) == [END]
    assert waited <= pauses[0] <= max(waited, 0.2)


@pytest.mark.parametrize(
    "says", ["3", "3600", email.utils.formatdate(time.time() + 3600, usegmt=True)], ids=["3", "3600", "date"]
)
def test_a_long_retry_after_is_passed_on_at_once(says: str, pauses: list[float]) -> None:
    found = failure(call_of(upstream := Scripted(RateLimited(retry_after=says))))
    assert (found.retry_after, found.should_retry, len(upstream.asked), pauses) == (says, None, 1, [])


def test_there_is_no_pause_beyond_the_time_that_is_left(pauses: list[float]) -> None:
    found = failure(call_of(upstream := Scripted(UpstreamUnavailable(retry_after="2")), seconds=1))
    assert (len(upstream.asked), found.should_retry, pauses) == (1, None, [])


def test_where_too_many_retry_already_nobody_else_does(pauses: list[float]) -> None:
    found = failure(call_of(upstream := Scripted(UpstreamUnreachable()), may_retry=False))
    assert (len(upstream.asked), found.should_retry, pauses) == (1, None, [])


def test_a_request_that_finds_nobody_counts_once_for_the_circuit_however_often_it_asked() -> None:
    door = gate(Scripted(UpstreamUnreachable()), failures=2)
    assert told(call_of(door)) == ["UpstreamUnreachable"]
    assert door.breaker.state == "closed"
    assert told(call_of(door)) == ["UpstreamUnreachable"]
    assert door.breaker.state == "open"
    assert told(call_of(door)) == ["CircuitOpen"]


def test_a_request_that_is_answered_in_the_end_does_not_count() -> None:
    door = gate(Turns([UpstreamUnreachable()], [A, END]), failures=1)
    assert told(call_of(door)) == [A, END]
    assert door.breaker.state == "closed"


def test_an_upstream_that_was_not_there_counts_also_when_another_has_answered() -> None:
    door = gate(Scripted(UpstreamUnreachable()), failures=1)
    lists = call_of(door, Scripted(A, END))
    assert next(lists) == A
    assert door.breaker.state == "open"


@pytest.mark.parametrize("error", [RateLimited, UpstreamRejected, UpstreamFailed, UpstreamProtocolError, UpstreamTls])
def test_what_a_living_upstream_says_does_not_open_the_circuit(error: type[GatewayError]) -> None:
    door = gate(Scripted(error()), failures=1)
    told(call_of(door, retries=0))
    assert door.breaker.state == "closed"


def test_silence_before_the_first_event_counts_for_the_circuit() -> None:
    door = gate(Scripted([], 20.0), failures=1)
    call = call_of(door)
    assert next(call) == []
    call.timed_out()
    assert door.breaker.state == "open"
    assert UpstreamFirstEventTimeout.unhealthy


def test_who_did_not_accept_a_connection_in_time_is_not_asked_again_with_the_others() -> None:
    call = call_of(first := Scripted(UpstreamUnreachable()), second := Scripted(UpstreamConnectTimeout()))
    assert told(call) == ["UpstreamUnreachable"]
    assert (len(first.asked), len(second.asked)) == (3, 1)


def test_a_call_that_is_closed_closes_its_upstream() -> None:
    lists = call_of(upstream := Scripted(A, A, END))
    assert next(lists) == A
    lists.close()
    assert upstream.ended == 1


def test_a_call_lets_its_upstream_go_whatever_the_closing_of_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    call = call_of(Scripted(A, END))
    assert next(call) == A

    def fail(_visit: Attempt) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Attempt, "end", fail)
    with pytest.raises(LookupError):
        call.close()
    assert call._asking is None
