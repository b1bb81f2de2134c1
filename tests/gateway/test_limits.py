"""How many requests may run at the same time, and how many bytes of them may be held."""

import pytest

from gpt_oss_proxy.errors import Overloaded
from gpt_oss_proxy.gateway.limits import BodyBudget, ConcurrencyLimit
from gpt_oss_proxy.stores.shared_counters import SharedCounters


def test_whoever_finds_no_place_is_told_so_at_once_and_when_to_come_back() -> None:
    slots = ConcurrencyLimit(SharedCounters(), 2)
    first, _second = slots.take(), slots.take()
    with pytest.raises(Overloaded) as raised:
        slots.take()
    assert raised.value.retry_after == "5"
    first.leave()
    assert slots.taken == 1
    slots.take()


def test_a_place_is_given_back_once() -> None:
    slots = ConcurrencyLimit(SharedCounters(), 2)
    slot, _other = slots.take(), slots.take()
    slot.leave()
    slot.leave()
    assert slots.taken == 1


def test_the_workers_share_the_places() -> None:
    board = SharedCounters()
    slots = ConcurrencyLimit(board, 2)
    for taken in (set(), {0}):
        board.row = board.choose(taken)
        slots.take()
    with pytest.raises(Overloaded):
        slots.take()
    board.clear(0)  # that worker was killed
    slots.take()


def test_what_finds_no_room_is_refused_with_the_time_to_come_back_and_takes_nothing() -> None:
    budget = BodyBudget(10)
    one, other = budget.share(), budget.share()
    one.take(4)
    one.take(2)
    with pytest.raises(Overloaded) as raised:
        other.take(5)
    assert (raised.value.retry_after, budget.taken_bytes) == ("5", 6)
    other.take(4)
    assert budget.taken_bytes == 10


def test_all_that_was_taken_is_given_back_once() -> None:
    budget = BodyBudget(10)
    one, other = budget.share(), budget.share()
    one.take(3)
    one.take(3)
    other.take(4)
    one.give_back()
    one.give_back()
    assert budget.taken_bytes == 4
    one.take(6)
    assert budget.taken_bytes == 10
