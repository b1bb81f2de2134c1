"""Whether an upstream answers, for the operator: one warning at its first failure, and one line at its recovery."""

import logging
import time

from gpt_oss_proxy.errors import GatewayError, TimedOut, UpstreamFailed, UpstreamUnavailable
from gpt_oss_proxy.gateway.board import Board

_log = logging.getLogger(__name__)
_FAILING_SINCE = 0


class Health:
    """One upstream's, the same for all workers. `name` and `host` are for the log."""

    def __init__(self, board: Board, name: str, host: str) -> None:
        self._cells = board.cells(1)  # Unix seconds since when it fails, 0.0 if it does not
        self._title = f"{name} ({host})" if host else name

    @property
    def is_up(self) -> bool:
        """Whether its last answer was one."""
        return not self._cells[_FAILING_SINCE]

    def note(self, error: GatewayError | None) -> None:
        """Note how an answer has ended: None is well. What the client or its request is to blame for says nothing."""
        since = self._cells[_FAILING_SINCE]
        if error is None:
            if since:
                self._cells[_FAILING_SINCE] = 0.0
                _log.warning("%s answers again, after %.0f s", self._title, time.time() - since)
        elif isinstance(error, UpstreamFailed | TimedOut | UpstreamUnavailable) and not since:
            self._cells[_FAILING_SINCE] = time.time()
            why = f" ({error.reason})" if error.reason else ""
            _log.warning("%s fails: %s%s; the next line about it comes when it answers", self._title, error.code, why)
