"""How many requests may run at the same time: whoever finds no place is told so at once."""

from gpt_oss_proxy.errors import Overloaded
from gpt_oss_proxy.gateway.board import Board, Counter


class Places:
    """A number of places, shared by all workers."""

    def __init__(self, board: Board, number: int) -> None:
        self._taken = board.counter()
        self._number = number

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return self._taken.total

    def take(self) -> "Place":
        """Return a place. Raises Overloaded if there is none."""
        if self._taken.total >= self._number:
            raise Overloaded
        self._taken.add(1)
        return Place(self._taken)


class Place:
    """A place that was taken. It may be left more than once."""

    def __init__(self, taken: Counter) -> None:
        self._taken: Counter | None = taken

    def leave(self) -> None:
        """Give it back."""
        if self._taken:
            self._taken.add(-1)
            self._taken = None
