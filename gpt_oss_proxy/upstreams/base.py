"""The base of all upstreams: encode a request, send it, and decode its answer into neutral events.

An upstream is one file: a pure `Decoder` (bytes → events, see decoder.py), a pure `build_body`, and a class that uses
both. All HTTP is handled here and in transport.py.
"""

import abc
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from urllib.parse import urlsplit

import gevent
import msgspec
import requests

from gpt_oss_proxy.chat.events import Event, Finish, Lists
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.net.client.transport import HTTPStatusError, Transport, is_read, offer, read_blocks
from gpt_oss_proxy.net.lists import Shortcut
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.status_error import StatusError, error_from_status, read_status


class Model(msgspec.Struct, frozen=True):
    """A model that the upstream serves. `created` is in Unix seconds, `context_length` in tokens, None if not known."""

    id: str
    owned_by: str
    created: int
    context_length: int | None = None


class Upstream(abc.ABC):
    """A server that answers chats. One instance serves all requests of a worker, and keeps no state per request."""

    name: str
    native_options: frozenset[str] | None = frozenset()  # request fields that reach the model; None = all of them
    leaks_harmony = False  # its models are gpt-oss: their own markup may appear in the text
    grace_seconds = 2.0  # how long to wait for the body's end after the protocol's terminal event
    repeatable = False  # True: a POST that it may have accepted can be sent again without harm

    def __init__(self, transport: Transport, url: str = "") -> None:
        """`url` is the server's."""
        self._transport = transport
        parts = urlsplit(url)
        self.host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""  # without a password
        self.report: Callable[[GatewayError | None], None] = lambda _: None  # called at each answer's end, None = well
        self.unknown_reasons = 0  # answers that ended with an unknown finish reason

    @abc.abstractmethod
    def models(self) -> tuple[Model, ...]:
        """Return the models that this upstream serves now. Raises a GatewayError if it had to ask and failed."""

    def known_models(self) -> tuple[Model, ...]:
        """Return the models that are known without asking the server; () if only the server knows them."""
        return self.models()

    def drop_idle(self) -> None:
        """Close idle connections: forked processes must not share them."""
        self._transport.close()

    @abc.abstractmethod
    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        """Return (URL, headers, body) of the POST for the request. Raises InvalidRequest for what it cannot express."""

    @abc.abstractmethod
    def decoder(self, headers: Mapping[str, str], request: ChatRequest) -> Decoder:
        """Return a fresh decoder for an answer with these (case-insensitive) headers. Raises UpstreamProtocolError."""

    def send(self, request: ChatRequest) -> requests.Response:
        """Return the response with its body unread; a subclass may send a changed request after a refusal.

        Raises StatusError, or a GatewayError.
        """
        url, headers, body = self.build(request)
        return self.post(url, {**headers, **request.trace}, body)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> requests.Response:
        """Return the response to this POST with its body unread. Raises StatusError, or a GatewayError."""
        try:
            return self._transport.send("POST", url, headers=headers, body=body)
        except HTTPStatusError as error:
            raise read_status(error) from error

    def stream(self, request: ChatRequest, shortcut: Shortcut | None = None) -> Lists:
        """Yield the answer's events, one batch per read; [] means that the upstream is alive. The last event is Finish.

        Text delivered by the shortcut is in none of the batches. Raises a GatewayError. Closing the iterator closes the
        connection. After Finish, iterating on lets the connection return to its pool.
        """
        try:
            yield from self._answer(request, shortcut)
        except GatewayError as error:
            self.report(error)
            raise

    def _answer(self, request: ChatRequest, shortcut: Shortcut | None) -> Lists:
        try:
            response = self.send(request)
        except StatusError as error:
            raise error_from_status(error, request.model) from error
        try:
            decoder = self.decoder(response.headers, request)
            blocks = read_blocks(response)
            deadline: float | None = None
            last: list[Event] = []
            while not last and not decoder.ended:
                try:
                    block = next(blocks, None) if deadline is None else _next_before(response, blocks, deadline)
                except GatewayError:
                    if not decoder.complete:
                        raise
                    block = None
                if block is None:
                    break
                events = decoder.feed(block)
                if events is not None:
                    if not decoder.complete:
                        deadline = None
                    elif not decoder.failure and (decoder.ended or is_read(response)):
                        last = events  # delivered together with the end
                        continue
                    elif events or deadline is None:  # records without events do not extend the grace period
                        deadline = time.monotonic() + self.grace_seconds
                    if shortcut and decoder.knows_more:
                        offer(response, partial(decoder.take, shortcut))
                        shortcut = None
                    yield events
                if decoder.failure:
                    decoder.raise_failure()
            for events in _end(decoder, last):
                if isinstance(events[-1], Finish):
                    self.report(None)
                yield events
            if decoder.ended:  # else there is no rest, or waiting for it was in vain
                self._read_rest(response, blocks)
        finally:
            response.close()

    def _read_rest(self, response: requests.Response, blocks: Iterator[bytes]) -> None:
        """Read on after the answer is complete: the pool accepts only connections that were read to their end."""
        deadline = time.monotonic() + self.grace_seconds
        try:
            while _next_before(response, blocks, deadline) is not None:
                pass
        except GatewayError:
            pass


def _end(decoder: Decoder, last: list[Event]) -> Iterator[list[Event]]:
    """Yield these events and those of the end, in one batch if the answer ends well."""
    try:
        end = decoder.close()
    except GatewayError:
        if last:
            yield last
        raise
    yield [*last, *end]


def _next_before(response: requests.Response, blocks: Iterator[bytes], deadline: float) -> bytes | None:
    """Return the next block, or None at the end of the body or at the deadline."""
    seconds = deadline - time.monotonic()
    if seconds <= 0 or is_read(response):
        return None
    block: bytes | None = None
    with gevent.Timeout(seconds, False):  # type: ignore[arg-type] # False: no exception, the block just ends
        block = next(blocks, None)
    return block  # noqa: RET504 - None after the deadline
