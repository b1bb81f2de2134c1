"""An answer that runs without a client: it is recorded while it runs, and can have many readers from its beginning."""

import copy
import os
import sys
import time
from collections.abc import Callable

import gevent
from gevent.event import Event as Signal

from gpt_oss_proxy.chat.events import Event, Finish, Lists
from gpt_oss_proxy.errors import GatewayError, InternalError, UpstreamIncomplete
from gpt_oss_proxy.net.lists import ClosableLists
from gpt_oss_proxy.stores.peers import Origin

LARGEST_BYTES = 4 * 1024 * 1024  # of memory; a larger answer is not kept, and accepts no further readers
_READ_AHEAD = 8  # batches, ahead of the fastest reader


class RecordedAnswer:
    """An answer that runs in its own greenlet and is recorded: any number of readers get all of it.

    It is read no faster than its fastest reader, and ends if all readers leave before it is complete.
    """

    def __init__(
        self,
        body: str,
        lists: ClosableLists,
        origin: Callable[[], Origin],
        over: Callable[["RecordedAnswer"], None],
    ) -> None:
        """`body` is the request's digest; `over` is called when the answer has ended, and when it was dropped."""
        self.id = os.urandom(16).hex()
        self.created = int(time.time())
        self.body = body
        self.origin = origin
        self.size = 0  # bytes of memory
        self.finished = False
        self.lost = False  # it failed, all readers left, or it grew too long: it accepts no further readers
        self._ended = False
        self._error: GatewayError | None = None
        self._lists: list[list[Event]] = []
        self._readers: list[AnswerReader] = []
        self._leavings = 0  # how often all readers have left
        self._furthest = 0
        self._news = Signal()
        self._room = Signal()
        self._over = over
        self._source = lists
        self._driver = gevent.spawn(self._drive, lists)
        self._driver.rawlink(self._end)

    def read(self) -> "AnswerReader":
        """Return a reader of all batches from the first on. It must be closed; until then the answer goes on."""
        reader = AnswerReader(self._read, self._leave)
        self._readers.append(reader)
        return reader

    def wait_for_reader(self, seconds: float) -> None:
        """Drop the answer unless it has a reader again within `seconds`."""
        self._leavings += 1
        if seconds:
            gevent.spawn_later(seconds, self._give_up, self._leavings)
        else:
            self._give_up(self._leavings)

    def _read(self, reader: "AnswerReader") -> Lists:
        while True:
            while reader.position < len(self._lists):
                events = self._lists[reader.position]
                self._advance(reader)
                yield events
            if self._ended:
                break
            news = self._news
            news.wait()
            if reader.position == len(self._lists):
                yield []  # a sign of life
        if self._error:
            raise copy.copy(self._error)  # each reader has its own frames

    def _drive(self, lists: ClosableLists) -> GatewayError | None:
        try:
            for events in lists:
                self._append(events)
                self._wake()
                # After the last batch nothing is held back: only the body's end follows, which has its own limit.
                while not self.finished and len(self._lists) - self._furthest >= _READ_AHEAD:
                    self._room.clear()
                    self._room.wait()
        except GatewayError as error:
            return copy.copy(error)  # without its frames, which would keep all that they have used
        except gevent.GreenletExit:  # see Relay: its traceback would keep sockets open
            pass
        return None

    def _append(self, events: list[Event]) -> None:
        if not events:
            return
        self._lists.append(events)
        self.size += memory_bytes(events)
        self.finished = isinstance(events[-1], Finish)
        self.lost = self.lost or self.size > LARGEST_BYTES

    def _advance(self, reader: "AnswerReader") -> None:
        reader.position += 1
        if reader.position > self._furthest:
            self._furthest = reader.position
            self._room.set()
        if self.lost and len(self._readers) == 1:
            self._lists[reader.position - 1] = []  # no other reader will need it

    def _end(self, driver: "gevent.Greenlet[..., GatewayError | None]") -> None:
        if driver.exception:  # a bug of ours: gevent has logged its traceback
            self._error = InternalError()
        elif isinstance(driver.value, GatewayError):
            self._error = driver.value
        elif not self.finished:  # dropped, and read again after all
            self._error = UpstreamIncomplete()
        self._ended = True
        self.lost = self.lost or not self.finished
        origin, source = self.origin(), self._source
        self.origin = lambda: origin
        del self._source  # it refers to the whole request, as the former `origin` does
        self._wake()
        try:
            source.close()  # closed here, because a driver that is killed before it begins runs no code
        finally:
            self._over(self)

    def _wake(self) -> None:
        news, self._news = self._news, Signal()
        news.set()

    def _leave(self, reader: "AnswerReader") -> None:
        self._readers.remove(reader)
        if not (self._readers or self.finished or self._ended):
            self.wait_for_reader(reader.window_seconds)

    def _give_up(self, leaving: int) -> None:
        if leaving != self._leavings or self._readers:  # it has had a reader since
            return
        self.lost = True
        if self._ended:
            self._over(self)
        else:
            self._driver.kill(block=False)


class AnswerReader:
    """One reader of a recorded answer. It counts as a reader from its creation, perhaps long before it reads.

    `position` is the number of batches it has read. `window_seconds` is how long the answer goes on if this is the last
    reader and leaves before the answer is complete.
    """

    window_seconds = 0.0

    def __init__(self, read: "Callable[[AnswerReader], Lists]", leave: "Callable[[AnswerReader], None]") -> None:
        self.position = 0
        self._lists = read(self)
        self._leave: Callable[[AnswerReader], None] | None = leave

    def __iter__(self) -> Lists:
        return self._lists

    def __next__(self) -> list[Event]:
        return next(self._lists)

    def close(self) -> None:
        """Stop reading."""
        leave, self._leave = self._leave, None
        try:
            self._lists.close()
        finally:
            if leave:
                leave(self)


def memory_bytes(events: list[Event]) -> int:
    """Return the memory size of a batch, including the contents of its events."""
    size = sys.getsizeof(events)
    for event in events:
        size += sys.getsizeof(event)
        size += sum(sys.getsizeof(getattr(event, name)) for name in event.__struct_fields__)
    return size
