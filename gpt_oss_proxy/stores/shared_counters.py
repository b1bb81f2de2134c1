"""Numbers that all worker processes of a gateway share: a few cells of memory, made before the workers fork.

Of a counter each worker has a cell of its own, so that two of them never write the same one, and the cell of a worker
that was killed can be cleared. What belongs to nobody (the state of a circuit) stands in cells for all: their writers
may race, and the worst of it is one probe too many.
"""

import mmap
from collections.abc import Collection

ROWS = 1024  # workers at the same time, those of a reload that still drain included
_CELL_BYTES = 8


class SharedCounters:
    """Where the numbers stand. `row` is this process's own; gunicorn's hooks set it after the fork."""

    def __init__(self) -> None:
        self.row = 0
        self._used = self.cells(1)  # rows in use are below this number
        self._used[0] = 1
        self._counters: list[Counter] = []

    def cells(self, number: int) -> "memoryview[float]":
        """Return float64 cells that all workers write, each 0.0 at first."""
        return memoryview(mmap.mmap(-1, number * _CELL_BYTES)).cast("d")  # anonymous, and shared after a fork

    def counter(self) -> "Counter":
        """Return a number that each worker adds to, and whose sum all see."""
        self._counters.append(Counter(self, self._used))
        return self._counters[-1]

    def choose(self, taken: Collection[int]) -> int:
        """Return a row for a new worker, none of those that living ones have. Called before the fork."""
        row = next(row for row in range(ROWS) if row not in taken)
        self._used[0] = max(self._used[0], row + 1)
        return row

    def clear(self, row: int) -> None:
        """Forget what the worker of this row has counted: it is dead."""
        for counter in self._counters:
            counter.clear(row)


class Counter:
    """How many there are, here and in all workers."""

    def __init__(self, board: SharedCounters, used: "memoryview[float]") -> None:
        """`used` has one cell: rows in use are below its number."""
        self._board = board
        self._used = used
        self._cells = board.cells(ROWS)

    def add(self, amount: int) -> None:
        """Count so many more, or fewer."""
        self._cells[self._board.row] += amount

    def clear(self, row: int) -> None:
        """Forget one worker's."""
        self._cells[row] = 0.0

    @property
    def total(self) -> int:
        """The sum over all workers."""
        return int(sum(self._cells[: int(self._used[0])]))
