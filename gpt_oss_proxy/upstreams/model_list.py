"""The models that a server lists: asked for by one request at a time, and kept for a while."""

import time
from collections.abc import Callable

from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.net.client.single_flight import SingleFlight
from gpt_oss_proxy.upstreams.base import Model

_KEPT_SECONDS = 60.0
# Where asking fails a list serves longer: a server restarts and loads its model in minutes, and a request for a model
# that has gone gets the server's own answer. After that the error should be seen.
_SERVES_LONGER_SECONDS = 300.0
_FAILURE_KEPT_SECONDS = 5.0  # a dead server must not slow down every list of models


class ModelList:
    """The last list that `ask` returned, which raises a GatewayError if it cannot."""

    def __init__(self, ask: Callable[[], tuple[Model, ...]]) -> None:
        self._ask = ask
        self._asking = SingleFlight(self._ask_now)
        self._models: tuple[Model, ...] = ()
        self._failure: GatewayError | None = None  # of the last time
        self._ask_at = self._serves_until = 0.0

    def get(self) -> tuple[Model, ...]:
        """Return it, asked for anew if it has expired. Raises a GatewayError where it may not serve any longer."""
        now = time.monotonic()
        if now >= self._ask_at:
            if self._failure and now < self._serves_until:
                self._asking.start()  # it may hang, and there is a list to go on with
            else:
                self._asking.join()
        if self._failure and time.monotonic() >= self._serves_until:
            raise self._failure.with_traceback(None)  # it is raised to many, and each would add to it
        return self._models

    def _ask_now(self) -> None:
        try:
            self._models, self._failure = self._ask(), None
            self._ask_at = time.monotonic() + _KEPT_SECONDS
            self._serves_until = self._ask_at + _SERVES_LONGER_SECONDS
        except GatewayError as error:
            self._failure = error
            self._ask_at = time.monotonic() + _FAILURE_KEPT_SECONDS
