"""One iteration of gevent's loop in three phases: read all sockets, handle what was read, write the results.

By default each socket's greenlet would do all three before the next one's. The kernel's code and Python's then evict
each other from the processor's caches with every token, which costs more than all that is done to a token
(bench/PROFILE.md). The more sockets are ready at the same time, the less each costs.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import gevent
import greenlet

# Bytes per read. A single token needs no larger buffer. At full speed a token costs a fifth less with large reads than
# with half of them; with still larger ones, memory may be mapped again for each read.
SMALL_READ, LARGE_READ = 4 * 1024, 120 * 1024
_MOST_BYTES = 1024 * 1024  # read but not handled yet; above it they are handled at once


class Turn:
    """The phases of one hub."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._read: list[Reader] = []
        self._size = 0
        self._writes: list[Callable[[], None]] = []

    def use(self, reader: "Reader", size: int) -> None:
        """Queue `size` bytes read by `reader`; they are delivered once every ready socket was read. In the hub."""
        if not self._read:
            self._hub.loop.run_callback(self._use)
        self._read.append(reader)
        self._size += size
        if self._size > _MOST_BYTES:
            self._use()

    def write(self, write: Callable[[], None]) -> None:
        """Call `write` after all that was read was handled. It must not block."""
        if not self._writes:
            self._hub.loop.run_callback(self._write)
        self._writes.append(write)

    def _use(self) -> None:
        read, self._read, self._size = self._read, [], 0
        for reader in read:
            if waiter := reader.waiter:
                on_bytes, came = reader.on_bytes, reader.came
                try:
                    if on_bytes and came and type(came) is bytes and on_bytes(came):
                        reader.came = None
                    else:
                        waiter.switch()
                except Exception:  # noqa: BLE001 - a bug, which must not affect other readers
                    self._hub.handle_error(reader, *sys.exc_info())
                    if reader.on_bytes:  # the callback may be at fault: leave the bytes to the waiter
                        reader.on_bytes = None
                        self.use(reader, 0)

    def _write(self) -> None:
        writes, self._writes = self._writes, []
        for write in writes:
            try:
                write()
            except Exception:  # noqa: BLE001 - likewise
                self._hub.handle_error(write, *sys.exc_info())


_turns: dict[Any, Turn] = {}


def turn() -> Turn:
    """Return the Turn of this thread's hub."""
    hub = gevent.get_hub()
    found = _turns.get(hub)
    if found is None:
        found = _turns[hub] = Turn(hub)
    return found


class Reader:
    """Reads a non-blocking descriptor for one greenlet at a time. `waiter` is that greenlet, None if none waits.

    It reads only while a greenlet waits. `came` holds bytes that were read and not returned yet. In the hub, before the
    waiter is woken, they are passed to `on_bytes`, which returns whether it has handled them.

    Without a given size, a read is large if the one before filled a small one, else small.
    """

    waiter: greenlet.greenlet | None = None
    on_bytes: Callable[[bytes], bool] | None = None
    came: bytes | OSError | None = None
    _size = SMALL_READ
    _listens = False
    _unread: Callable[[], None] | None = None

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._hub = gevent.get_hub()
        self._turn = turn()
        self._readable = self._hub.loop.io(descriptor, 1)

    def read(self, size: int = 0) -> bytes:
        """Return the bytes read, after letting others run; b'' at the end. Raises OSError. For `size` see the class."""
        while (came := self.came) is None:
            self._size = size or self._size
            self.waiter = greenlet.getcurrent()
            if not self._listens:
                self._listen()
            try:
                self._hub.switch()
            finally:
                self.waiter = None
        self.came = None
        if type(came) is bytes:
            return came
        try:
            raise came  # type: ignore[misc] # it is an error
        finally:
            del came  # else it and this frame would refer to each other

    @property
    def holds(self) -> bool:
        """Whether bytes were read that `read` has not returned yet."""
        return self.came is not None

    def start(self, unread: Callable[[], None]) -> None:
        """Call `unread` in the hub whenever there is data and no greenlet waits for it, until `stop` is called."""
        self._unread = unread
        if not self._listens:
            self._listen()

    def stop(self) -> None:
        """Stop calling it."""
        self._unread = None

    def close(self) -> None:
        """Stop reading. The descriptor is not closed."""
        self._readable.stop()
        self._readable.close()

    def _listen(self) -> None:
        self._listens = True
        self._readable.start(self._come)

    def _come(self) -> None:
        # In the hub. While reads follow each other, the watcher stays started.
        if self.waiter is None:
            if self._unread:
                self._unread()
            else:
                self._listens = False
                self._readable.stop()
        elif self.came is None:
            try:
                came = self.came = os.read(self._descriptor, self._size)
            except BlockingIOError:  # spurious readiness
                return
            except OSError as error:
                self.came = error
                self._turn.use(self, 0)
            else:
                size = len(came)
                self._size = SMALL_READ if size < SMALL_READ else LARGE_READ
                self._turn.use(self, size)
