"""How many bytes of requests may be held at the same time."""

import pytest

from gpt_oss_proxy.errors import Overloaded
from gpt_oss_proxy.gateway.body_budget import BodyBudget


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
