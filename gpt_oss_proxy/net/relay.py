"""One upstream call in its own greenlet, with limits for silence and total time, and a check that the client is there.

The call's greenlet may wait for names, connections and bytes as requests does. The consumer iterates over the relay: it
waits for batches of events with its own time limits, and closing the relay ends the call, whatever it waits for.

The two alternate like a generator and its caller: the call runs only while the next batch is awaited, so nothing is
read ahead of a slow client, and a batch passes without a queue or an iteration of the loop. Instead of iterating, a
consumer can have the batches pushed: each is then emitted in the call's own greenlet, without a switch, and a single
text in the hub, without waking any greenlet (`shortcut`).
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

_WITHOUT_A_BREAK = 64  # batches; a call that reads a socket waits before each read anyway
_SOON = 0.001  # seconds
_A_MOMENT = 1e-6  # seconds; not 0: gevent would check timers and sockets only after fifty rounds


class ClientGone(Exception):
    """The client has closed its connection: no event can reach it."""


class TimeLimits(msgspec.Struct, frozen=True):
    """In seconds: the longest silence of the upstream, the longest answer, the longest silence towards the client."""

    idle: float
    total: float
    keepalive: float


class Client(Protocol):
    """The consumer's connection. `unsent` is what was sent to it and it has not accepted yet."""

    unsent: bytes


