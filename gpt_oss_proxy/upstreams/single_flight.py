"""A call that is made once for all who want its outcome at the same time."""

from collections.abc import Callable
from typing import Generic, TypeVar

import gevent

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Makes `call`, one at a time. What it returns, an error perhaps, is the outcome of all who wait for it.

    It runs in a greenlet of its own: a request that is killed while it waits takes the outcome from no other.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._running: gevent.Greenlet[[], T] | None = None

    def start(self) -> "gevent.Greenlet[[], T]":
        """Return the call that is under way, begun if there is none."""
        if self._running is None:
            self._running = gevent.spawn(self._run)
        return self._running

    def join(self) -> T:
        """Wait for it, and return its outcome."""
        return self.start().get()

    def _run(self) -> T:
        try:
            return self._call()
        finally:
            self._running = None
