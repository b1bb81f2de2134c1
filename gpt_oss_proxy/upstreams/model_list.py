"""The models that a server lists: fetched by one request at a time, and cached."""

import time
from collections.abc import Callable

from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.net.client.single_flight import SingleFlight
from gpt_oss_proxy.upstreams.base import Model

_KEPT_SECONDS = 60.0
# If fetching fails, an expired list is served longer: a server restarts and loads its model in minutes, and a request
# for a removed model gets the server's own answer. After that the error should be seen.
_SERVES_LONGER_SECONDS = 300.0
_FAILURE_KEPT_SECONDS = 5.0  # a dead server must not slow down every listing of models


class ModelList:
    """The list that `ask` returned last. `ask` raises a GatewayError if it fails."""

    def __init__(self, ask: Callable[[], tuple[Model, ...]]) -> None:
        self._ask = ask
        self._asking = SingleFlight(self._ask_now)
        self._models: tuple[Model, ...] = ()
        self._failure: GatewayError | None = None  # of the last fetch
        self._ask_at = self._serves_until = 0.0

    def get(self) -> tuple[Model, ...]:
        """Return the list, fetched again if it has expired. Raises a GatewayError if it is too old to be served."""
        now = time.monotonic()
        if now >= self._ask_at:
            if self._failure and now < self._serves_until:
                self._asking.start()  # it may hang, and the old list can still be served
            else:
                self._asking.join()
        if self._failure and time.monotonic() >= self._serves_until:
            raise self._failure.with_traceback(None)  # raised to many callers: each would extend the traceback
        return self._models

    def _ask_now(self) -> None:
        try:
            self._models, self._failure = self._ask(), None
            self._ask_at = time.monotonic() + _KEPT_SECONDS
            self._serves_until = self._ask_at + _SERVES_LONGER_SECONDS
        except GatewayError as error:
            self._failure = error
            self._ask_at = time.monotonic() + _FAILURE_KEPT_SECONDS
