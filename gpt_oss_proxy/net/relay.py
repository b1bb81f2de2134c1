"""One upstream call, run in a greenlet of its own, and watched: silence, total time, whether the client is still there.

The call's greenlet may wait for names, connections and bytes as requests likes it; whoever iterates over the relay
waits for lists of events with time limits of its own, and ends the call by closing the relay, whatever it waits for.

The two take turns, like a generator and its caller: the call runs only while the next list is awaited, so nothing is
read ahead of a slow client, and a list needs no queue and no turn of the hub to get from one to the other. Whoever
does not want to iterate has them pushed: then each is told in the call's own greenlet, without a switch to another, and
a text that comes alone in the hub, without waking any (`shortcut`).
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import gevent
import greenlet
import msgspec

from gpt_oss_proxy.chat.events import Event, Finish, TextDelta
from gpt_oss_proxy.errors import (
    GatewayError,
    InternalError,
    TotalTimeout,
    UpstreamFirstEventTimeout,
    UpstreamIdleTimeout,
)
from gpt_oss_proxy.net.lists import ClosableLists, Shortcut
from gpt_oss_proxy.net.run import Run

_WITHOUT_A_BREAK = 64  # lists; whoever reads a socket waits before each read anyway
_SOON = 0.001  # seconds
_A_MOMENT = 1e-6  # seconds; not 0, for gevent would look at its timers and sockets only after fifty turns


class ClientGone(Exception):
    """The client has closed its connection: nobody is there to be told anything."""


class TimeLimits(msgspec.Struct, frozen=True):
    """In seconds: the longest silence of the upstream, the longest answer, the longest silence of ours."""

    idle: float
    total: float
    keepalive: float


class Client(Protocol):
    """Who is told. `unsent` is what it has not taken yet of what it was sent."""

    unsent: bytes


class Relay:
    """Iterates once over a call's lists of events; an empty list says that a keep-alive is due.

    Raises the call's GatewayError, a TimedOut, or ClientGone. Where it `outlives_client`, the call goes on when the
    client leaves: then the relay is `left`, and whoever iterates over it anew gets the lists that are left.
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
        self._tell: Callable[[list[Event]], None] | None = None
        self._telling = False  # the reader tells a list itself
        self._whole = False  # its last list has come
        self._finished = False  # and is told
        self._heard = False
        self.outlives_client = False
        self.left = False
        now = time.monotonic()
        self._total_due = now + limits.total
        self._heard_at = self._told_at = now
        self._hub = gevent.get_hub()
        self._reader = Run(self._read, self._end)
        # One timer for all limits, set to the nearest: an event only notes its time, and costs no timer.
        self._timer = self._new_timer(now)
        self._lists: Iterator[list[Event]] = self._iterate()

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the lists that are left; see the class."""
        return self._lists

    def __next__(self) -> list[Event]:
        """Return the next list."""
        return next(self._lists)

    def push(self, tell: Callable[[list[Event]], None]) -> None:
        """Tell the lists that are left; return after the last. Raises as the iterator does, and what `tell` raises."""
        self._tell = tell
        try:
            for events in self._lists:  # keep-alives, and what comes while one is told
                tell(events)
        finally:
            self._tell = None  # it may refer to us

    def shortcut(self, client: Client) -> Shortcut:
        """Return one to the client that the lists are pushed to: it is open while that takes what it is sent."""

        def tell(text: str) -> bool:
            if client.unsent or self._telling or not (self._tell and self._waiter) or self._whole or self._ended:
                return False
            try:
                self._tell([TextDelta(text)])
            except Exception as error:  # noqa: BLE001 - of `tell`, any: it is raised where that was given
                self._end_with(error)
                self._reader.kill()
            self._heard = True
            self._heard_at = self._told_at = time.monotonic()
            return True

        return tell

    def _iterate(self) -> Iterator[list[Event]]:
        try:
            while not self._finished:
                events = self._next()
                if events is None:
                    return
                self._finished = self._finished or (bool(events) and type(events[-1]) is Finish)
                yield events
        finally:
            if not self.left:
                self.close()

    def _next(self) -> list[Event] | None:
        """Return the next list, None if the reader has told the last one itself."""
        while not self.left and self._list is None and not self._finished:
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
        if self.left:
            raise ClientGone
        events, self._list = self._list, None
        return None if self._finished else events

    def _wake(self) -> None:
        """Run whoever waits for the next list. In the hub."""
        if self._waiter and not self._telling:
            self._waiter.switch()

    def leave(self) -> None:
        """The client has gone: raise ClientGone where the lists are awaited. May be called from the hub."""
        if not self.outlives_client or self._ended:
            self.stop(ClientGone())
        elif not self.left:
            self.left = True
            self._hub.loop.run_callback(self._wake)

    def resume(self, before: Iterable[list[Event]]) -> None:
        """Go on after it was left: whoever iterates gets the lists of `before`, then those that are to come."""
        self.outlives_client = self.left = False
        self._lists = itertools.chain(before, self._iterate())

    def stop(self, reason: Exception) -> None:
        """End the call, and raise `reason` where its lists are awaited. May be called from the hub."""
        self._end_with(reason)
        self._reader.kill(spare=self._must_not_be_cut)

    def _must_not_be_cut(self) -> bool:
        """Return whether the reader tells a list: what is told next would come in its middle. Its upstream is left."""
        if self._telling:
            self._call.close()
        return self._telling

    def close(self) -> None:
        """End the call, unless its answer is complete: then it only lets its connection return to the pool."""
        self._timer.stop()
        self._timer.close()
        self._ended = _End(None)  # an error has a traceback, which refers to us
        if not self._finished:
            self._reader.kill()
        elif self._parked:
            self._parked = False
            self._hub.loop.run_callback(self._reader.switch)

    def _end(self, error: GatewayError | None) -> None:
        try:
            self._call.close()  # killed before it began, or between two lists, it has not been closed
        finally:
            self._end_with(error)

    def _end_with(self, error: Exception | None) -> None:
        self._ended = self._ended or _End(error)
        self._hub.loop.run_callback(self._wake)

    def _read(self) -> None:
        try:
            self._deliver()
        except GatewayError:
            raise
        except Exception as error:  # of `tell`, any; all others are bugs
            if not self._telling:
                raise
            self._ended = _End(error)  # of `tell`: it is raised where it was given, and goes before all other reasons
        finally:
            self._telling = False

    def _deliver(self) -> None:
        for number, events in enumerate(self._call, 1):
            if self._whole and events:  # nobody reads on, so nothing may follow
                return
            self._heard = True
            if events:
                self._whole = type(events[-1]) is Finish
                if self._tell and self._waiter:
                    self._telling = True
                    self._tell(events)
                    self._telling = False
                    self._told_at = time.monotonic()
                    self._finished = self._whole
                    if self._whole or self._ended:
                        self._hub.loop.run_callback(self._wake)
                    if self._ended:
                        return
                else:  # without a waiter it is still busy with a keep-alive
                    self._list, self._parked = events, True
                    (self._waiter or self._hub).switch()
                    self._told_at = time.monotonic()
            if not events or number % _WITHOUT_A_BREAK == 0:  # others have their turn, whatever comes
                gevent.sleep(_A_MOMENT)
            self._heard_at = time.monotonic()

    @property
    def _stands(self) -> bool:
        """Whether the reader stands still for the client's sake: that is no silence of the upstream."""
        return self._parked or self._telling

    def _tick(self) -> None:
        """Look which limit is reached, in the hub: also a client that reads nothing must not escape them."""
        now = time.monotonic()
        if now >= self._total_due:
            self.stop(TotalTimeout())
        elif not self._stands and now >= self._heard_at + self._limits.idle:
            if not self._heard and self._timed_out:
                self._timed_out()
            self.stop((UpstreamIdleTimeout if self._heard else UpstreamFirstEventTimeout)())
        else:
            keepalive_due = now >= self._told_at + self._limits.keepalive
            self._told_at = now if keepalive_due else self._told_at
            self._timer.close()
            self._timer = self._new_timer(now)
            if keepalive_due and self._waiter and not (self._telling or self._whole or self._ended):
                self._list = []
                self._wake()

    def _new_timer(self, now: float) -> Any:
        heard_at = now if self._stands else self._heard_at
        due = min(self._total_due, self._told_at + self._limits.keepalive, heard_at + self._limits.idle)
        timer = self._hub.loop.timer(max(due - now, _SOON))
        timer.start(self._tick)
        return timer


class _End(msgspec.Struct, frozen=True):
    """The call has ended without Finish, a list could not be told, or nobody waits for it any more."""

    error: Exception | None
