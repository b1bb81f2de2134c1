"""Several calls as one answer."""

from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.events import Choice, Event, Finish, Started, TextDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.prepare import Emulation
from gpt_oss_proxy.errors import GatewayError, InternalError, RateLimited, UpstreamIncomplete
from gpt_oss_proxy.gateway.attempts import Attempts, PreparedAttempt
from gpt_oss_proxy.gateway.choices import Choices
from tests.doubles import Characters, Scripted, Step, gate, record

LONG = 20.0
A: list[Event] = [TextDelta("a")]
B: list[Event] = [TextDelta("b")]
END: list[Event] = [Finish("stop")]


def choices_of(*upstreams: Scripted, counts: bool = False) -> Choices:
    tasks = [PreparedAttempt(gate(upstream), Emulation(ChatRequest("m", ()))) for upstream in upstreams]
    fields: dict[str, Any] = {"retries": 0, "seconds": 60.0, "may_retry": lambda: True, "counts": counts}
    return Choices([Attempts([task], record(), Characters(), **fields) for task in tasks])


def told(*scripts: list[Step]) -> list[list[Event]]:
    return list(choices_of(*(Scripted(*script) for script in scripts)))


def test_lists_come_as_they_come_each_with_its_choice() -> None:
    assert told([A, 0.04, A, END], [0.02, B, 0.04, END]) == [
        [Choice(0), *A],
        [Choice(1), *B],
        [Choice(0), *A],
        [],
        [],
        [Finish("stop", ("stop",))],
    ]


def test_how_each_ended_is_told_when_all_have() -> None:
    *_, last = told([A, 0.03, [Finish("length")]], [[*B, Finish("tool_calls")]], [[Finish("content_filter")]])
    assert last == [Finish("length", ("tool_calls", "content_filter"))]


def test_usage_is_summed() -> None:
    scripted = [Scripted([*A, Usage(1, 2, 3, 4), *END]), Scripted(0.01, [Usage(10, 20), *END])]
    assert list(choices_of(*scripted))[-1] == [Usage(11, 22, 3, 4), Finish("stop", ("stop",))]
    counted = list(choices_of(Scripted(A, END), Scripted(B, END), counts=True))
    assert counted[-1] == [Usage(6, 2), Finish("stop", ("stop",))]


def test_a_number_that_lacks_a_choice_is_not_told() -> None:
    assert told([[Usage(1, 1), *END]], [END])[-1] == [Finish("stop", ("stop",))]


def test_one_beginning_is_told_and_silence_is_passed_on() -> None:
    lists = told([[Started("x")], A, END], [0.01, [Started("y"), *B], [], END])
    assert [event for events in lists for event in events if isinstance(event, Started)] == [Started("x")]
    assert [] in lists


@pytest.mark.parametrize("error", [RateLimited(), UpstreamIncomplete()])
def test_one_that_fails_fails_all_and_ends_the_others(error: GatewayError) -> None:
    other = Scripted(A, LONG)
    failing = Scripted(0.01, error)
    found: list[list[Event]] = []
    with pytest.raises(type(error)):
        found.extend(choices_of(other, failing))
    gevent.sleep(0.01)
    assert found == [[Choice(0), *A]]
    assert (other.ended, failing.ended) == (1, 1)


def test_a_bug_in_one_is_no_endless_wait() -> None:
    with pytest.raises(InternalError):
        told([A, LONG], [RuntimeError("a bug")])


def test_whoever_stops_reading_ends_all() -> None:
    upstreams = [Scripted(A, LONG) for _ in range(3)]
    lists = choices_of(*upstreams)
    next(lists)
    gevent.sleep(0.01)
    lists.close()
    gevent.sleep(0.01)
    assert [upstream.ended for upstream in upstreams] == [1, 1, 1]


def test_a_slow_reader_slows_the_upstreams() -> None:
    upstream = Scripted(*[A] * 200, END)
    lists = choices_of(upstream, Scripted(LONG))
    next(lists)
    gevent.sleep(0.01)
    assert upstream.delivered < 30
    lists.close()


def test_no_more_than_eight_are_asked_at_once() -> None:
    upstreams = [Scripted(0.02, A, END) for _ in range(20)]
    lists = choices_of(*upstreams)
    reader = gevent.spawn(list, lists)
    gevent.sleep(0.01)
    assert sum(len(upstream.asked) for upstream in upstreams) == 8
    assert reader.get()[-1] == [Finish("stop", ("stop",) * 19)]


def test_silence_is_told_to_the_circuits_of_those_that_were_silent() -> None:
    heard, silent = Scripted(A, LONG), Scripted(LONG)
    choices = choices_of(heard, silent)
    lists = choices
    next(lists)
    told_of: list[str] = []
    for call, name in zip(choices._calls, ("heard", "silent"), strict=True):
        call.timed_out = lambda name=name: told_of.append(name)  # type: ignore[method-assign]
    choices.timed_out()
    lists.close()
    assert told_of == ["silent"]
