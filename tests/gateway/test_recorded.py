"""An answer without a client of its own: read by many, no faster than they read, ended when it is left."""

import gc
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.events import Event, Finish, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, RateLimited, UpstreamIncomplete
from gpt_oss_proxy.gateway import recorded as module
from gpt_oss_proxy.gateway.recorded import RecordedAnswer, memory_bytes
from gpt_oss_proxy.stores.peers import Origin
from tests.doubles import Scripted, Step, settle

LONG = 20.0
A: list[Event] = [TextDelta("a")]
B: list[Event] = [TextDelta("b")]
END: list[Event] = [Finish("stop")]
ORIGIN = Origin("scripted", ("seed",))


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    with gevent.Timeout(5):
        yield


def record(*script: Step) -> tuple[Scripted, RecordedAnswer, list[bool]]:
    """Return the upstream, the answer, and what it was each time that it said that it is over: lost or not."""
    upstream = Scripted(*script)
    over: list[bool] = []
    lists = upstream.stream(ChatRequest("m", ()))
    return upstream, RecordedAnswer("body", lists, lambda: ORIGIN, lambda answer: over.append(answer.lost)), over


def heard(answer: RecordedAnswer) -> list[Any]:
    found: list[Any] = []
    lists = answer.read()
    try:
        found.extend(events for events in lists if events)
    except GatewayError as error:
        found.append(type(error).__name__)
    finally:
        lists.close()
    return found


def test_all_readers_get_the_whole_answer_of_one_call() -> None:
    upstream, answer, over = record(A, 0.02, B, 0.02, END)
    readers = []
    for _ in range(4):
        readers.append(gevent.spawn(heard, answer))
        gevent.sleep(0.01)
    gevent.joinall(readers)
    assert [reader.value for reader in readers] == [[A, B, END]] * 4
    assert heard(answer) == [A, B, END]
    assert (len(upstream.asked), upstream.ended, over) == (1, 1, [False])


def test_an_answer_is_whole_with_the_finish_at_the_end_of_its_last_list() -> None:
    end: list[Event] = [Usage(1, 2), Finish("stop")]
    _, answer, over = record(A, end)
    assert heard(answer) == [A, end]
    settle()
    assert (answer.finished, answer.lost, over) == (True, False, [False])


def test_a_failure_is_raised_for_all_and_no_reader_comes_later() -> None:
    _, answer, over = record(A, 0.02, UpstreamIncomplete())
    readers = [gevent.spawn(heard, answer) for _ in range(3)]
    gevent.joinall(readers)
    assert [reader.value for reader in readers] == [[A, "UpstreamIncomplete"]] * 3
    assert (answer.lost, over) == (True, [True])


@pytest.mark.parametrize("script", [[RateLimited()], [A, UpstreamIncomplete()]])
def test_a_late_reader_gets_the_same_error(script: list[Step]) -> None:
    _, answer, _ = record(*script)
    first = heard(answer)
    assert heard(answer) == first


def test_a_bug_is_an_internal_error_for_all() -> None:
    _, answer, _ = record(A, ValueError("bug"))
    assert heard(answer) == [A, "InternalError"]


@pytest.mark.parametrize("read", [0, 1])
def test_an_answer_that_its_last_reader_leaves_is_ended_at_once(read: int) -> None:
    upstream, answer, over = record(A, LONG)
    lists, other = answer.read(), answer.read()
    settle()
    for _ in range(read):
        assert next(lists) == A
    other.close()
    settle()
    assert upstream.ended == 0
    lists.close()
    lists.close()
    settle()
    assert (upstream.ended, over) == (1, [True])


def test_an_answer_that_is_left_before_it_has_begun_asks_no_upstream() -> None:
    upstream, answer, over = record(A, END)
    answer.read().close()
    settle()
    assert (len(upstream.asked), over) == (0, [True])


def test_a_reader_may_leave_the_answer_to_another_one_for_a_while() -> None:
    upstream, answer, _ = record(A, 0.1, B, END)
    lists = answer.read()
    lists.window_seconds = 0.05
    assert next(lists) == A
    lists.close()
    gevent.sleep(0.02)
    assert heard(answer) == [A, B, END]
    assert len(upstream.asked) == 1


