"""One upstream call, watched. Limits that must run out are small, limits that must not are large."""

import gc
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import gevent
import greenlet
import pytest

from gpt_oss_proxy.chat.events import Event, Finish, Started, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, RateLimited, TotalTimeout, UpstreamIncomplete
from gpt_oss_proxy.net.relay import ClientGone, Relay, TimeLimits
from tests.doubles import Other, Scripted, Step

LONG = 20.0
A: list[Event] = [TextDelta("a")]
B: list[Event] = [TextDelta("b")]
END: list[Event] = [Finish("stop")]
REQUEST = ChatRequest("m", ())


def relay_of(upstream: Scripted, idle: float = LONG, total: float = LONG, keepalive: float = LONG) -> Relay:
    return Relay(upstream.stream(REQUEST), TimeLimits(idle, total, keepalive))


def told(*script: Step, **limits: float) -> list[Any]:
    """What a relay over this script tells: its lists, and the name of its error. Pushed ones are the same."""
    found = heard(relay_of(Scripted(*script), **limits))
    if not limits:  # else time decides
        assert pushed(relay_of(Scripted(*script))) == found
    return found


def heard(relay: Relay) -> list[Any]:
    found: list[Any] = []
    try:
        found.extend(relay)
    except (GatewayError, ClientGone) as error:
        found.append(type(error).__name__)
    return found


def pushed(relay: Relay) -> list[Any]:
    found: list[Any] = []
    try:
        relay.push(found.append)
    except (GatewayError, ClientGone) as error:
        found.append(type(error).__name__)
    return found


EITHER = pytest.mark.parametrize("hear", [heard, pushed])
Hear = Callable[[Relay], list[Any]]


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


@EITHER
def test_a_call_that_goes_on_after_finish_is_ended(hear: Hear) -> None:
    upstream = Scripted(A, END, *[A] * 100, LONG)
    assert hear(relay_of(upstream)) == [A, END]
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
    with pytest.raises(RateLimited) as raised:
        relay_of(Scripted(A, error)).push(lambda _events: None)
    assert raised.value is error


@pytest.mark.parametrize("bug", [ValueError("bug"), AssertionError(), gevent.Timeout(1)])
@pytest.mark.parametrize("before", [[], [A]])
def test_a_bug_of_an_upstream_is_an_internal_error(bug: BaseException, before: list[Step]) -> None:
    assert told(*before, bug) == [*before, "InternalError"]


@pytest.mark.parametrize("script", [[], [A], [A, []]])
def test_a_call_that_ends_without_finish_is_never_a_clean_end(script: list[Step]) -> None:
    assert told(*script)[-1] == "InternalError"


@EITHER
def test_silence_before_the_first_event_and_between_events_are_told_apart(hear: Hear) -> None:
    assert hear(relay_of(Scripted(LONG), idle=0.02)) == ["UpstreamFirstEventTimeout"]
    assert hear(relay_of(Scripted(A, LONG), idle=0.05)) == [A, "UpstreamIdleTimeout"]


def test_an_upstream_that_is_alive_but_tells_nothing_has_begun() -> None:
    assert told([], LONG, idle=0.02) == ["UpstreamIdleTimeout"]


@EITHER
@pytest.mark.parametrize("sign", [A, []])
def test_every_sign_of_life_starts_the_silence_anew(sign: list[Event], hear: Hear) -> None:
    script: list[Step] = [step for _ in range(8) for step in (sign, 0.15)]
    assert hear(relay_of(Scripted(*script, END), idle=1))[-1] == END


@EITHER
def test_the_whole_answer_is_limited(hear: Hear) -> None:
    assert hear(relay_of(Scripted(LONG), total=0.02)) == ["TotalTimeout"]
    assert hear(relay_of(Scripted(A, LONG), total=0.1)) == [A, "TotalTimeout"]


@EITHER
@pytest.mark.parametrize("sign", [A, []])
def test_the_whole_answer_is_limited_also_while_events_keep_coming(sign: list[Event], hear: Hear) -> None:
    def forever() -> Generator[list[Event], None, None]:
        while True:
            yield sign

    assert hear(Relay(forever(), TimeLimits(LONG, 0.03, LONG)))[-1] == "TotalTimeout"


