"""One upstream call, run in a greenlet of its own, and watched: silence, total time, whether the client is still there.

The call's greenlet may wait for names, connections and bytes as requests likes it; whoever iterates over the relay
waits for lists of events with time limits of its own, and ends the call by closing the relay, whatever it waits for.
"""

import contextlib
import time
from collections.abc import Iterator

import gevent
import msgspec
from gevent.lock import Semaphore
from gevent.queue import Empty, SimpleQueue

from gpt_oss_proxy.chat.events import Event, Finish
from gpt_oss_proxy.errors import (
    GatewayError,
    InternalError,
    TotalTimeout,
    UpstreamFirstEventTimeout,
    UpstreamIdleTimeout,
)
from gpt_oss_proxy.gateway.call import ClosableLists

# Lists read ahead of the client. Beyond it the upstream is read no faster than the client reads.
_READ_AHEAD = 8
# What of a client's patience is kept for the way to it.
_SHARE_OF_PATIENCE = 0.1
_MOST_OF_PATIENCE_SECONDS = 2.0


class ClientGone(Exception):
    """The client has closed its connection: nobody is there to be told anything."""


class TimeLimits(msgspec.Struct, frozen=True):
    """In seconds: the longest silence of the upstream, the longest answer, the longest silence of ours."""

    idle: float
    total: float
    keepalive: float

    def within(self, patience: float | None, *, stream: bool) -> "TimeLimits":
        """Return the limits for a client that gives up after `patience` seconds: our own word has to come before.

        SDKs measure the wait for a whole answer or for the next bytes of a stream, never a stream's whole length, so
        a stream that flows may take longer.
        """
        if patience is None:
            return self
        ours = patience - min(_SHARE_OF_PATIENCE * patience, _MOST_OF_PATIENCE_SECONDS)
        return TimeLimits(
            idle=min(self.idle, ours),
            total=self.total if stream else min(self.total, ours),
            keepalive=self.keepalive,
        )


class Relay:
    """Iterates over a call's lists of events; an empty list says that a keep-alive is due.

    Raises the call's GatewayError, a TimedOut, or ClientGone.
    """

    def __init__(self, call: ClosableLists, limits: TimeLimits) -> None:
        self._call = call
        self._limits = limits
        self._queue: SimpleQueue[list[Event] | _End] = SimpleQueue()
        self._room = Semaphore(_READ_AHEAD)
        self._finished = False
        self._heard = False
        self._reader = gevent.spawn(self._read)
        self._reader.rawlink(self._end)
        # Not only where lists are awaited: a client that reads nothing keeps its handler from ever coming there.
        self._timer = gevent.get_hub().loop.timer(limits.total)
        self._timer.start(self.stop, TotalTimeout())

    def __iter__(self) -> Iterator[list[Event]]:
        """Yield the lists; see the class."""
        try:
            while not self._finished:
                yield from self._wait()
        finally:
            self.close()

    def stop(self, reason: Exception) -> None:
        """End the call, and raise `reason` where its lists are awaited. May be called from the hub."""
        self._queue.put(_End(reason))
        self._reader.kill(block=False)

    def close(self) -> None:
        """End the call, unless its answer is complete: then it only lets its connection return to the pool."""
        self._timer.stop()
        self._timer.close()
        if not self._finished:
            self._reader.kill(block=False)

    def _end(self, reader: "gevent.Greenlet[..., GatewayError | None]") -> None:
        self._call.close()  # killed before it began, the greenlet has not done so
        self._queue.put(_End(_error_of(reader)))

    def _read(self) -> GatewayError | None:
        # closing: killed between two lists, the call would otherwise keep its connection until it is collected.
        with contextlib.closing(self._call):
            whole = False
            try:
                for events in self._call:
                    if whole and events:  # nobody reads on, so nothing may follow
                        break
                    if not whole:
                        self._room.acquire()
                        self._queue.put(events)
                        whole = bool(events) and isinstance(events[-1], Finish)
            except GatewayError as error:
                return error
            except gevent.GreenletExit:
                # Killed. Kept as the greenlet's value it would keep its frames, and with them sockets that were just
                # being connected, until the garbage collector comes.
                pass
        return None

    def _wait(self) -> Iterator[list[Event]]:
        """Yield keep-alives, then the next list that tells something."""
        now = time.monotonic()
        idle_due = now + self._limits.idle
        keepalive_due = now + self._limits.keepalive
        while True:
            item = self._next(min(idle_due, keepalive_due))
            now = time.monotonic()
            if isinstance(item, _End):
                raise item.error or InternalError
            if item is not None:
                self._room.release()
                self._heard = True
                idle_due = now + self._limits.idle
                if item:
                    self._finished = isinstance(item[-1], Finish)
                    yield item
                    return
            if now >= idle_due:
                raise UpstreamIdleTimeout if self._heard else UpstreamFirstEventTimeout
            if now >= keepalive_due:
                keepalive_due = now + self._limits.keepalive
                yield []

    def _next(self, due: float) -> "list[Event] | _End | None":
        try:
            return self._queue.get(timeout=max(due - time.monotonic(), 0))
        except Empty:
            return None


class _End(msgspec.Struct, frozen=True):
    """The call has ended without Finish, or nobody waits for it any more."""

    error: Exception | None


def _error_of(reader: "gevent.Greenlet[..., GatewayError | None]") -> GatewayError | None:
    # A bug of ours: gevent has written its traceback to the log.
    return InternalError() if reader.exception else reader.value
