"""One call for all that wait for its outcome, whichever of them leaves."""

import gevent
import pytest
from gevent.event import Event

from gpt_oss_proxy.net.client.single_flight import SingleFlight


class Slow:
    """Returns how often it was called, when it may."""

    def __init__(self) -> None:
        self.calls = 0
        self.may_end = Event()

    def __call__(self) -> int:
        self.calls += 1
        self.may_end.wait()
        return self.calls


@pytest.fixture
def slow() -> Slow:
    return Slow()


def test_all_that_come_while_it_runs_get_one_outcome_and_the_next_one_a_new_one(slow: Slow) -> None:
    flight = SingleFlight(slow)
    waiting = [gevent.spawn(flight.join) for _ in range(200)]
    gevent.sleep(0)
    slow.may_end.set()
    assert [greenlet.get() for greenlet in waiting] == [1] * 200
    assert flight.join() == 2


@pytest.mark.parametrize("leaving", [0, 1, 2], ids=["the first", "one of them", "the last"])
def test_a_waiter_that_is_killed_takes_nothing_from_the_others(slow: Slow, leaving: int) -> None:
    flight = SingleFlight(slow)
    waiting = [gevent.spawn(flight.join) for _ in range(3)]
    gevent.sleep(0)
    waiting.pop(leaving).kill()
    slow.may_end.set()
    assert [greenlet.get() for greenlet in waiting] == [1, 1]
    assert slow.calls == 1


def test_it_ends_when_all_have_left(slow: Slow) -> None:
    flight = SingleFlight(slow)
    gevent.killall([gevent.spawn(flight.join) for _ in range(3)])
    running = flight.start()
    slow.may_end.set()
    assert running.get() == 1


def test_it_can_be_started_without_a_wait(slow: Slow) -> None:
    flight = SingleFlight(slow)
    assert flight.start() is flight.start()
    slow.may_end.set()
    assert flight.join() == 1


def test_a_bug_reaches_all_waiters_and_does_not_stay(capfd: pytest.CaptureFixture[str]) -> None:
    divisors = [0, 1]
    flight = SingleFlight(lambda: 1 // divisors.pop(0))
    waiting = [gevent.spawn(flight.join) for _ in range(2)]
    gevent.joinall(waiting)
    assert [type(greenlet.exception) for greenlet in waiting] == [ZeroDivisionError] * 2
    assert "ZeroDivisionError" in capfd.readouterr().err
    assert flight.join() == 1
