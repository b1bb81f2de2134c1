"""Lists that are opened: what is done before and after them is done once."""

from collections.abc import Iterator

import pytest

from gpt_oss_proxy.chat.events import Event, TextDelta
from gpt_oss_proxy.errors import RateLimited
from gpt_oss_proxy.net.lists import Opened

A: list[Event] = [TextDelta("a")]
B: list[Event] = [TextDelta("b")]


class Told(Opened):
    """Tells when it is opened and ended."""

    def __init__(self, *lists: list[Event], error: Exception | None = None) -> None:
        self.told: list[str] = []
        self._script = lists
        self._error = error

    def open(self) -> Iterator[list[Event]]:
        self.told.append("opened")
        if self._error:
            raise self._error
        return iter(self._script)

    def end(self) -> None:
        self.told.append("ended")


def test_lists_are_opened_once_by_whoever_asks_first() -> None:
    lists = Told(A, B)
    assert lists.told == []
    assert next(lists) == A
    assert list(lists) == [B]
    assert lists.told == ["opened"]


def test_a_loop_reads_the_lists_below() -> None:
    lists = Told(A)
    assert type(iter(lists)) is type(iter(()))


def test_what_is_closed_has_nothing_left_and_is_not_opened() -> None:
    lists = Told(A)
    lists.close()
    assert list(lists) == []
    assert lists.told == ["ended"]


def test_what_is_closed_in_the_middle_has_nothing_left() -> None:
    lists = Told(A, B)
    next(lists)
    lists.close()
    assert (list(lists), lists.told) == ([], ["opened", "ended"])


def test_an_error_at_the_beginning_is_raised_to_whoever_asks() -> None:
    lists = Told(error=RateLimited())
    with pytest.raises(RateLimited):
        next(lists)
