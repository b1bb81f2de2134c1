"""Stand-ins that tests share: an upstream that follows a script, and a gateway in front of it."""

import contextlib
import gc
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import gevent
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from gpt_oss_proxy import __version__
from gpt_oss_proxy.apis.base import Services
from gpt_oss_proxy.apis.document import document
from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.app import CLIENT_APIS, Gateway, create_app
from gpt_oss_proxy.chat.completion import Collector, Completion
from gpt_oss_proxy.chat.events import Event, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.gateway.circuit import Breaker
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.gateway.limits import ConcurrencyLimit
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.gateway.observe.health import Health
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.net.lists import Shortcut
from gpt_oss_proxy.stores.shared_counters import SharedCounters
from gpt_oss_proxy.upstreams.base import Model, Upstream
from gpt_oss_proxy.upstreams.decoder import Decoder

Step = list[Event] | float | BaseException
HELLO = [{"role": "user", "content": "Hello!"}]
CHAT = "/v1/chat/completions"
SERVICES = Services(lambda _request: 0)


class Characters:
    """A vocabulary whose tokens are characters."""

    def count(self, text: str) -> int:
        return len(text)

    def first(self, text: str, tokens: int) -> str:
        return text[:tokens]


class Scripted(Upstream):
    """Plays its script for every request: a list of events is delivered, a number is slept, an exception raised.

    `shortened` are the texts that took the shortcut.
    """

    name = "scripted"

    def __init__(
        self,
        *script: Step,
        models: Sequence[str] = ("model-1",),
        native_options: frozenset[str] | None = frozenset(),
    ) -> None:
        super().__init__(Transport(connect_timeout_seconds=1))
        self.script = script
        self.served: Sequence[str] | Exception = models
        self.native_options = native_options
        self.asked: list[ChatRequest] = []
        self.delivered = 0
        self.shortened: list[str] = []
        self.ended = 0

    def models(self) -> tuple[Model, ...]:
        if isinstance(self.served, Exception):
            raise self.served
        return tuple(Model(model_id, "tests", 1_700_000_000) for model_id in self.served)

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        raise AssertionError("a script sends nothing")

    def decoder(self, headers: Mapping[str, str], request: ChatRequest) -> Decoder:
        raise AssertionError("a script decodes nothing")

    def stream(self, request: ChatRequest, shortcut: Shortcut | None = None) -> Generator[list[Event], None, None]:
        self.asked.append(request)
        try:
            for step in self.script:
                match step:
                    case BaseException():
                        try:
                            raise step
                        finally:
                            del step  # it has this frame
                    case [TextDelta(text)] if shortcut and shortcut(text):
                        self.shortened.append(text)
                    case list():
                        self.delivered += 1
                        yield step
                    case _:
                        gevent.sleep(step)
        finally:
            self.ended += 1


def collect(lists: Iterable[list[Event]]) -> Completion:
    """Return the whole answer that the lists make up."""
    return collected(lists).completion()


def collected(lists: Iterable[list[Event]]) -> Collector:
    """Return a collector that has got these lists."""
    collector = Collector()
    for events in lists:
        collector.add(events)
    return collector


class Other:
    """Somebody else who wants to run, while the block lasts. `turns` is how often it could."""

    def __init__(self) -> None:
        self.turns = 0

    def __enter__(self) -> "Other":
        self._greenlet = gevent.spawn(self._run)
        return self

    def __exit__(self, *_error: object) -> None:
        self._greenlet.kill()

    def _run(self) -> None:
        while True:
            self.turns += 1
            gevent.sleep(0)


@contextlib.contextmanager
def measuring() -> Iterator[None]:
    """Let the garbage collector wait: it would go through all that thousands of tests have left."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """Let all greenlets that can go on do so."""
    for _ in range(30):
        gevent.sleep(0)


def gate(upstream: Upstream, *, failures: int = 0, slots: int = 1000) -> UpstreamGate:
    """Return the upstream behind a door that stays open, unless told otherwise."""
    board = SharedCounters()
    return UpstreamGate(
        upstream,
        Breaker(board, failures=failures, seconds=10),
        ConcurrencyLimit(board, slots),
        Health(board, upstream.name, ""),
    )


def record() -> Record:
    return Record(id="req_1", method="POST", path="/", started=0.0)


def gateway(*upstreams: Upstream, **settings: Any) -> Gateway:
    """Return the application over these upstreams; the first one's first model is the default, a token is a letter."""
    return create_app(Settings(default_model="model-1", **settings), upstreams=upstreams, vocabulary=Characters())


def client(*script: Step, **settings: Any) -> FlaskClient:
    """Return a client of a gateway whose only upstream plays this script."""
    return gateway(Scripted(*script), **settings).test_client()


def ask(client: FlaskClient, headers: Mapping[str, str] | None = None, **fields: Any) -> TestResponse:
    """Return the answer to one `Hello!` with these further fields."""
    return client.post(CHAT, data=json.dumps({"messages": HELLO, **fields}), headers=headers)


def error_shown(error: GatewayError) -> Any:
    """Return OpenAI's error object for it."""
    return json.loads(error_body(error))


def described() -> dict[str, Any]:
    """Return the OpenAPI document of all client APIs."""
    return document([build(Settings(), SERVICES) for build in CLIENT_APIS], version=__version__)


def chunks(body: bytes) -> list[Any]:
    """Return what each event of a streamed body says: its JSON, or [DONE]. The framing must be exact."""
    *events, end = body.split(b"\n\n")
    assert end == b""
    assert all(event.startswith(b"data: ") and b"\n" not in event for event in events)
    return ["[DONE]" if event == b"data: [DONE]" else json.loads(event[6:]) for event in events]


def deltas(body: bytes) -> list[Any]:
    """Return the delta of each chunk, the finish_reason of the last, an error's code, and [DONE]."""
    told: list[Any] = []
    for chunk in chunks(body):
        if chunk == "[DONE]":
            told.append(chunk)
        elif "error" in chunk:
            told.append(chunk["error"]["code"])
        elif chunk["choices"]:
            choice = chunk["choices"][0]
            told.append(choice["finish_reason"] or choice["delta"])
        else:
            told.append(chunk["usage"])
    return told