class Relay:
    """Iterates once over a call's batches of events; an empty batch means that a keep-alive is due.

    Raises the call's GatewayError, a TimedOut, or ClientGone. With `outlives_client`, the call goes on when the client
    leaves: the relay is then `left`, and a new iteration yields the remaining batches.
    """

    def __init__(self, call: ClosableLists, limits: TimeLimits, timed_out: Callable[[], None] | None = None) -> None:
        """`timed_out` is called in the hub, before the waiting greenlet is woken, if no event has arrived at all."""
        self._call = call
        self._limits = limits
        self._timed_out = timed_out
        self._list: list[Event] | None = None  # on its way from the reader
        self._ended: _End | None = None
        self._waiter: greenlet.greenlet | None = None  # the greenlet that waits for the next batch
        self._parked = False  # the reader is suspended until the next batch is awaited
        self._emit: Callable[[list[Event]], None] | None = None
        self._emitting = False  # the reader is emitting a batch itself
        self._whole = False  # the last batch has arrived
        self._finished = False  # and was emitted
        self._heard = False
        self.outlives_client = False
        self.left = False
        now = time.monotonic()
        self._total_due = now + limits.total
        self._heard_at = self._emitted_at = now
        self._hub = gevent.get_hub()
        self._reader = Run(self._read, self._end)
        # One timer for all limits, set to the nearest: an event only stores its time, and sets no timer.
        self._timer = self._new_timer(now)
        self._lists: Iterator[list[Event]] = self._iterate()

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the remaining batches; see the class."""
        return self._lists

    def __next__(self) -> list[Event]:
        """Return the next batch."""
        return next(self._lists)

    def push(self, emit: Callable[[list[Event]], None]) -> None:
        """Emit the remaining batches; return after the last. Raises as the iterator does, and what `emit` raises."""
        self._emit = emit
        try:
            for events in self._lists:  # keep-alives, and batches that arrive while one is emitted
                emit(events)
        finally:
            self._emit = None  # it may refer to us

    def shortcut(self, client: Client) -> Shortcut:
        """Return a shortcut to the client of `push`; it accepts texts only while `client.unsent` is empty."""

        def emit(text: str) -> bool:
            if client.unsent or self._emitting or not (self._emit and self._waiter) or self._whole or self._ended:
                return False
            try:
                self._emit([TextDelta(text)])
            except Exception as error:  # noqa: BLE001 - any error of `emit` is raised where `push` was called
                self._end_with(error)
                self._reader.kill()
            self._heard = True
            self._heard_at = self._emitted_at = time.monotonic()
            return True

        return emit

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
        """Return the next batch, None if the reader has emitted the last one itself."""
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
        """Switch to the greenlet that waits for the next batch. In the hub."""
        if self._waiter and not self._emitting:
            self._waiter.switch()

    def leave(self) -> None:
        """Handle a client that has gone: raise ClientGone where the batches are awaited. May be called from the hub."""
        if not self.outlives_client or self._ended:
            self.stop(ClientGone())
        elif not self.left:
            self.left = True
            self._hub.loop.run_callback(self._wake)

    def resume(self, before: Iterable[list[Event]]) -> None:
        """Continue after the client left: the next iteration yields the batches of `before`, then those to come."""
        self.outlives_client = self.left = False
        self._lists = itertools.chain(before, self._iterate())

    def stop(self, reason: Exception) -> None:
        """End the call, and raise `reason` where its batches are awaited. May be called from the hub."""
        self._end_with(reason)
        self._reader.kill(spare=self._must_not_be_cut)

    def _must_not_be_cut(self) -> bool:
        """Return whether the reader is emitting a batch, which later output must not cut. If so, close its upstream."""
        if self._emitting:
            self._call.close()
        return self._emitting

    def close(self) -> None:
        """End the call, unless its answer is complete: then it only returns its connection to the pool."""
        self._timer.stop()
        self._timer.close()
        self._ended = _End(None)  # an error's traceback would refer to us
        if not self._finished:
            self._reader.kill()
        elif self._parked:
            self._parked = False
            self._hub.loop.run_callback(self._reader.switch)

    def _end(self, error: GatewayError | None) -> None:
        try:
            self._call.close()  # a run killed before it began, or between two batches, did not close it
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
        except Exception as error:  # any error of `emit`; all others are bugs
            if not self._emitting:
                raise
            self._ended = _End(error)  # raised where `push` was called; it precedes all other reasons
        finally:
            self._emitting = False

    def _deliver(self) -> None:
        for number, events in enumerate(self._call, 1):
            if self._whole and events:  # the answer is complete and is read no further
                return
            self._heard = True
            if events:
                self._whole = type(events[-1]) is Finish
                if self._emit and self._waiter:
                    self._emitting = True
                    self._emit(events)
                    self._emitting = False
                    self._emitted_at = time.monotonic()
                    self._finished = self._whole
                    if self._whole or self._ended:
                        self._hub.loop.run_callback(self._wake)
                    if self._ended:
                        return
                else:  # without a waiter the consumer is still writing a keep-alive
                    self._list, self._parked = events, True
                    (self._waiter or self._hub).switch()
                    self._emitted_at = time.monotonic()
            if not events or number % _WITHOUT_A_BREAK == 0:  # let others run, whatever arrives
                gevent.sleep(_A_MOMENT)
            self._heard_at = time.monotonic()

    @property
    def _stands(self) -> bool:
        """Whether the reader waits for the client: that does not count as silence of the upstream."""
        return self._parked or self._emitting

    def _tick(self) -> None:
        """Check the limits, in the hub: they hold for a client that reads nothing, too."""
        now = time.monotonic()
        if now >= self._total_due:
            self.stop(TotalTimeout())
        elif not self._stands and now >= self._heard_at + self._limits.idle:
            if not self._heard and self._timed_out:
                self._timed_out()
            self.stop((UpstreamIdleTimeout if self._heard else UpstreamFirstEventTimeout)())
        else:
            keepalive_due = now >= self._emitted_at + self._limits.keepalive
            self._emitted_at = now if keepalive_due else self._emitted_at
            self._timer.close()
            self._timer = self._new_timer(now)
            if keepalive_due and self._waiter and not (self._emitting or self._whole or self._ended):
                self._list = []
                self._wake()

    def _new_timer(self, now: float) -> Any:
        heard_at = now if self._stands else self._heard_at
        due = min(self._total_due, self._emitted_at + self._limits.keepalive, heard_at + self._limits.idle)
        timer = self._hub.loop.timer(max(due - now, _SOON))
        timer.start(self._tick)
        return timer


class _End(msgspec.Struct, frozen=True):
    """The call has ended without Finish, a batch could not be emitted, or its consumer has closed the relay."""

    error: Exception | None
