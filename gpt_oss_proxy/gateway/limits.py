"""Limits on the load: concurrent requests, and the bytes of their bodies. Exceeding one raises at once."""

from gpt_oss_proxy.errors import Overloaded
from gpt_oss_proxy.stores.shared_counters import Counter, SharedCounters


class ConcurrencyLimit:
    """A number of slots, shared by all workers."""

    def __init__(self, counters: SharedCounters, number: int) -> None:
        self._taken = counters.counter()
        self._number = number

    @property
    def taken(self) -> int:
        """The number of slots in use."""
        return self._taken.total

    def take(self) -> "Slot":
        """Return a slot. Raises Overloaded if none is free."""
        if self._taken.total >= self._number:
            raise Overloaded
        self._taken.add(1)
        return Slot(self._taken)


class Slot:
    """A slot in use. `leave` may be called more than once."""

    def __init__(self, taken: Counter) -> None:
        self._taken: Counter | None = taken

    def leave(self) -> None:
        """Free the slot."""
        if self._taken:
            self._taken.add(-1)
            self._taken = None


class BodyBudget:
    """Limits the bytes that requests of one worker hold before an upstream has them; `taken_bytes` are in use."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.taken_bytes = 0

    def share(self) -> "Share":
        """Return a share for one request, empty at first."""
        return Share(self)

    def take(self, size: int) -> None:
        """Reserve `size` bytes. Raises Overloaded if fewer are left."""
        if self.taken_bytes + size > self._max_bytes:
            raise Overloaded
        self.taken_bytes += size


class Share:
    """The bytes that one request has reserved. `give_back` may be called more than once."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> None:
        """Reserve `size` more bytes. Raises Overloaded if fewer are left."""
        self._budget.take(size)
        self._size += size

    def give_back(self) -> None:
        """Release all reserved bytes."""
        self._budget.taken_bytes -= self._size
        self._size = 0
