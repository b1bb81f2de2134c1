"""Logs for the operator whether an upstream answers: a warning at its first failure, and a line at its recovery."""

import logging
import time

from gpt_oss_proxy.errors import GatewayError, TimedOut, UpstreamFailed, UpstreamUnavailable
from gpt_oss_proxy.stores.shared_counters import SharedCounters

_log = logging.getLogger(__name__)
_QUIET_SECONDS = 60.0  # after a warning
_FAILING_SINCE, _WAS_NAMED, _QUIET_UNTIL = range(3)  # Unix seconds, 0.0 for none


class Health:
    """One upstream's health, shared by all workers. `name` and `host` are for the log."""

    def __init__(self, counters: SharedCounters, name: str, host: str) -> None:
        self._cells = counters.cells(3)
        self._title = f"{name} ({host})" if host else name

    @property
    def is_up(self) -> bool:
        """Whether its last answer succeeded."""
        return not self._cells[_FAILING_SINCE]

    def note(self, error: GatewayError | None) -> None:
        """Note how an answer has ended, None for success. Errors that the client or its request caused are ignored."""
        cells = self._cells
        if error is None:
            since, was_named = cells[_FAILING_SINCE], cells[_WAS_NAMED]
            if since:
                cells[_FAILING_SINCE] = cells[_WAS_NAMED] = 0.0
            if was_named:
                _log.warning("%s answers again, after %.0f s", self._title, time.time() - since)
        elif isinstance(error, UpstreamFailed | TimedOut | UpstreamUnavailable) and not cells[_FAILING_SINCE]:
            now = cells[_FAILING_SINCE] = time.time()
            if now >= cells[_QUIET_UNTIL]:  # an upstream that fails now and then is not logged each time
                cells[_WAS_NAMED], cells[_QUIET_UNTIL] = 1.0, now + _QUIET_SECONDS
                why = f" ({error.reason})" if error.reason else ""
                _log.warning(
                    "%s fails: %s%s; the next line about it comes when it answers", self._title, error.code, why
                )
