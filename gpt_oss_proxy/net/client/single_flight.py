"""A call that is made once, and whose outcome is that of all requests that wait for it."""

from collections.abc import Callable
from typing import Generic, TypeVar

import gevent

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Makes `call`, one at a time. Every greenlet that waits for it gets what it returns, which may be an error.

    The call has a greenlet of its own, so a request that is killed while it waits does not end it for the others.
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
