"""An upstream's door: what the breaker is told, and that slots come back."""

import contextlib
from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.events import Event, Finish, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import (
    CircuitOpen,
    GatewayError,
    InvalidRequest,
    Overloaded,
    RateLimited,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamRejected,
    UpstreamUnreachable,
)
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.net.lists import Shortcut
from tests.doubles import Scripted, Step, gate

REQUEST = ChatRequest("m", ())
A: list[Event] = [TextDelta("a")]
END: list[Event] = [Finish("stop")]


def half_open(*script: Step) -> UpstreamGate:
    """Return a door whose next request is a probe."""
    door = gate(Scripted(*script), failures=1)
    door.breaker._seconds = -1.0
    door.breaker.failed()
    assert door.breaker.state == "half_open"
    return door


def run(door: UpstreamGate) -> None:
    with contextlib.suppress(GatewayError), contextlib.closing(door.stream(REQUEST)) as lists:
        list(lists)


def test_an_answer_goes_through_and_its_place_comes_back() -> None:
    door = gate(Scripted(A, END), slots=1)
    for _ in range(3):
        lists = door.stream(REQUEST)
        assert (next(lists), door.limit.taken) == (A, 1)
        assert (list(lists), door.limit.taken) == ([END], 0)


@pytest.mark.parametrize(
    "script",
    [[A, END], [[], END], [A, UpstreamIncomplete()], [UpstreamRejected()], [RateLimited()], [UpstreamFailed()]],
)
def test_any_sign_of_life_closes_the_circuit(script: list[Step]) -> None:
    door = half_open(*script)
    run(door)
    assert (door.breaker.state, door.limit.taken) == ("closed", 0)


@pytest.mark.parametrize("error", [UpstreamUnreachable(), InvalidRequest(code="unsupported_image"), Overloaded()])
def test_an_upstream_that_is_not_there_or_was_not_asked_does_not_close_it(error: GatewayError) -> None:
    door = half_open(error)
    run(door)
    assert (door.breaker.state, door.limit.taken) == ("half_open", 0)


def test_a_probe_that_is_killed_while_it_waits_makes_room_for_another() -> None:
    door = half_open(20.0)
    probe = gevent.spawn(run, door)
    gevent.sleep(0.01)
    with pytest.raises(CircuitOpen):
        next(door.stream(REQUEST))
    probe.kill()
    assert door.breaker.enter()
    assert door.limit.taken == 0


def test_a_full_house_asks_nobody_and_an_open_circuit_takes_no_slot() -> None:
    upstream = Scripted(A, END)
    door = gate(upstream, failures=1, slots=1)
    running = door.stream(REQUEST)
    next(running)
    with pytest.raises(Overloaded):
        next(door.stream(REQUEST))
    running.close()
    door.breaker.failed()
    with pytest.raises(CircuitOpen):
        next(door.stream(REQUEST))
    assert (len(upstream.asked), upstream.ended, door.limit.taken) == (1, 1, 0)


def test_a_place_comes_back_whatever_the_closing_of_the_answer_raises() -> None:
    class Failing(Scripted):
        def stream(self, request: ChatRequest, shortcut: Shortcut | None = None) -> Any:
            with contextlib.suppress(GeneratorExit):
                yield A
            raise LookupError("a bug")

    door = gate(Failing())
    lists = door.stream(REQUEST)
    assert (next(lists), door.limit.taken) == (A, 1)
    with pytest.raises(LookupError):
        lists.close()
    assert door.limit.taken == 0
