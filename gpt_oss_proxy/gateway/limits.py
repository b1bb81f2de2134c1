"""What bounds the load: requests that run at the same time, and bytes of their bodies. None of them waits."""

from gpt_oss_proxy.errors import Overloaded
from gpt_oss_proxy.stores.shared_counters import Counter, SharedCounters


class ConcurrencyLimit:
    """A number of slots, shared by all workers."""

    def __init__(self, board: SharedCounters, number: int) -> None:
        self._taken = board.counter()
        self._number = number

    @property
    def taken(self) -> int:
        """The number of slots that are taken now."""
        return self._taken.total

    def take(self) -> "Slot":
        """Return a slot. Raises Overloaded if none is free."""
        if self._taken.total >= self._number:
            raise Overloaded
        self._taken.add(1)
        return Slot(self._taken)


class Slot:
    """A slot that was taken. It may be left more than once."""

    def __init__(self, taken: Counter) -> None:
        self._taken: Counter | None = taken

    def leave(self) -> None:
        """Free the slot."""
        if self._taken:
            self._taken.add(-1)
            self._taken = None


class BodyBudget:
    """The bytes that requests of one worker may hold before an upstream has them; `taken_bytes` are in use now."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.taken_bytes = 0

    def share(self) -> "Share":
        """Return the share of a request, which has nothing yet."""
        return Share(self)

    def take(self, size: int) -> None:
        """Take so many bytes. Raises Overloaded if there are not as many left."""
        if self.taken_bytes + size > self._max_bytes:
            raise Overloaded
        self.taken_bytes += size


class Share:
    """What one request has taken. It may be given back more than once."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> None:
        """Take so many bytes more. Raises Overloaded if there are not as many left."""
        self._budget.take(size)
        self._size += size

    def give_back(self) -> None:
        """Give all of it back."""
        self._budget.taken_bytes -= self._size
        self._size = 0
