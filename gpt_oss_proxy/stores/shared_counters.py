"""Numbers that all worker processes share: cells of shared memory, allocated before the workers fork.

Each worker has its own cell of a counter, so no two workers write the same cell, and the cell of a killed worker can be
cleared. State without an owner (a circuit's) is in cells that all workers write: they may race, which costs at most one
probe too many.
"""

import mmap
from collections.abc import Collection

ROWS = 1024  # workers at the same time, including those that still drain after a reload
_CELL_BYTES = 8


class SharedCounters:
    """Allocates the shared numbers. `row` is this process's row; gunicorn's hooks set it after the fork."""

    def __init__(self) -> None:
        self.row = 0
        self._used = self.cells(1)  # upper bound of the rows in use
        self._used[0] = 1
        self._counters: list[Counter] = []

    def cells(self, number: int) -> "memoryview[float]":
        """Return float64 cells that all workers write, 0.0 at first."""
        return memoryview(mmap.mmap(-1, number * _CELL_BYTES)).cast("d")  # anonymous, and shared after a fork

    def counter(self) -> "Counter":
        """Return a number that each worker adds to; all workers see the sum."""
        self._counters.append(Counter(self, self._used))
        return self._counters[-1]

    def choose(self, taken: Collection[int]) -> int:
        """Return a row for a new worker that is not in `taken`, the rows of living workers. Called before the fork."""
        row = next(row for row in range(ROWS) if row not in taken)
        self._used[0] = max(self._used[0], row + 1)
        return row

    def clear(self, row: int) -> None:
        """Clear the counts of a dead worker's row."""
        for counter in self._counters:
            counter.clear(row)


class Counter:
    """A number with one cell per worker."""

    def __init__(self, counters: SharedCounters, used: "memoryview[float]") -> None:
        """`used` has one cell: the upper bound of the rows in use."""
        self._counters = counters
        self._used = used
        self._cells = counters.cells(ROWS)

    def add(self, amount: int) -> None:
        """Add `amount` (may be negative) to this worker's cell."""
        self._cells[self._counters.row] += amount

    def clear(self, row: int) -> None:
        """Clear one worker's cell."""
        self._cells[row] = 0.0

    @property
    def total(self) -> int:
        """The sum over all workers."""
        return int(sum(self._cells[: int(self._used[0])]))
