"""A turn of gevent's loop in three phases: what has come is read, then used, then what came of it is written.

Left to itself each socket's greenlet would do all three before the next one's. Then the kernel's code and Python's
drive each other out of the processor's caches with every token, and that costs more than all that is done to a token
(bench/PROFILE.md). The more sockets have something at the same time, the less each costs.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import gevent
import greenlet

# How many bytes a read may bring. A token that comes alone needs no room for more. At full speed a token costs a fifth
# less with large reads than with half of them; with larger ones, memory may be mapped anew for each read.
SMALL_READ, LARGE_READ = 4 * 1024, 120 * 1024
_MOST_BYTES = 1024 * 1024  # that are held before they are used


class Turn:
    """The phases of one hub."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._read: list[Reader] = []
        self._size = 0
        self._writes: list[Callable[[], None]] = []

    def use(self, reader: "Reader", size: int) -> None:
        """Give what this reader has read, so many bytes, to its taker or its waiter when all have read. In the hub."""
        if not self._read:
            self._hub.loop.run_callback(self._use)
        self._read.append(reader)
        self._size += size
        if self._size > _MOST_BYTES:
            self._use()

    def write(self, write: Callable[[], None]) -> None:
        """Call this when all that was read is used. It must not block."""
        if not self._writes:
            self._hub.loop.run_callback(self._write)
        self._writes.append(write)

    def _use(self) -> None:
        read, self._read, self._size = self._read, [], 0
        for reader in read:
            if waiter := reader.waiter:
                taker, came = reader.taker, reader.came
                try:
                    if taker and came and type(came) is bytes and taker(came):
                        reader.came = None
                    else:
                        waiter.switch()
                except Exception:  # noqa: BLE001 - a bug, which must not be one of all others
                    self._hub.handle_error(reader, *sys.exc_info())
                    if reader.taker:  # it may be its own: then what came is for the waiter
                        reader.taker = None
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
    """Return the one of this thread's hub."""
    hub = gevent.get_hub()
    found = _turns.get(hub)
    if found is None:
        found = _turns[hub] = Turn(hub)
    return found


class Reader:
    """Reads a descriptor that does not block, for one greenlet at a time. `waiter` is who waits, None if nobody does.

    Nothing is read before somebody wants it. `came` is what was read and nobody has taken yet. `taker` is offered it in
    the hub before the waiter is woken, and returns whether it has taken it.

    A read without a size of its own is large after one that would have filled a small one, and else small.
    """

    waiter: greenlet.greenlet | None = None
    taker: Callable[[bytes], bool] | None = None
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
        """Return what has come, after letting others run; b'' at the end. Raises OSError. For `size` see the class."""
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
            del came  # else it and this frame would keep each other

    @property
    def holds(self) -> bool:
        """Whether something was read that nobody has taken yet."""
        return self.came is not None

    def start(self, unread: Callable[[], None]) -> None:
        """Call this, in the hub, whenever there is something that nobody reads, until `stop` is called."""
        self._unread = unread
        if not self._listens:
            self._listen()

    def stop(self) -> None:
        """Do not call it any more."""
        self._unread = None

    def close(self) -> None:
        """End it. The descriptor is not closed."""
        self._readable.stop()
        self._readable.close()

    def _listen(self) -> None:
        self._listens = True
        self._readable.start(self._come)

    def _come(self) -> None:
        # In the hub. For as long as one read follows the other, the loop need not be told to listen.
        if self.waiter is None:
            if self._unread:
                self._unread()
            else:
                self._listens = False
                self._readable.stop()
        elif self.came is None:
            try:
                came = self.came = os.read(self._descriptor, self._size)
            except BlockingIOError:  # a false alarm
                return
            except OSError as error:
                self.came = error
                self._turn.use(self, 0)
            else:
                size = len(came)
                self._size = SMALL_READ if size < SMALL_READ else LARGE_READ
                self._turn.use(self, size)