@EITHER
def test_a_call_is_ended_when_its_time_is_over(hear: Hear) -> None:
    upstream = Scripted(A, LONG)
    assert hear(relay_of(upstream, idle=0.05)) == [A, "UpstreamIdleTimeout"]
    settle()
    assert upstream.ended == 1


@EITHER
@pytest.mark.parametrize("before", [[], [A]])
def test_while_the_upstream_is_silent_keepalives_fall_due(before: list[Step], hear: Hear) -> None:
    lists = hear(relay_of(Scripted(*before, 0.12, B, END), keepalive=0.025))
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
    with Other() as other:
        told(*[A] * 500, END)
    assert other.turns >= 5


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


@EITHER
def test_after_finish_the_call_may_run_on_to_give_its_connection_back(hear: Hear) -> None:
    upstream = Scripted(A, END, 0.05)
    relay = relay_of(upstream)
    assert hear(relay) == [A, END]
    relay.close()
    settle()
    assert upstream.ended == 0
    gevent.sleep(0.1)
    assert upstream.ended == 1


@EITHER
@pytest.mark.parametrize("script", [[LONG], [[], LONG]])
def test_whoever_waits_is_emitted_at_once_when_the_client_leaves(script: list[Step], hear: Hear) -> None:
    upstream = Scripted(*script)
    relay = relay_of(upstream)
    # As the watch calls it: from the hub, where nothing may block.
    timer = gevent.get_hub().loop.timer(0.02)
    timer.start(lambda: relay.stop(ClientGone()))
    with gevent.Timeout(1):
        assert hear(relay) == ["ClientGone"]
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


# What only pushed lists have: they are told in the call's greenlet, and whoever waits must not come in between.


