"""How many may run at the same time."""

import pytest

from gpt_oss_proxy.errors import Overloaded
from gpt_oss_proxy.gateway.board import Board
from gpt_oss_proxy.gateway.places import Places


def test_whoever_finds_no_place_is_told_so_at_once_and_when_to_come_back() -> None:
    places = Places(Board(), 2)
    first, _second = places.take(), places.take()
    with pytest.raises(Overloaded) as raised:
        places.take()
    assert raised.value.retry_after == "5"
    first.leave()
    assert places.taken == 1
    places.take()


def test_a_place_is_given_back_once() -> None:
    places = Places(Board(), 2)
    place, _other = places.take(), places.take()
    place.leave()
    place.leave()
    assert places.taken == 1


def test_the_workers_share_the_places() -> None:
    board = Board()
    places = Places(board, 2)
    for taken in (set(), {0}):
        board.row = board.choose(taken)
        places.take()
    with pytest.raises(Overloaded):
        places.take()
    board.clear(0)  # that worker was killed
    places.take()
