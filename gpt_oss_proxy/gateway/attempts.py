"""One request: its upstreams are tried in order, and again after a pause, until one of them accepts it.

An attempt is repeated or moved to another upstream only if no upstream has begun to work on it: after a failed
connection, and after a 429, 502, 503 or 504. A POST that may have been accepted is not repeated, unless its upstream
allows it; and nothing is repeated after the first byte of an answer.
"""

import email.utils
import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence

import gevent
import msgspec

from gpt_oss_proxy.chat.events import Event
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.chain import emulate
from gpt_oss_proxy.emulation.prepare import Emulation
from gpt_oss_proxy.emulation.tokens import UsageCounter, Vocabulary
from gpt_oss_proxy.errors import (
    CircuitOpen,
    GatewayError,
    Overloaded,
    UpstreamConnectionError,
    UpstreamConnectTimeout,
    UpstreamFirstEventTimeout,
    UpstreamTls,
)
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.net.lists import ClosableLists, Opened, Shortcut

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0  # a longer Retry-After is not waited for, but passed on to the client
# Waiting for these is useless: our own refusals, time-outs that have passed, and what only an operator can fix.
_FINAL = (CircuitOpen, Overloaded, UpstreamConnectTimeout, UpstreamTls)


class Target(msgspec.Struct, frozen=True):
    """An upstream that serves the requested model, and the model's id there."""

    gate: UpstreamGate
    model: str


class PreparedAttempt(msgspec.Struct, frozen=True):
    """An upstream, and the prepared request for it."""

    gate: UpstreamGate
    emulation: Emulation


class Attempts(Opened):
    """A request and its batches of events. If no upstream accepts it, they raise the first upstream's error.

    `asked` is the upstream of the last attempt; `pausing` is True between two. Set `shortcut` before iterating.
    """

    shortcut: Shortcut | None = None

    def __init__(
        self,
        tasks: Sequence[PreparedAttempt],
        record: Record,
        vocabulary: Vocabulary,
        *,
        retries: int,
        seconds: float,
        may_retry: Callable[[], bool],
        counts: bool,
        counted: set[UpstreamGate] | None = None,
    ) -> None:
        """`seconds` limits the time for attempts; `counts` is whether usage must be known.

        `counted` are the circuits that this request, which may have several calls, has counted a failure for.
        """
        self.asked = tasks[0].gate
        self.pausing = False
        self._record = record
        self._tasks = tasks
        self._vocabulary = vocabulary
        self._counts = counts
        self._retries = retries
        self._due = time.monotonic() + seconds
        self._may_retry = may_retry
        self._counted = set() if counted is None else counted
        self._silent: set[UpstreamGate] = set()  # upstreams that could not be reached
        self._asking: ClosableLists | None = None

    def open(self) -> Iterator[list[Event]]:
        """Return the batches once an upstream has accepted the request. Raises the first upstream's GatewayError."""
        try:
            return self._answer()
        finally:
            self._count_failures()

    def end(self) -> None:
        """Close the current attempt."""
        self.shortcut = None
        asking, self._asking = self._asking, None  # it refers to us: only the garbage collector would free the cycle
        if asking:
            asking.close()

    def timed_out(self) -> None:
        """Count a failure of the upstream that has sent nothing; its batches are no longer awaited."""
        self._silent.add(self.asked)
        self.asked.health.note(UpstreamFirstEventTimeout())
        self._count_failures()

    def _answer(self) -> Iterator[list[Event]]:
        rounds = 0
        while True:
            failures: list[GatewayError] = []
            again: list[PreparedAttempt] = []  # to be repeated
            for task in self._tasks:
                lists = self._asking = self._ask(task)
                try:
                    first = next(lists, [])
                except GatewayError as error:
                    lists.close()
                    self._record.missed(error)
                    if error.unhealthy:
                        self._silent.add(task.gate)
                    if not _may_be_repeated(error, task):
                        raise
                    failures.append(error)
                    if type(error) not in _FINAL:
                        again.append(task)
                else:
                    self._silent.discard(task.gate)
                    return itertools.chain((first,), lists)
            rounds += 1
            if not again:
                raise failures[0]
            self._tasks = again
            self._pause(failures[0], rounds)

    def _pause(self, failure: GatewayError, rounds: int) -> None:
        """Wait before the next round. Raises `failure` if there must be none."""
        seconds = _pause_seconds(failure, rounds)
        in_time = seconds is not None and time.monotonic() + seconds < self._due
        if rounds > self._retries or seconds is None or not in_time or not self._may_retry():
            if rounds > 1:
                failure.should_retry = False  # the useful retries have been made here
            raise failure
        self.pausing = True
        gevent.sleep(seconds)
        self.pausing = False

    def _ask(self, task: PreparedAttempt) -> ClosableLists:
        self.asked = task.gate
        self._record.upstream = task.gate.upstream.name
        self._record.upstream_host = task.gate.upstream.host
        self._record.tally.asked(id(self), task.emulation.request)  # the tally would keep the call alive

        def ask(request: ChatRequest, shortcut: Shortcut | None) -> ClosableLists:
            self._record.asked.append(task.gate.upstream.name)
            return task.gate.stream(request, shortcut)

        if not self._counts:
            return emulate(task.emulation, ask, self._vocabulary, _new_id, self.shortcut)
        counter = UsageCounter(task.emulation.request, self._vocabulary.count)
        shortcut = counter.shortcut(self.shortcut) if self.shortcut else None
        return counter.run(emulate(task.emulation, ask, self._vocabulary, _new_id, shortcut))

    def _count_failures(self) -> None:
        for gate in self._silent - self._counted:
            gate.breaker.failed()
        self._counted |= self._silent
        self._silent.clear()


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex}"


def _may_be_repeated(error: GatewayError, task: PreparedAttempt) -> bool:
    harmless = task.gate.upstream.repeatable and isinstance(error, UpstreamConnectionError)
    return error.not_taken or harmless


def _pause_seconds(failure: GatewayError, rounds: int) -> float | None:
    """Return the seconds to wait, with jitter, so that requests that failed together do not retry together."""
    seconds = min(_FIRST_PAUSE_SECONDS * 2 ** (rounds - 1), _LONGEST_PAUSE_SECONDS)
    wanted = _seconds(failure.upstream_retry_after)
    if wanted > _LONGEST_PAUSE_SECONDS:
        return None
    return max(wanted, random.uniform(seconds / 2, seconds))  # noqa: S311 - no secret


def _seconds(retry_after: str | None) -> float:
    """Return a valid Retry-After as seconds from now; 0 if there is none."""
    if not retry_after:
        return 0.0
    if retry_after.isdigit():
        return float(retry_after)
    return max(email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
