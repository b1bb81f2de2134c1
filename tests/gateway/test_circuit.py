"""A circuit's life, with a clock that is turned by hand."""

import pytest

from gpt_oss_proxy.errors import CircuitOpen
from gpt_oss_proxy.gateway.circuit import Breaker
from gpt_oss_proxy.stores.shared_counters import SharedCounters


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker_of(clock: Clock, failures: int = 3) -> Breaker:
    return Breaker(SharedCounters(), failures=failures, seconds=10, clock=clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed()


def refusal(breaker: Breaker) -> str | None:
    with pytest.raises(CircuitOpen) as raised:
        breaker.enter()
    return raised.value.retry_after


def test_it_opens_after_so_many_failures_in_a_row_and_says_for_how_long(clock: Clock) -> None:
    breaker = breaker_of(clock)
    fail(breaker, 2)
    assert (breaker.state, breaker.enter()) == ("closed", False)
    fail(breaker, 1)
    assert (breaker.state, refusal(breaker)) == ("open", "10")
    clock.now += 7.5
    assert refusal(breaker) == "3"


def test_one_failure_can_be_enough(clock: Clock) -> None:
    breaker = breaker_of(clock, failures=1)
    fail(breaker, 1)
    assert refusal(breaker) == "10"


def test_a_success_between_failures_keeps_it_closed(clock: Clock) -> None:
    breaker = breaker_of(clock)
    for _ in range(10):
        fail(breaker, 2)
        breaker.succeeded()
    assert breaker.state == "closed"


def test_it_lets_one_probe_through_and_closes_when_that_is_answered(clock: Clock) -> None:
    breaker = breaker_of(clock)
    fail(breaker, 3)
    clock.now += 10
    assert (breaker.state, breaker.enter()) == ("half_open", True)
    assert [refusal(breaker) for _ in range(3)] == ["1"] * 3
    breaker.succeeded()
    assert (breaker.state, breaker.enter()) == ("closed", False)
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_it_stays_open_longer_each_time_that_a_probe_fails_up_to_a_limit(clock: Clock) -> None:
    breaker = breaker_of(clock)
    fail(breaker, 3)
    for seconds in (10, 20, 40, 80, 80, 80):
        assert refusal(breaker) == str(seconds)
        clock.now += seconds
        assert breaker.enter()
        breaker.failed()


def test_failures_of_those_who_asked_before_it_opened_do_not_prolong_it(clock: Clock) -> None:
    breaker = breaker_of(clock)
    fail(breaker, 3)
    clock.now += 5
    fail(breaker, 50)
    assert refusal(breaker) == "5"


def test_a_probe_whose_client_leaves_makes_room_for_another(clock: Clock) -> None:
    breaker = breaker_of(clock)
    fail(breaker, 3)
    clock.now += 10
    assert breaker.enter()
    breaker.left()
    assert breaker.enter()


def test_a_probe_that_never_tells_is_forgotten(clock: Clock) -> None:
    breaker = breaker_of(clock)
    fail(breaker, 3)
    clock.now += 10
    assert breaker.enter()
    clock.now += 59.5
    assert refusal(breaker) == "1"
    clock.now += 0.5
    assert breaker.enter()


def test_it_can_be_switched_off(clock: Clock) -> None:
    breaker = breaker_of(clock, failures=0)
    fail(breaker, 1000)
    assert (breaker.state, breaker.enter()) == ("closed", False)


def test_the_workers_share_it(clock: Clock) -> None:
    board = SharedCounters()
    breaker = Breaker(board, failures=3, seconds=10, clock=clock)
    for board.row in range(3):
        breaker.failed()
    assert breaker.state == "open"


def test_what_two_workers_have_left_by_a_race_is_gone_after_a_success(clock: Clock) -> None:
    breaker = breaker_of(clock)
    breaker._cells[1] = 1.0  # how often it has opened: one worker counted it after another one had closed the circuit
    breaker.succeeded()
    fail(breaker, 3)
    assert refusal(breaker) == "10"
