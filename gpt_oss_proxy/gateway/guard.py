"""An upstream with its door: how many may be inside, and whether it is asked at all."""

import contextlib
from collections.abc import Generator

from gpt_oss_proxy.chat.events import Event
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, InvalidRequest, ModelNotFound, Overloaded
from gpt_oss_proxy.gateway.breaker import Breaker
from gpt_oss_proxy.gateway.places import Places
from gpt_oss_proxy.upstreams.base import Upstream


class Guard:
    """One upstream, its circuit breaker and its places."""

    def __init__(self, upstream: Upstream, breaker: Breaker, places: Places) -> None:
        self.upstream = upstream
        self.breaker = breaker
        self.places = places

    def stream(self, request: ChatRequest) -> Generator[list[Event], None, None]:
        """Yield the upstream's lists of events. Raises CircuitOpen, Overloaded, or the upstream's GatewayError.

        The breaker is told here that the upstream lives. That it does not, the caller tells, who may ask again first.
        """
        place = self.places.take()
        try:
            probe = self.breaker.enter()
            with contextlib.closing(self._watched(request, probe=probe)) as lists:
                yield from lists
        finally:
            place.leave()

    def _watched(self, request: ChatRequest, *, probe: bool) -> Generator[list[Event], None, None]:
        heard = False
        try:
            with contextlib.closing(self.upstream.stream(request)) as lists:
                for events in lists:
                    if not heard:
                        heard = True
                        self.breaker.succeeded()
                    yield events
        except GatewayError as error:
            if not heard and not _is_ours(error):
                heard = True
                if not error.unhealthy:  # a refusal, too, is a sign of life
                    self.breaker.succeeded()
            raise
        finally:
            if probe and not heard:  # its client has gone
                self.breaker.left()


def _is_ours(error: GatewayError) -> bool:
    """Return whether the upstream has not even seen the request: we refused it, or had no descriptor left."""
    return type(error) is Overloaded or (isinstance(error, InvalidRequest) and not isinstance(error, ModelNotFound))
