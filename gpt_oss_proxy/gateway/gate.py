"""An upstream with its gate: the circuit and the concurrency limit that an attempt must pass."""

import itertools
from collections.abc import Iterator

from gpt_oss_proxy.chat.events import Event, Lists
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, InvalidRequest, ModelNotFound, Overloaded
from gpt_oss_proxy.gateway.circuit import Breaker
from gpt_oss_proxy.gateway.limits import ConcurrencyLimit, Slot
from gpt_oss_proxy.gateway.observe.health import Health
from gpt_oss_proxy.net.lists import Opened, Shortcut
from gpt_oss_proxy.upstreams.base import Upstream


class UpstreamGate:
    """One upstream, its circuit breaker, its concurrency limit and its health."""

    def __init__(self, upstream: Upstream, breaker: Breaker, limit: ConcurrencyLimit, health: Health) -> None:
        self.upstream = upstream
        self.breaker = breaker
        self.limit = limit
        self.health = health
        upstream.report = health.note

    def stream(self, request: ChatRequest, shortcut: Shortcut | None = None) -> "Attempt":
        """Return the upstream's batches of events. They raise CircuitOpen, Overloaded, or the upstream's GatewayError.

        It reports successes to the circuit. Failures are left to the caller, which may try again first.
        """
        return Attempt(self, request, shortcut)


class Attempt(Opened):
    """One try at one upstream. It holds a slot until it is closed or its batches have ended."""

    def __init__(self, gate: UpstreamGate, request: ChatRequest, shortcut: Shortcut | None) -> None:
        self._gate = gate
        self._request = request
        self._shortcut = shortcut
        self._slot: Slot | None = None
        self._answer: Lists | None = None

    def open(self) -> Iterator[list[Event]]:
        """Return the batches once the first has arrived; that one may be empty (a heartbeat)."""
        self._slot = self._gate.limit.take()
        try:
            first = self._first(probe=self._gate.breaker.enter())
        except BaseException:  # also when the greenlet is killed: it is raised again
            self.close()
            raise
        return itertools.chain(first, self._answer or (), self._end())

    def end(self) -> None:
        """Close the upstream's answer, and free the slot."""
        self._shortcut = None
        try:
            if self._answer:
                self._answer.close()
        finally:
            if self._slot:
                self._slot.leave()

    def _first(self, *, probe: bool) -> list[list[Event]]:
        heard = False
        self._answer = self._gate.upstream.stream(self._request, self._shortcut)
        try:
            first = list(itertools.islice(self._answer, 1))
            if first:
                heard = True
                self._gate.breaker.succeeded()
        except GatewayError as error:
            if not _is_ours(error):
                heard = True
                if not error.unhealthy:  # a refusal is a sign of life, too
                    self._gate.breaker.succeeded()
            raise
        else:
            return first
        finally:
            if probe and not heard:  # its client has gone
                self._gate.breaker.left()

    def _end(self) -> Iterator[list[Event]]:
        self.close()
        yield from ()


def _is_ours(error: GatewayError) -> bool:
    """Return whether the upstream has not seen the request: we refused it, or no descriptor was left."""
    return type(error) is Overloaded or (isinstance(error, InvalidRequest) and not isinstance(error, ModelNotFound))
