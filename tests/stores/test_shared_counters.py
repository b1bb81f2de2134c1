"""Numbers that processes share: each test forks, as gunicorn does."""

import os

from gpt_oss_proxy.stores.shared_counters import SharedCounters


def in_a_child(board: SharedCounters, row: int, count: int) -> None:
    child = os.fork()
    if child == 0:
        try:
            board.row = row
            counter, cells = board._counters[0], board._test_cells  # type: ignore[attr-defined]
            counter.add(count)
            cells[0] += count
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_what_one_process_counts_all_see_until_it_is_cleared() -> None:
    board = SharedCounters()
    counter = board.counter()
    board._test_cells = board.cells(1)  # type: ignore[attr-defined]
    counter.add(1)
    assert [board.choose({0}), board.choose({0, 1, 2}), board.choose({0, 2, 3})] == [1, 3, 1]
    in_a_child(board, 1, 5)
    in_a_child(board, 3, 10)
    assert (counter.total, board._test_cells[0]) == (16, 15.0)  # type: ignore[attr-defined]
    board.clear(3)
    assert (counter.total, board._test_cells[0]) == (6, 15.0)  # type: ignore[attr-defined]
    counter.add(-1)
    assert counter.total == 5


def test_counters_do_not_touch_each_other() -> None:
    board = SharedCounters()
    first, second = board.counter(), board.counter()
    first.add(3)
    assert (first.total, second.total) == (3, 0)
