"""One answer for a request that is sent twice: a retry joins the call that still runs, or gets its finished answer.

SDKs ask again when a connection broke or a proxy gave up on them, and mark it; a client may also name a request itself
(`Idempotency-Key`). Asking the upstream a second time would double its work. What can be joined runs in a greenlet of
its own and is kept for a while, so it is done only for requests that say that they may come again.
"""

import contextlib
import copy
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator

import gevent
import msgspec
from gevent.event import Event as Signal

from gpt_oss_proxy.chat.events import Event, Finish, Lists, ReasoningDelta, TextDelta, TextReplaced, ToolCallDelta
from gpt_oss_proxy.chat.lists import ClosableLists, Shortcut
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest, UpstreamIncomplete
from gpt_oss_proxy.gateway.peers import Peers, Remote

# How long a call goes on without its client: an SDK's first retry comes within half a second.
_RETURN_SECONDS = 0.6
_KEPT_SECONDS = 60.0
# Of finished answers, in each worker.
_MOST_KEPT = 1000
_KEPT_BYTES = 32 * 1024 * 1024
_LARGEST_SHARED = 4 * 1024 * 1024  # bytes; a larger answer is not kept, nor joined from then on
_EVENT_BYTES = 64  # what an event costs beside its text, more or less
_READ_AHEAD = 8  # lists, ahead of the fastest reader


class Identity(msgspec.Struct, frozen=True):
    """What makes two requests one. `name` and `body` are digests in hex; `again` says that it may be a repetition."""

    name: str
    body: str
    again: bool


class Shared:
    """An answer that can be read from its beginning for as long as it is kept.

    Its call is read no faster than the fastest of its readers reads.
    """

    def __init__(self, body: str, lists: ClosableLists, over: Callable[["Shared"], None]) -> None:
        self.body = body
        self.id = uuid.uuid4().hex
        self.created = int(time.time())
        self.size = 0
        self.finished = False
        self.lost = False  # it failed, was left by all, or grew too long: nobody can join any more
        self._over = False
        self._error: GatewayError | None = None
        self._lists: list[list[Event]] = []
        self._readers: list[SharedReader] = []
        self._leavings = 0  # how often it has been left by all
        self._furthest = 0
        self._news = Signal()
        self._room = Signal()
        self._driver = gevent.spawn(self._drive, lists)
        self._driver.rawlink(self._end)
        self._tell_over = over

    def read(self) -> "SharedReader":
        """Return all lists from the first one on. They must be closed, for as long as they are not the call goes on."""
        reader = SharedReader(self._read, self._leave)
        self._readers.append(reader)
        return reader

    def _read(self, reader: "SharedReader") -> Lists:
        while True:
            while reader.position < len(self._lists):
                events = self._lists[reader.position]
                self._advance(reader)
                yield events
            if self._over:
                break
            news = self._news
            news.wait()
            if reader.position == len(self._lists):
                yield []  # a sign of life
        if self._error:
            raise copy.copy(self._error)  # each reader has frames of its own

    def tell(self, text: str) -> bool:
        """Tell it as the next list to the only reader, if that has read all others: the shortcut of the call."""
        if len(self._readers) != 1:
            return False
        (reader,) = self._readers
        if reader.shortcut is None or reader.position != len(self._lists) or not reader.shortcut(text):
            return False
        self._append([TextDelta(text)])
        self._advance(reader)
        return True

    def _drive(self, lists: ClosableLists) -> GatewayError | None:
        with contextlib.closing(lists):
            try:
                for events in lists:
                    self._append(events)
                    self._wake()
                    while len(self._lists) - self._furthest >= _READ_AHEAD:
                        self._room.clear()
                        self._room.wait()
            except GatewayError as error:
                return copy.copy(error)  # without its frames, which would keep all that they have used
            except gevent.GreenletExit:  # see Relay: it would keep sockets open
                pass
        return None

    def _append(self, events: list[Event]) -> None:
        if not events:
            return
        self._lists.append(events)
        self.size += sum(map(_size, events))
        self.finished = isinstance(events[-1], Finish)
        self.lost = self.lost or self.size > _LARGEST_SHARED

    def _advance(self, reader: "SharedReader") -> None:
        reader.position += 1
        if reader.position > self._furthest:
            self._furthest = reader.position
            self._room.set()
        if self.lost and len(self._readers) == 1:
            self._lists[reader.position - 1] = []  # nobody will come to read it

    def _end(self, driver: "gevent.Greenlet[..., GatewayError | None]") -> None:
        if driver.exception:  # a bug of ours: gevent has written its traceback to the log
            self._error = InternalError()
        elif isinstance(driver.value, GatewayError):
            self._error = driver.value
        elif not self.finished:  # left by all, and now somebody reads it after all
            self._error = UpstreamIncomplete()
        self._over = True
        self.lost = self.lost or not self.finished
        self._wake()
        self._tell_over(self)

    def _wake(self) -> None:
        news, self._news = self._news, Signal()
        news.set()

    def _leave(self, reader: "SharedReader") -> None:
        self._readers.remove(reader)
        if not self._readers and not self.finished:
            self._leavings += 1
            gevent.spawn_later(_RETURN_SECONDS, self._give_up, self._leavings)

    def _give_up(self, leaving: int) -> None:
        if leaving == self._leavings and not self._readers and not self.finished:  # nobody came, not even to leave
            self.lost = True
            self._driver.kill(block=False)


