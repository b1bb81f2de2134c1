"""Several calls for one request, merged into one answer: batches in order of arrival, each with its choice's number.

If one call fails, the answer fails: part of the requested choices is no valid answer.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import gevent
from gevent.lock import Semaphore
from gevent.queue import SimpleQueue

from gpt_oss_proxy.chat.events import Choice, Event, Finish, FinishReason, Lists, Started, Usage
from gpt_oss_proxy.emulation.chain import add
from gpt_oss_proxy.errors import GatewayError, InternalError
from gpt_oss_proxy.gateway.attempts import Attempts
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.net.lists import Opened

_READ_AHEAD = 8  # batches, per call
_AT_ONCE = 8  # calls


class Choices(Opened):
    """Calls that run together. It is used like Attempts."""

    def __init__(self, calls: Sequence[Attempts]) -> None:
        self._calls = calls
        self._queue: SimpleQueue[tuple[int, list[Event] | GatewayError]] = SimpleQueue()
        self._room = Semaphore(_READ_AHEAD * len(calls))
        self._running = Semaphore(_AT_ONCE)
        self._silent = set(calls)
        self._begun: set[Attempts] = set()
        self._started = False
        self._usages: list[Usage] = []
        self._merging: Lists | None = None

    @property
    def asked(self) -> UpstreamGate:
        """The upstream of the first call's last attempt."""
        return self._calls[0].asked

    @property
    def pausing(self) -> bool:
        """Whether one of the calls waits before its next attempt."""
        return any(call.pausing for call in self._calls)

    def timed_out(self) -> None:
        """Report the time-out to all calls that have begun and received nothing."""
        for call in self._silent & self._begun:
            call.timed_out()

    def open(self) -> Iterator[list[Event]]:
        """Return the batches of all calls. They raise the first GatewayError of any."""
        self._merging = self._merge()
        return self._merging

    def end(self) -> None:
        """End all calls."""
        if self._merging:
            self._merging.close()

    def _merge(self) -> Lists:
        reasons: dict[int, FinishReason] = {}
        readers = [gevent.spawn(self._read, index) for index in range(len(self._calls))]
        for index, reader in enumerate(readers):
            reader.rawlink(partial(self._end, index))
        try:
            while len(reasons) < len(self._calls):
                index, item = self._queue.get()
                if isinstance(item, GatewayError):
                    raise item
                self._room.release()
                if item and isinstance(item[-1], Finish):
                    reasons[index] = item[-1].reason
                yield self._without_ends(index, item)
            yield self._last(reasons)
        finally:
            for index, reader in enumerate(readers):
                if index not in reasons:  # the finished ones return their connections to the pool
                    reader.kill(block=False)

    def _read(self, index: int) -> GatewayError | None:
        call = self._calls[index]
        with self._running:
            self._begun.add(call)
            try:
                for events in call:
                    self._silent.discard(call)
                    self._room.acquire()
                    self._queue.put((index, events))
            except GatewayError as error:
                return error
            except gevent.GreenletExit:  # see Relay: its traceback would keep sockets open
                pass
            finally:
                call.close()
        return None

    def _end(self, index: int, reader: "gevent.Greenlet[..., GatewayError | None]") -> None:
        error = InternalError() if reader.exception else reader.value
        if error:
            self._queue.put((index, error))

    def _without_ends(self, index: int, events: list[Event]) -> list[Event]:
        """Return the events to emit now. Usage and Finish are held until all choices have ended."""
        self._usages += [event for event in events if isinstance(event, Usage)]
        said: list[Event] = [event for event in events if not isinstance(event, Usage | Finish | Started)]
        said = [Choice(index), *said] if said else []
        if not self._started and events and isinstance(events[0], Started):
            self._started = True
            return [events[0], *said]
        return said

    def _last(self, reasons: dict[int, FinishReason]) -> list[Event]:
        first, *others = (reasons[index] for index in range(len(self._calls)))
        finish = Finish(first, tuple(others))
        if len(self._usages) < len(self._calls):  # usage was not requested
            return [finish]
        usage = self._usages[0]
        for other in self._usages[1:]:
            usage = add(usage, other)
        return [usage, finish]
