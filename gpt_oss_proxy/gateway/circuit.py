"""A circuit breaker: after repeated failures an upstream is not asked for a while, then tried with one probe.

Closed: all requests pass. After so many failures in a row it opens: no request passes for some seconds, and for longer
each time that a probe fails. Then one probe passes: if it succeeds the circuit closes, if not it opens again.
"""

import math
import time
from collections.abc import Callable
from typing import Literal

from gpt_oss_proxy.errors import CircuitOpen
from gpt_oss_proxy.stores.shared_counters import SharedCounters

_LONGEST = 8  # times the first duration
_PROBE_SECONDS = 60.0  # then a probe without a result is dropped: its worker may have been killed
_FAILURES, _OPENED, _OPEN_UNTIL, _PROBE_UNTIL = range(4)

State = Literal["closed", "open", "half_open"]


class Breaker:
    """One upstream's circuit, shared by all workers. With `failures` 0 it never opens."""

    def __init__(
        self, counters: SharedCounters, *, failures: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cells = counters.cells(4)
        self._failures = failures
        self._seconds = seconds
        self._clock = clock

    @property
    def state(self) -> State:
        """The state now. Half open: the next request is a probe, or a probe is running."""
        if not self._cells[_OPEN_UNTIL]:
            return "closed"
        return "open" if self._clock() < self._cells[_OPEN_UNTIL] else "half_open"

    def enter(self) -> bool:
        """Return whether this request is the probe. Raises CircuitOpen if the upstream must not be asked."""
        cells, now = self._cells, self._clock()
        if not cells[_OPEN_UNTIL]:
            return False
        if now < cells[_OPEN_UNTIL]:
            raise CircuitOpen(retry_after=str(math.ceil(cells[_OPEN_UNTIL] - now)))
        if now < cells[_PROBE_UNTIL]:
            raise CircuitOpen(retry_after="1")
        cells[_PROBE_UNTIL] = now + _PROBE_SECONDS
        return True

    def succeeded(self) -> None:
        """Close the circuit: the upstream has answered, even with a refusal."""
        if any(self._cells):  # usually all are 0.0: skip the write, as other workers read these cells
            for cell in range(4):
                self._cells[cell] = 0.0

    def failed(self) -> None:
        """Count a failure: the upstream could not be reached."""
        cells, now = self._cells, self._clock()
        cells[_FAILURES] += 1
        if self.state == "half_open" or (self.state == "closed" and 0 < self._failures <= cells[_FAILURES]):
            cells[_OPEN_UNTIL] = now + self._seconds * min(2 ** cells[_OPENED], _LONGEST)
            cells[_OPENED] += 1
            cells[_PROBE_UNTIL] = 0.0

    def left(self) -> None:
        """End the probe without a result: its client has gone."""
        self._cells[_PROBE_UNTIL] = 0.0