class SharedReader:
    """One reader of a shared call, from the moment when the call is promised to it, maybe long before it reads.

    `position` is how many lists it was given; `shortcut` is its own, if it has one.
    """

    shortcut: Shortcut | None = None

    def __init__(self, read: "Callable[[SharedReader], Lists]", leave: "Callable[[SharedReader], None]") -> None:
        self.position = 0
        self._lists = read(self)
        self._leave: Callable[[SharedReader], None] | None = leave

    def __iter__(self) -> Iterator[list[Event]]:
        return self._lists

    def __next__(self) -> list[Event]:
        return next(self._lists)

    def close(self) -> None:
        """End it."""
        self._lists.close()
        self.shortcut = None
        leave, self._leave = self._leave, None
        if leave:
            leave(self)


class Sharing:
    """The calls that can be joined, here and in the other workers."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._shared: dict[str, Shared] = {}
        self._kept: OrderedDict[Shared, tuple[str, float]] = OrderedDict()  # → name, until when; the oldest first
        self._kept_bytes = 0

    def join(self, identity: Identity) -> "Shared | Remote | None":
        """Return the call that a repetition belongs to, None if there is none. Raises InvalidRequest."""
        if not identity.again:
            return None
        # A second look: to ask the other workers takes a moment, in which one may have begun here.
        found = self.find(identity.name) or self._peers.find(identity.name) or self.find(identity.name)
        if found and found.body != identity.body:
            if isinstance(found, Remote):
                found.close()
            raise InvalidRequest(
                "This Idempotency-Key was used for another request. Use a new one for each.",
                code="idempotency_key_reused",
            )
        return found

    def begin(self, identity: Identity, lists: ClosableLists) -> Shared:
        """Return a new call that can be joined. Call it at once after `join`, so that nobody comes in between."""
        name = identity.name
        self._peers.claim(name)
        shared = self._shared[name] = Shared(identity.body, lists, over=lambda shared: self._keep(name, shared))
        return shared

    def find(self, name: str) -> Shared | None:
        """Return what runs or is kept here under this name."""
        self._drop_old_ones()
        shared = self._shared.get(name)
        return None if shared is None or shared.lost else shared

    def _keep(self, name: str, shared: Shared) -> None:
        if shared.lost:
            self._forget(name, shared)
            return
        self._kept[shared] = name, time.monotonic() + _KEPT_SECONDS
        self._kept_bytes += shared.size
        self._drop_old_ones()

    def _drop_old_ones(self) -> None:
        while self._kept:
            shared, (name, until) = next(iter(self._kept.items()))
            full = len(self._kept) > _MOST_KEPT or self._kept_bytes > _KEPT_BYTES
            if not full and time.monotonic() < until:
                return
            del self._kept[shared]
            self._kept_bytes -= shared.size
            self._forget(name, shared)

    def _forget(self, name: str, shared: Shared) -> None:
        if self._shared.get(name) is shared:
            del self._shared[name]
            self._peers.release(name)


def _size(event: Event) -> int:
    match event:
        case TextDelta() | ReasoningDelta() | TextReplaced():
            return _EVENT_BYTES + len(event.text)
        case ToolCallDelta():
            return _EVENT_BYTES + len(event.arguments)
    return _EVENT_BYTES
