"""One upstream call, run in a greenlet of its own, and watched: silence, total time, whether the client is still there.

The call's greenlet may wait for names, connections and bytes as requests likes it; whoever iterates over the relay
waits for lists of events with time limits of its own, and ends the call by closing the relay, whatever it waits for.

The two take turns, like a generator and its caller: the call runs only while the next list is awaited, so nothing is
read ahead of a slow client, and a list needs no queue and no turn of the hub to get from one to the other.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import greenlet
import msgspec

from gpt_oss_proxy.chat.events import Event, Finish
from gpt_oss_proxy.chat.lists import ClosableLists
from gpt_oss_proxy.errors import (
    GatewayError,
    InternalError,
    TotalTimeout,
    UpstreamFirstEventTimeout,
    UpstreamIdleTimeout,
)

_WITHOUT_A_BREAK = 64  # lists; whoever reads a socket waits before each read anyway
_SOON = 0.001  # seconds
_A_MOMENT = 1e-6  # seconds; not 0, for gevent would look at its timers and sockets only after fifty turns
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

    def __init__(self, call: ClosableLists, limits: TimeLimits, timed_out: Callable[[], None] | None = None) -> None:
        """`timed_out` is told in the hub, before whoever waits, that nothing has come at all."""
        self._call = call
        self._limits = limits
        self._timed_out = timed_out
        self._list: list[Event] | None = None  # on its way from the reader
        self._ended: _End | None = None
        self._waiter: greenlet.greenlet | None = None  # who waits for the next list
        self._parked = False  # the reader stands still until the next list is awaited
        self._finished = False
        self._heard = False
        now = time.monotonic()
        self._total_due = now + limits.total
        self._heard_at = self._told_at = now
        self._hub = gevent.get_hub()
        self._reader = gevent.spawn(self._read)
        self._reader.rawlink(self._end)
        # One timer for all limits, set to the nearest: an event only notes its time, and costs no timer.
        self._timer = self._new_timer(now)

    def __iter__(self) -> Iterator[list[Event]]:
        """Yield the lists; see the class."""
        try:
            while not self._finished:
                while (events := self._list) is None:
                    if self._ended:
                        raise self._ended.error or InternalError
                    self._waiter = greenlet.getcurrent()
                    try:
                        if self._parked:
                            self._parked = False
                            self._reader.switch()
                        else:
                            self._hub.switch()
                    finally:
                        self._waiter = None
                self._list = None
                self._told_at = time.monotonic()
                self._finished = bool(events) and type(events[-1]) is Finish
                yield events
        finally:
            self.close()

    def _wake(self) -> None:
        """Run whoever waits for the next list. In the hub."""
        if self._waiter:
            self._waiter.switch()

    def stop(self, reason: Exception) -> None:
        """End the call, and raise `reason` where its lists are awaited. May be called from the hub."""
        self._end_with(reason)
        self._reader.kill(block=False)

    def close(self) -> None:
        """End the call, unless its answer is complete: then it only lets its connection return to the pool."""
        self._timer.stop()
        self._timer.close()
        if not self._finished:
            self._reader.kill(block=False)
        elif self._parked:
            self._parked = False
            self._hub.loop.run_callback(self._reader.switch)

    def _end(self, reader: "gevent.Greenlet[..., GatewayError | None]") -> None:
        self._call.close()  # killed before it began, the greenlet has not done so
        self._end_with(_error_of(reader))

    def _end_with(self, error: Exception | None) -> None:
        self._ended = self._ended or _End(error)
        self._hub.loop.run_callback(self._wake)

    def _read(self) -> GatewayError | None:
        whole = False
        try:
            for number, events in enumerate(self._call, 1):
                if whole and events:  # nobody reads on, so nothing may follow
                    break
                self._heard = True
                if events:
                    whole = type(events[-1]) is Finish
                    self._list, self._parked = events, True
                    (self._waiter or self._hub).switch()  # without a waiter it is still busy with a keep-alive
                if not events or number % _WITHOUT_A_BREAK == 0:  # others have their turn, whatever comes
                    gevent.sleep(_A_MOMENT)
                self._heard_at = time.monotonic()
        except GatewayError as error:
            return error
        except gevent.GreenletExit:
            # Killed. Kept as the greenlet's value it would keep its frames, and with them sockets that were just
            # being connected, until the garbage collector comes.
            pass
        finally:  # killed between two lists, the call would otherwise keep its connection until it is collected
            self._call.close()
        return None

    def _tick(self) -> None:
        """Look which limit is reached, in the hub: also a client that reads nothing must not escape them."""
        now = time.monotonic()
        if now >= self._total_due:
            self.stop(TotalTimeout())
        elif not self._parked and now >= self._heard_at + self._limits.idle:
            if not self._heard and self._timed_out:
                self._timed_out()
            self.stop((UpstreamIdleTimeout if self._heard else UpstreamFirstEventTimeout)())
        else:
            keepalive_due = now >= self._told_at + self._limits.keepalive
            self._told_at = now if keepalive_due else self._told_at
            self._timer.close()
            self._timer = self._new_timer(now)
            if keepalive_due and self._waiter:
                self._list = []
                self._wake()

    def _new_timer(self, now: float) -> Any:
        heard_at = now if self._parked else self._heard_at
        due = min(self._total_due, self._told_at + self._limits.keepalive, heard_at + self._limits.idle)
        timer = self._hub.loop.timer(max(due - now, _SOON))
        timer.start(self._tick)
        return timer


class _End(msgspec.Struct, frozen=True):
    """The call has ended without Finish, or nobody waits for it any more."""

    error: Exception | None


def _error_of(reader: "gevent.Greenlet[..., GatewayError | None]") -> GatewayError | None:
    # A bug of ours: gevent has written its traceback to the log.
    return InternalError() if reader.exception else reader.value
