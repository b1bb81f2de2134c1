"""Request coalescing: concurrent callers share one running call and its result."""

from collections.abc import Callable
from typing import Generic, TypeVar

import gevent

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs `call`, at most once at a time. Every waiting greenlet gets its return value, which may be an exception.

    The call runs in its own greenlet, so killing a request that waits does not end it for the others.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._running: gevent.Greenlet[[], T] | None = None

    def start(self) -> "gevent.Greenlet[[], T]":
        """Return the running call; start one if there is none."""
        if self._running is None:
            self._running = gevent.spawn(self._run)
        return self._running

    def join(self) -> T:
        """Wait for the running call, and return its result."""
        return self.start().get()

    def _run(self) -> T:
        try:
            return self._call()
        finally:
            self._running = None
