"""Lists of events that have something done before the first and after the last of them, and nothing in between.

What happens once an answer (a circuit, places, tries) must cost a token nothing: whoever loops over such lists is given
what lies below them, chained by C code, and no frame of theirs is entered for a list.
"""

import abc
from collections.abc import Callable, Iterator
from typing import Protocol

from gpt_oss_proxy.chat.events import Event

# Another way for a list that would be one TextDelta: its text is told from below, in the hub, and nobody is woken to
# pass it on. A shortcut tells it at once and returns True, or has done nothing and returns False: then it has to come
# as a list. It never blocks. Whoever changes lists, or keeps what they say, gives one of its own to what is below.
Shortcut = Callable[[str], bool]


class ClosableLists(Protocol):
    """Lists of events that can be closed before their end, or before their beginning."""

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the lists. Raises a GatewayError."""

    def __next__(self) -> list[Event]:
        """Return the next list. Raises a GatewayError."""

    def close(self) -> None:
        """End it. Must not block, and may be called twice."""


class Opened(abc.ABC):
    """Lists that are opened when the first of them is asked for. A subclass says how, and closes what it has opened."""

    _lists: Iterator[list[Event]] | None = None
    _closed = False

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the lists that are left. Raises as `open` does."""
        if self._lists is None:
            self._lists = self.open()
        return self._lists

    def __next__(self) -> list[Event]:
        """Return the next list."""
        return next(iter(self))

    def close(self) -> None:
        """End it: nothing is left to read. Does not block, and may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._lists = iter(())  # what it was may refer to this: no circle must keep sockets until garbage is collected
        self.end()

    @abc.abstractmethod
    def open(self) -> Iterator[list[Event]]:
        """Return the lists, the first of which is there. Raises a GatewayError."""

    @abc.abstractmethod
    def end(self) -> None:
        """End what was opened, if anything was. Must not block."""