class Slow:
    """Takes its time for each list, and fails if two are told at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.told: list[Any] = []
        self._busy = False

    def __call__(self, events: list[Event]) -> None:
        assert not self._busy
        self._busy = True
        gevent.sleep(self.seconds)
        self.told.append(events)
        self._busy = False


def test_some_may_be_taken_first_and_the_rest_pushed() -> None:
    relay = relay_of(Scripted(A, B, END))
    assert next(iter(relay)) == A
    assert pushed(relay) == [B, END]


def test_nothing_is_read_ahead_of_a_slow_teller() -> None:
    upstream = Scripted(*[A] * 100, END)
    slow = Slow(0.01)
    pushing = gevent.spawn(relay_of(upstream).push, slow)
    gevent.sleep(0.035)
    assert upstream.delivered <= len(slow.told) + 1
    pushing.kill()
    settle()
    assert upstream.ended == 1


def test_a_slow_teller_is_no_silent_upstream_and_gets_no_keepalive_in_between() -> None:
    slow = Slow(0.04)
    relay_of(Scripted(A, B, END), idle=0.02, keepalive=0.01).push(slow)
    assert [events for events in slow.told if events] == [A, B, END]


def test_what_comes_while_a_keepalive_is_told_is_told_after_it() -> None:
    slow = Slow(0.03)
    relay_of(Scripted(0.03, A, B, END), keepalive=0.02).push(slow)
    assert slow.told[0] == []
    assert [events for events in slow.told if events] == [A, B, END]


@pytest.mark.parametrize("limits", [{"total": 0.02}, {}])
def test_an_end_waits_until_what_is_being_told_is_told(limits: dict[str, float]) -> None:
    upstream = Scripted(A, LONG)
    slow = Slow(0.06)
    relay = relay_of(upstream, **limits)
    if not limits:
        gevent.spawn_later(0.02, relay.stop, TotalTimeout())
    begun = time.monotonic()
    with pytest.raises(TotalTimeout):
        relay.push(slow)
    assert (slow.told, time.monotonic() - begun >= 0.06) == ([A], True)
    assert upstream.ended == 1


def test_the_upstream_need_not_wait_for_a_slow_client_that_is_given_up() -> None:
    upstream = Scripted(A, LONG)
    relay = relay_of(upstream)
    pushing = gevent.spawn(pushed_slowly, relay, 0.2)
    gevent.sleep(0.03)
    relay.stop(ClientGone())
    gevent.sleep(0.01)
    assert (upstream.ended, pushing.dead) == (1, False)
    assert pushing.get() == "ClientGone"


def pushed_slowly(relay: Relay, seconds: float) -> str:
    try:
        relay.push(Slow(seconds))
    except ClientGone as error:
        return type(error).__name__
    return ""


def test_an_end_that_comes_while_the_last_list_is_told_does_no_harm() -> None:
    relay = relay_of(Scripted(A, END), total=0.05)
    slow = Slow(0.04)
    relay.push(slow)
    assert slow.told == [A, END]


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("bug"), RateLimited()])
def test_what_the_teller_raises_is_raised_to_whoever_has_given_it(error: Exception) -> None:
    def fail(_events: list[Event]) -> None:
        raise error

    upstream = Scripted(A, LONG)
    with pytest.raises(type(error)) as raised:
        relay_of(upstream).push(fail)
    assert raised.value is error
    settle()
    assert upstream.ended == 1


def test_whoever_is_killed_while_his_lists_are_pushed_ends_the_call() -> None:
    upstream = Scripted(A, LONG)
    pushing = gevent.spawn(relay_of(upstream).push, Slow(0))
    gevent.sleep(0.02)
    pushing.kill()
    settle()
    assert upstream.ended == 1


def test_a_kill_that_comes_when_a_list_has_begun_to_be_told_waits_for_it() -> None:
    asking: list[Any] = []
    asked_again: list[bool] = []

    def lists() -> Generator[list[Event], None, None]:
        asking.append(greenlet.getcurrent())
        gevent.get_hub().switch()
        yield A
        asked_again.append(True)

    slow = Slow(0.02)
    relay = Relay(lists(), TimeLimits(LONG, LONG, LONG))
    pushing = gevent.spawn(relay.push, slow)
    gevent.sleep(0.01)
    loop = gevent.get_hub().loop
    loop.run_callback(lambda: relay.stop(ClientGone()))  # as the watch does, in the turn in which data have come
    loop.run_callback(asking[0].switch)
    with pytest.raises(ClientGone):
        pushing.get()
    assert (slow.told, asked_again) == ([A], [])


@pytest.mark.parametrize("hear", [heard, pushed])
@pytest.mark.parametrize("script", [[A, END], [[*A, *END]]])
def test_an_answer_that_is_over_is_freed_without_the_garbage_collector(hear: Hear, script: list[Step]) -> None:
    gc.disable()
    try:
        relay = relay_of(Scripted(*script))
        alive = weakref.ref(relay)
        assert hear(relay) == script
        settle()
        del relay
        assert alive() is None
    finally:
        gc.enable()


def test_no_keepalive_comes_behind_the_end() -> None:
    found: list[Any] = []
    relay = relay_of(Scripted(A, END), keepalive=0.01)

    def tell(events: list[Event]) -> None:
        found.append(events)
        if events == END:
            gevent.get_hub().loop.run_callback(late)

    def late() -> None:  # before whoever waits is told that it was the last
        relay._emitted_at = 0.0
        relay._tick()

    relay.push(tell)
    assert found == [A, END]


class Client:
    unsent = b""


def test_a_shortcut_tells_in_its_place_and_is_closed_while_it_must_be() -> None:
    client = Client()
    upstream = Scripted(A, 0.3, B, LONG)
    relay = relay_of(upstream)
    shortcut = relay.shortcut(client)
    assert not shortcut("before it is pushed")
    found: list[Any] = []

    def tell(events: list[Event]) -> None:
        found.append(events)
        if events != [TextDelta("x")]:
            assert not shortcut("while something is told")

    pushing = gevent.spawn(relay.push, tell)
    gevent.sleep(0.01)
    client.unsent = b"x"
    assert not shortcut("while the client does not read")
    client.unsent = b""
    taken: list[bool] = []
    gevent.get_hub().loop.run_callback(lambda: taken.append(shortcut("x")))
    with gevent.Timeout(5):
        while len(found) < 3:
            gevent.sleep(0.01)
    assert (found, taken) == ([A, [TextDelta("x")], B], [True])
    relay.stop(ClientGone())
    assert not shortcut("behind the end")
    with pytest.raises(ClientGone):
        pushing.get()
    assert not shortcut("behind all")


def test_what_takes_a_shortcut_is_heard_and_told() -> None:
    relay = relay_of(Scripted(A, 0.7, END), idle=0.3, keepalive=0.3)
    shortcut = relay.shortcut(Client())
    found: list[Any] = []
    pushing = gevent.spawn(relay.push, found.append)
    for _ in range(5):
        gevent.sleep(0.1)
        assert shortcut("x")
    pushing.get()
    assert found == [A, *[[TextDelta("x")]] * 5, END]


def test_what_cannot_be_told_by_a_shortcut_is_raised_where_it_was_pushed() -> None:
    upstream = Scripted(A, LONG)
    relay = relay_of(upstream)
    shortcut = relay.shortcut(Client())

    def tell(events: list[Event]) -> None:
        if events != A:
            raise BrokenPipeError("gone")

    pushing = gevent.spawn(relay.push, tell)
    gevent.sleep(0.01)
    assert shortcut("x")  # nobody else may tell it now
    assert not shortcut("y")
    with pytest.raises(BrokenPipeError):
        pushing.get()
    settle()
    assert upstream.ended == 1


# A client that leaves


@EITHER
def test_a_call_ends_with_its_client(hear: Hear) -> None:
    upstream = Scripted(A, LONG)
    relay = relay_of(upstream)
    gevent.spawn_later(0.01, relay.leave)
    assert hear(relay) == [A, "ClientGone"]
    settle()
    assert (upstream.ended, relay.left) == (1, False)


@EITHER
@pytest.mark.parametrize("after", [0.0, 0.015, 0.035, 0.055])
def test_a_call_that_outlives_its_client_goes_on_where_that_has_left(hear: Hear, after: float) -> None:
    upstream = Scripted(A, 0.02, B, 0.02, END)
    relay = relay_of(upstream)
    relay.outlives_client = True
    gevent.spawn_later(after, relay.leave)
    found = hear(relay)
    if after < 0.05:
        assert found.pop() == "ClientGone"
        gevent.sleep(0.02)
        assert (relay.left, upstream.ended) == (True, 0)
        relay.resume(found)
        found = heard(relay)
    assert found == [A, B, END]
    settle()
    assert upstream.ended == 1


def test_a_client_that_leaves_before_it_waits_is_gone_when_it_does() -> None:
    relay = relay_of(Scripted(A, END))
    relay.outlives_client = True
    relay.leave()
    relay.leave()
    settle()
    assert heard(relay) == ["ClientGone"]
    relay.resume(())
    assert heard(relay) == [A, END]


def test_its_limits_hold_while_no_client_is_there() -> None:
    upstream = Scripted(LONG)
    relay = relay_of(upstream, total=0.05)
    relay.outlives_client = True
    gevent.spawn_later(0.01, relay.leave)
    assert heard(relay) == ["ClientGone"]
    gevent.sleep(0.1)
    assert upstream.ended == 1
    relay.resume(())
    assert heard(relay) == ["TotalTimeout"]


def test_a_call_that_is_resumed_may_be_left_once_more_and_ends_then() -> None:
    upstream = Scripted(A, LONG)
    relay = relay_of(upstream)
    relay.outlives_client = True
    gevent.spawn_later(0.01, relay.leave)
    heard(relay)
    relay.resume(())
    gevent.spawn_later(0.01, relay.leave)
    assert heard(relay) == ["ClientGone"]
    settle()
    assert upstream.ended == 1


def test_whoever_waits_is_woken_whatever_the_closing_of_the_call_raises(capsys: pytest.CaptureFixture[str]) -> None:
    class Failing:
        def __iter__(self) -> Iterator[list[Event]]:
            yield A
            raise RateLimited

        def close(self) -> None:
            raise LookupError("a bug")

    relay = Relay(Failing(), TimeLimits(LONG, LONG, LONG))  # type: ignore[arg-type]
    with gevent.Timeout(5):
        assert heard(relay) == [A, "RateLimited"]
    assert "LookupError: a bug" in capsys.readouterr().err
