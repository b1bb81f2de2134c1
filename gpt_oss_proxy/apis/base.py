"""What a client API is: routes, a parser, renderers of whole and streamed answers, a form of errors, a description."""

import abc
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.events import Event
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError

Path = tuple[str | int, ...]


class Incoming(msgspec.Struct, frozen=True):
    """One HTTP request for a route. `environ` is its WSGI environment, `path` holds its path's variables."""

    body: bytes
    environ: Mapping[str, Any] = {}
    path: Mapping[str, str] = {}

    def header(self, name: str) -> str:
        """Return a header's value, '' if the request has none of this name."""
        value: str = self.environ.get(_variable(name), "")
        return value


@lru_cache(64)
def _variable(header: str) -> str:
    """Return a header's name in the WSGI environment."""
    return f"HTTP_{header.upper().replace('-', '_')}"


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer over HTTP, of the API's own making: a stored object, a count, an error."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class ModelRoute(msgspec.Struct, frozen=True):
    """A POST that a model answers. `path` is a rule of Flask's (`/a/<id>`) below /v1.

    `parse` returns what the request asks for, with '' as the model where it names none. It raises a GatewayError.
    """

    path: str
    parse: Callable[[Incoming], ChatRequest]
    method: str = "POST"


class DirectRoute(msgspec.Struct, frozen=True):
    """A request that the API answers itself, from its state. `answer` may wait, and raises a GatewayError."""

    method: str
    path: str
    answer: Callable[[Incoming], HttpAnswer]


Route = ModelRoute | DirectRoute


class Stamp(msgspec.Struct, frozen=True):
    """What every part of one answer bears: its id, its time in Unix seconds, and the model as asked for.

    `request_id` is that of the request, which is in a header, too.
    """

    id: str
    created: int
    model: str
    request_id: str = ""


class Services(msgspec.Struct, frozen=True):
    """What the gateway does for client APIs.

    `count_prompt` returns the tokens of a request's prompt, as its model gets it: the number of the event Counted. It
    raises ModelNotFound, InvalidField, or the error of an upstream that was asked for its models.
    """

    count_prompt: Callable[[ChatRequest], int]


class Description(msgspec.Struct, frozen=True):
    """A client API's part of the OpenAPI document: path items by their path below /v1, and schemas."""

    paths: Mapping[str, Any]
    schemas: Mapping[str, Any]


class StreamRenderer(Protocol):
    """Batches of events → the bytes of one streamed answer, in the order of its calls."""

    def feed(self, events: list[Event]) -> bytes:
        """Return the bytes for a batch without an end; [] asks for a keep-alive. May be b''. It never waits."""

    def end(self, events: list[Event]) -> bytes:
        """Return the bytes for the last batch, whose last event is Finish.

        It may wait, for the handler calls it; but no limit of time and no keep-alive holds meanwhile.
        """

    def fail(self, error: GatewayError) -> bytes:
        """Return the bytes that end the stream with an error."""


class ClientApi(abc.ABC):
    """One format that clients speak. Its state (a store, a clock, settings) is given to the constructor."""

    name: str  # of the API, for routes and request keys
    id_prefix: str  # of its answers' ids
    key_headers: tuple[str, ...] = ()  # further headers in which its clients send a key
    routes: tuple[Route, ...]

    def headers(self, request_id: str) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - a hook
        """Return further headers of an answer of a model."""
        return ()

    def claims(self, environ: Mapping[str, Any]) -> bool:  # noqa: ARG002 - a hook
        """Return whether a request to an unknown path comes from a client of this API, by its headers."""
        return False

    @abc.abstractmethod
    def spell(self, path: Path, request: ChatRequest) -> str:
        """Return a field's neutral path as this API's clients know it; see errors.InvalidField."""

    @abc.abstractmethod
    def spell_ignored(self, fields: tuple[str, ...], request: ChatRequest) -> tuple[str, ...]:
        """Return the names of fields without effect as clients know them; see gateway.dispatch.without_effect."""

    def collector(self, request: ChatRequest) -> Collector:  # noqa: ARG002 - a hook
        """Return what puts a whole answer together; it is fed in the order in which a stream would be."""
        return Collector()

    @abc.abstractmethod
    def whole(self, collector: Collector, stamp: Stamp, request: ChatRequest) -> bytes:
        """Return the body of a whole answer, which the collector has got. It may wait."""

    @abc.abstractmethod
    def stream(self, stamp: Stamp, request: ChatRequest) -> StreamRenderer:
        """Return a renderer for one streamed answer."""

    def bare_text(self, request: ChatRequest) -> StreamRenderer | None:  # noqa: ARG002 - a hook
        """Return a renderer for clients that accept nothing but text/plain, None where the API has no such form."""
        return None

    @abc.abstractmethod
    def render_error(self, error: GatewayError, request_id: str) -> HttpAnswer:
        """Return the answer to a request that failed before an answer began."""

    @abc.abstractmethod
    def describe(self) -> Description:
        """Return what it takes and answers."""