def test_each_leaving_gives_the_whole_time_and_the_last_one_counts() -> None:
    upstream, answer, _ = record(LONG)
    for _ in range(4):
        lists = answer.read()
        lists.window_seconds = 0.05
        lists.close()
        gevent.sleep(0.03)
    assert upstream.ended == 0
    gevent.sleep(0.05)
    assert upstream.ended == 1


def test_an_answer_that_was_given_up_is_incomplete_for_a_reader_that_comes_too_late() -> None:
    _, answer, _ = record(A, LONG)
    answer.wait_for_reader(0.02)
    gevent.sleep(0.05)
    assert heard(answer) == [A, "UpstreamIncomplete"]


def test_an_answer_that_waits_for_a_reader_is_given_up_when_it_is_whole_too() -> None:
    upstream, answer, over = record(A, END)
    answer.wait_for_reader(0.03)
    settle()
    assert (upstream.ended, over) == (1, [False])
    gevent.sleep(0.05)
    assert over == [False, True]


@pytest.mark.parametrize("lists", range(1, 20))
@pytest.mark.parametrize("read", range(20))
def test_it_ends_wherever_its_only_reader_leaves(lists: int, read: int) -> None:
    upstream, answer, over = record(*[A] * lists, END)
    reader = answer.read()
    for _ in range(min(read, lists + 1)):
        next(reader)
    settle()
    reader.close()
    settle()
    assert upstream.ended == len(upstream.asked)
    assert len(over) == 1


def test_the_upstream_is_read_no_faster_than_the_fastest_reader() -> None:
    upstream, answer, _ = record(*[A] * 100, END)
    fast, slow = answer.read(), answer.read()
    assert [next(fast), next(slow)] == [A, A]
    settle()
    assert upstream.delivered <= 10
    for _ in range(50):
        next(fast)
        gevent.sleep(0)
    assert 50 < upstream.delivered <= 60
    assert [events for events in slow if events] == [*[A] * 99, END]


def test_signs_of_life_are_passed_on_and_cost_nothing() -> None:
    script: list[Step] = [step for _ in range(5) for step in ([], 0.01)]
    _, answer, _ = record(*script, A, END)
    lists = list(answer.read())
    assert [] in lists
    assert [events for events in lists if events] == [A, END]
    assert answer.size == memory_bytes(A) + memory_bytes(END)


def test_an_answer_that_is_too_long_is_forgotten_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_BYTES", 10 * memory_bytes(A))
    _, answer, over = record(*[A] * 100, END)
    lists = answer.read()
    assert [events for events in lists if events] == [*[A] * 100, END]
    assert answer.lost
    assert over == [True]
    assert len(heard(answer)) <= 10  # what was read before it was too long


def test_the_memory_of_an_answer_is_what_it_really_takes() -> None:
    def batches() -> list[list[Event]]:
        texts: list[list[Event]] = [[TextDelta(f"word{number} ")] for number in range(5_000)]
        return [*texts, *([ToolCallDelta(0, arguments="x" * number)] for number in range(1_000))]

    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = batches()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert sum(map(memory_bytes, kept)) == pytest.approx(taken, rel=0.1)


def test_an_answer_that_has_ended_keeps_nothing_of_its_call() -> None:
    class Source:
        def __init__(self) -> None:
            self.lists = iter((A, END))
            self.closed = False

        def __iter__(self) -> Iterator[list[Event]]:
            return self.lists

        def __next__(self) -> list[Event]:
            return next(self.lists)

        def close(self) -> None:
            self.closed = True

        def origin(self) -> Origin:
            return ORIGIN

    source = Source()
    answer = RecordedAnswer("body", source, source.origin, lambda _answer: None)
    assert heard(answer) == [A, END]
    settle()
    assert source.closed
    alive = weakref.ref(source)
    del source
    assert alive() is None
    assert answer.origin() == ORIGIN
