"""Iterators over batches of events that do work before the first and after the last batch, and none in between.

Work done once per answer (a circuit, slots, attempts) adds no work per batch: iterating yields the inner iterator
itself, chained by C code, and enters no Python frame of the outer layers.
"""

import abc
from collections.abc import Callable, Iterator
from typing import Protocol

from gpt_oss_proxy.chat.events import Event

# Fast path for a batch of one TextDelta: deliver its text synchronously in the hub, without waking a greenlet. It
# returns True if the text was delivered. If it returns False it had no side effects, and the text must come as a
# batch. It never blocks. A layer that changes or keeps events must wrap the shortcut that it passes down.
Shortcut = Callable[[str], bool]


class ClosableLists(Protocol):
    """Batches of events; they can be closed before their end, or before their beginning."""

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the batches. Raises a GatewayError."""

    def __next__(self) -> list[Event]:
        """Return the next batch. Raises a GatewayError."""

    def close(self) -> None:
        """End it. Must not block, and may be called twice."""


class Opened(abc.ABC):
    """Batches whose source is opened when the first is asked for. A subclass opens it, and closes what it opened."""

    _lists: Iterator[list[Event]] | None = None
    _closed = False

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the remaining batches. Raises as `open` does."""
        if self._lists is None:
            self._lists = self.open()
        return self._lists

    def __next__(self) -> list[Event]:
        """Return the next batch."""
        return next(iter(self))

    def close(self) -> None:
        """End it: no batch is left. Does not block, and may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._lists = iter(())  # the old iterator may refer to this: a cycle would keep sockets until it is collected
        self.end()

    @abc.abstractmethod
    def open(self) -> Iterator[list[Event]]:
        """Return the batches; the first has already arrived. Raises a GatewayError."""

    @abc.abstractmethod
    def end(self) -> None:
        """Close what was opened, if anything. Must not block."""
