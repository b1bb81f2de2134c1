"""From a neutral request to its events: route → admit → relay → count."""

import socket
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import gevent

from gpt_oss_proxy.chat.events import Event, Started
from gpt_oss_proxy.chat.request import ChatRequest, Image, Text
from gpt_oss_proxy.chat.tokens import Count, with_usage
from gpt_oss_proxy.errors import InvalidRequest, ShuttingDown
from gpt_oss_proxy.gateway.client_watch import ClientWatch
from gpt_oss_proxy.gateway.relay import ClientGone, Relay, TimeLimits
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.upstreams.base import Upstream

# What changes the shape of an answer, so it must not be ignored where the upstream cannot do it.
_SHAPES_THE_ANSWER = (
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
)
# Values that ask for nothing but what happens anyway.
_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "stop": ([],),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "n": (1,),
    "logprobs": (False,),
    "parallel_tool_calls": (True, False),
    "modalities": (["text"],),
    "store": (False,),
}


class Answer:
    """An answer that has begun, and its lists of events; an empty list says that a keep-alive is due.

    `ignored` are the request's fields without effect; `reference` is the upstream's own id of the answer, or ''.
    """

    def __init__(self, ignored: tuple[str, ...], events: Generator[list[Event], None, None], *, wait: bool) -> None:
        self.ignored = ignored
        self._events = events
        self.reference, self._first = _first(events, wait=wait)

    def __iter__(self) -> Iterator[list[Event]]:
        """Yield the lists. Raises a GatewayError or ClientGone."""
        yield self._first
        yield from self._events

    def close(self) -> None:
        """End the upstream's call if the answer is not complete. Needed whether or not it was iterated over."""
        self._events.close()


class Dispatcher:
    """Gets answers."""

    def __init__(self, router: Router, limits: TimeLimits, count: Count) -> None:
        self._router = router
        self._limits = limits
        self._count = count
        self._running: set[Relay] = set()
        self.draining = False
        self._cut_off = False

    def route(self, request: ChatRequest) -> Upstream:
        """Return the upstream that will answer. Raises ModelNotFound and its kin."""
        return self._router.route(request.model)

    def dispatch(self, request: ChatRequest, upstream: Upstream, client: socket.socket | None) -> Answer:
        """Return the answer when its first events are there, or the first keep-alive is due if it is streamed.

        `client` is the client's connection, watched until the answer ends; None if there is none to watch. Raises any
        GatewayError, and ClientGone. The answer raises the same later on, and must be closed.
        """
        if self._cut_off:
            raise ShuttingDown
        ignored = admit(request, upstream)
        events = self._events(upstream, request, client)
        return Answer(ignored, events, wait=not request.stream)

    def drain(self, seconds: float) -> None:
        """Give running answers these seconds, then end them with an honest error, and refuse whatever still comes.

        Whoever calls this has stopped to listen: what still arrives came over a connection that was already there, and
        refusing it would only make a reload visible.
        """
        self.draining = True
        gevent.spawn_later(seconds, self._cut)

    def _cut(self) -> None:
        self._cut_off = True
        for relay in self._running:
            relay.stop(ShuttingDown("The gateway is shutting down and had to cut this answer. Ask again."))

    def _events(
        self, upstream: Upstream, request: ChatRequest, client: socket.socket | None
    ) -> Generator[list[Event], None, None]:
        relay = Relay(upstream.stream(request), self._limits)
        watch: ClientWatch | None = None
        self._running.add(relay)
        try:
            watch = ClientWatch(client, lambda: relay.stop(ClientGone())) if client else None
            counts = request.include_usage or not request.stream
            yield from with_usage(iter(relay), request, self._count) if counts else relay
        finally:
            if watch:
                watch.close()
            self._running.discard(relay)
            relay.close()


def admit(request: ChatRequest, upstream: Upstream) -> tuple[str, ...]:
    """Return the names of the request's fields that have no effect on this upstream.

    Raises InvalidRequest for a field that would change the shape of the answer and cannot be given.
    """
    if request.options.get("n", 1) != 1:
        raise InvalidRequest(
            "One answer a request is all there is yet: leave n out, or ask several times.",
            code="unsupported_parameter",
            param="n",
        )
    if upstream.honours is None:
        return ()
    ignored = []
    for name, value in request.options.items():
        if name in upstream.honours or value in _HARMLESS.get(name, ()):
            continue
        if name in _SHAPES_THE_ANSWER:
            raise InvalidRequest(
                f"The model {request.model!r} cannot do {name} yet. Leave the field out, or ask another model.",
                code="unsupported_parameter",
                param=name,
            )
        ignored.append(name)
    if request.reasoning_effort and "reasoning_effort" not in upstream.honours:
        ignored.append("reasoning_effort")
    return (*ignored, *sorted(set(_extras(request))))


def _extras(request: ChatRequest) -> Iterator[str]:
    """Yield the paths of the fields inside messages that only an OpenAI-compatible upstream can take."""
    for message in request.messages:
        yield from (f"messages.{name}" for name in message.extra)
        for part in message.parts:
            if isinstance(part, Text | Image):
                yield from (f"messages.content.{name}" for name in part.extra)
        for call in message.tool_calls:
            yield from (f"messages.tool_calls.{name}" for name in call.extra)


def _first(events: Iterator[list[Event]], *, wait: bool) -> tuple[str, list[Event]]:
    """Return (reference, the first list with output). [] is a keep-alive, which commits a stream unless `wait`."""
    reference = ""
    for found in events:
        if found and isinstance(found[0], Started):
            reference = found[0].reference
            found = found[1:]
            if not found:
                continue
        if found or not wait:
            return reference, found
    return reference, []
