"""One upstream call, watched. Limits that must run out are small, limits that must not are large."""

from collections.abc import Generator
from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.events import Event, Finish, Started, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, RateLimited, UpstreamIncomplete
from gpt_oss_proxy.gateway.relay import ClientGone, Relay, TimeLimits
from tests.doubles import Scripted, Step

LONG = 20.0
A: list[Event] = [TextDelta("a")]
B: list[Event] = [TextDelta("b")]
END: list[Event] = [Finish("stop")]
REQUEST = ChatRequest("m", ())


def relay_of(upstream: Scripted, idle: float = LONG, total: float = LONG, keepalive: float = LONG) -> Relay:
    return Relay(upstream.stream(REQUEST), TimeLimits(idle, total, keepalive))


def told(*script: Step, **limits: float) -> list[Any]:
    """What a relay over this script tells: its lists, and the name of its error."""
    return heard(relay_of(Scripted(*script), **limits))


def heard(relay: Relay) -> list[Any]:
    found: list[Any] = []
    try:
        found.extend(relay)
    except (GatewayError, ClientGone) as error:
        found.append(type(error).__name__)
    return found


def settle() -> None:
    """Let every greenlet do what it can do now."""
    for _ in range(30):
        gevent.sleep(0)


def test_lists_come_as_they_are_and_end_with_finish() -> None:
    both: list[Event] = [*A, *END]
    assert told([Started("x")], A, [*A, *B], END) == [[Started("x")], A, [*A, *B], END]
    assert told(both) == [both]


def test_what_comes_after_finish_is_not_told() -> None:
    assert told(A, END, B) == [A, END]
    assert told(A, END, RateLimited()) == [A, END]


def test_a_call_that_goes_on_after_finish_is_ended() -> None:
    upstream = Scripted(A, END, *[A] * 100, LONG)
    assert heard(relay_of(upstream)) == [A, END]
    settle()
    assert (upstream.ended, upstream.delivered) == (1, 3)


def test_a_failure_comes_after_what_was_said_before_it() -> None:
    assert told(RateLimited()) == ["RateLimited"]
    assert told(A, B, UpstreamIncomplete()) == [A, B, "UpstreamIncomplete"]


def test_the_very_error_is_raised() -> None:
    error = RateLimited("Slowly.", retry_after="17")
    with pytest.raises(RateLimited) as raised:
        list(relay_of(Scripted(error)))
    assert raised.value is error


@pytest.mark.parametrize("bug", [ValueError("bug"), AssertionError(), gevent.Timeout(1)])
@pytest.mark.parametrize("before", [[], [A]])
def test_a_bug_of_an_upstream_is_an_internal_error(bug: BaseException, before: list[Step]) -> None:
    assert told(*before, bug) == [*before, "InternalError"]


@pytest.mark.parametrize("script", [[], [A], [A, []]])
def test_a_call_that_ends_without_finish_is_never_a_clean_end(script: list[Step]) -> None:
    assert told(*script)[-1] == "InternalError"


def test_silence_before_the_first_event_and_between_events_are_told_apart() -> None:
    assert told(LONG, idle=0.02) == ["UpstreamFirstEventTimeout"]
    assert told(A, LONG, idle=0.05) == [A, "UpstreamIdleTimeout"]


def test_an_upstream_that_is_alive_but_tells_nothing_has_begun() -> None:
    assert told([], LONG, idle=0.02) == ["UpstreamIdleTimeout"]


@pytest.mark.parametrize("sign", [A, []])
def test_every_sign_of_life_starts_the_silence_anew(sign: list[Event]) -> None:
    script: list[Step] = [step for _ in range(8) for step in (sign, 0.15)]
    assert told(*script, END, idle=1)[-1] == END


def test_the_whole_answer_is_limited() -> None:
    assert told(LONG, total=0.02) == ["TotalTimeout"]
    assert told(A, LONG, total=0.1) == [A, "TotalTimeout"]


@pytest.mark.parametrize("sign", [A, []])
def test_the_whole_answer_is_limited_also_while_events_keep_coming(sign: list[Event]) -> None:
    def forever() -> Generator[list[Event], None, None]:
        while True:
            yield sign

    assert heard(Relay(forever(), TimeLimits(LONG, 0.03, LONG)))[-1] == "TotalTimeout"


def test_a_call_is_ended_when_its_time_is_over() -> None:
    upstream = Scripted(A, LONG)
    assert heard(relay_of(upstream, idle=0.05)) == [A, "UpstreamIdleTimeout"]
    settle()
    assert upstream.ended == 1


