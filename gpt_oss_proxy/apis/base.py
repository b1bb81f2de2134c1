"""What a client API is: parse a request, render an answer, whole or as a stream."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from gpt_oss_proxy.chat.completion import Completion
from gpt_oss_proxy.chat.events import Event
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError


class Stamp(msgspec.Struct, frozen=True):
    """What every part of one answer bears: its id, its time in Unix seconds, and the model as asked for."""

    id: str
    created: int
    model: str


class Description(msgspec.Struct, frozen=True):
    """A client API's part of the OpenAPI document: path items by what follows its PATH ('' is PATH itself), schemas."""

    paths: Mapping[str, Any]
    schemas: Mapping[str, Any]


class StreamRenderer(Protocol):
    """Lists of events → the bytes of one streamed answer, in the order of its calls."""

    def render(self, events: list[Event]) -> bytes:
        """Return the bytes that tell these events; [] asks for a keep-alive. May be b''."""

    def fail(self, error: GatewayError) -> bytes:
        """Return the bytes that end the stream with an error."""


class ClientApi(Protocol):
    """One format that clients speak. A module is one, with these names."""

    @property
    def PATH(self) -> str:
        """Where it is served, below /v1."""

    @property
    def ID_PREFIX(self) -> str:
        """What the ids of its answers begin with."""

    def parse(self, body: bytes, *, default_model: str) -> ChatRequest:
        """Return what the body asks for. Raises InvalidRequest."""

    def render(self, completion: Completion, stamp: Stamp, request: ChatRequest) -> bytes:
        """Return the body of a whole answer."""

    def stream(self, stamp: Stamp, request: ChatRequest) -> StreamRenderer:
        """Return a renderer for one streamed answer."""

    def describe(self) -> Description:
        """Return what it takes and answers."""


def render_error(error: GatewayError) -> bytes:
    """Return OpenAI's error object, the same for every client API."""
    return msgspec.json.encode(error.body())