@pytest.mark.parametrize("before", [[], [A]])
def test_while_the_upstream_is_silent_keepalives_fall_due(before: list[Step]) -> None:
    lists = told(*before, 0.12, B, END, keepalive=0.025)
    keepalives = lists[len(before) : -2]
    assert lists == [*before, *keepalives, B, END]
    assert 1 <= len(keepalives) <= 5
    assert keepalives == [[]] * len(keepalives)


def test_signs_of_life_that_tell_nothing_do_not_put_a_keepalive_off() -> None:
    script: list[Step] = [step for _ in range(8) for step in ([], 0.01)]
    assert [] in told(*script, END, keepalive=0.03)


def test_without_silence_there_is_no_keepalive() -> None:
    assert told([], A, [], B, [], END, keepalive=LONG) == [A, B, END]


def test_a_slow_reader_is_no_silent_upstream() -> None:
    relay = iter(relay_of(Scripted(A, B, END), idle=0.02, keepalive=0.02))
    lists = []
    for events in relay:
        lists.append(events)
        gevent.sleep(0.04)
    assert lists == [A, B, END]


def test_nothing_is_read_ahead_of_a_slow_reader() -> None:
    upstream = Scripted(*[A] * 100, END)
    relay = relay_of(upstream)
    settle()
    assert upstream.delivered == 1
    reader = iter(relay)
    for delivered in (1, 2):
        assert next(reader) == A
        settle()
        assert upstream.delivered == delivered
    assert list(reader) == [*[A] * 98, END]


def test_lists_that_tell_nothing_take_no_room() -> None:
    assert told(*[[]] * 50, A, END) == [A, END]


def test_an_upstream_that_sends_without_a_pause_lets_others_run() -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0)

    other = gevent.spawn(tick)
    told(*[A] * 500, END)
    other.kill()
    assert ticks >= 5


def test_a_relay_that_is_closed_at_once_asks_nobody() -> None:
    upstream = Scripted(A, END)
    relay_of(upstream).close()
    settle()
    assert upstream.asked == []


@pytest.mark.parametrize("script", [[LONG], [A, LONG], [A] * 100], ids=["silent", "begun", "waiting for room"])
def test_a_relay_that_is_closed_before_it_was_read_ends_its_call(script: list[Step]) -> None:
    upstream = Scripted(*script)
    relay = relay_of(upstream)
    settle()
    assert (len(upstream.asked), upstream.ended) == (1, 0)
    relay.close()
    settle()
    assert upstream.ended == 1


@pytest.mark.parametrize("script", [[A, LONG], [A] * 100], ids=["silent", "waiting for room"])
def test_a_reader_that_stops_in_the_middle_ends_the_call(script: list[Step]) -> None:
    upstream = Scripted(*script)
    reader = iter(relay_of(upstream))
    assert next(reader) == A
    reader.close()  # type: ignore[attr-defined] # it is a generator
    settle()
    assert upstream.ended == 1


def test_after_finish_the_call_may_run_on_to_give_its_connection_back() -> None:
    upstream = Scripted(A, END, 0.05)
    relay = relay_of(upstream)
    assert heard(relay) == [A, END]
    relay.close()
    settle()
    assert upstream.ended == 0
    gevent.sleep(0.1)
    assert upstream.ended == 1


@pytest.mark.parametrize("script", [[LONG], [[], LONG]])
def test_whoever_waits_is_told_at_once_when_the_client_leaves(script: list[Step]) -> None:
    upstream = Scripted(*script)
    relay = relay_of(upstream)
    # As the watch calls it: from the hub, where nothing may block.
    timer = gevent.get_hub().loop.timer(0.02)
    timer.start(lambda: relay.stop(ClientGone()))
    with gevent.Timeout(1):
        assert heard(relay) == ["ClientGone"]
    timer.close()
    settle()
    assert upstream.ended == 1


def test_a_call_that_is_stopped_before_anybody_reads_tells_why() -> None:
    relay = relay_of(Scripted(A, LONG))
    settle()
    relay.stop(ClientGone())
    assert heard(relay) == [A, "ClientGone"]


def test_stopping_after_the_end_does_no_harm() -> None:
    relay = relay_of(Scripted(A, END))
    assert heard(relay) == [A, END]
    relay.stop(ClientGone())
    relay.close()
    relay.close()
    assert heard(relay) == []
