"""One view for every client API: body in, answer out, streamed or whole."""

import errno
import logging
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from flask import Blueprint, Request, request

from gpt_oss_proxy.apis.base import ClientApi, Stamp, StreamRenderer
from gpt_oss_proxy.apis.plain_text import TextRenderer
from gpt_oss_proxy.blueprints.lean_flask import without_context
from gpt_oss_proxy.blueprints.reply import Chat
from gpt_oss_proxy.blueprints.request_body import read_body
from gpt_oss_proxy.blueprints.response_middleware import record_of
from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.events import Event, Finish
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import EFFORTS, REASONING_FIELDS, ReasoningFields, Settings
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest
from gpt_oss_proxy.gateway.adoption import RequestKey, request_key
from gpt_oss_proxy.gateway.answer import Answer
from gpt_oss_proxy.gateway.caller import caller
from gpt_oss_proxy.gateway.dispatch import Dispatcher
from gpt_oss_proxy.gateway.limits import BodyBudget, Share
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.net.relay import ClientGone
from gpt_oss_proxy.sse import Last

Environ = dict[str, Any]
T = TypeVar("T", bound=str)
_MODEL = "gpt_oss_proxy.model"  # in the environment: the model that the path names
# Proxies hold a stream back unless told not to: nginx buffers it, and middleware that compresses waits for more of it.
_STREAM_HEADERS = ("Cache-Control", "no-cache, no-transform"), ("X-Accel-Buffering", "no")
_OLDER_NAMES = {"tools": "functions", "tool_choice": "function_call"}
_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context
_TOOL = re.compile(r"^(tools|tool_choice)\b((?:\[\d+\])?)(?:\.function\b)?")
_log = logging.getLogger(__name__)


def blueprint(
    apis: Mapping[str, ClientApi], dispatcher: Dispatcher, router: Router, bodies: BodyBudget, settings: Settings
) -> Blueprint:
    """Return the routes of the client APIs: name → module, see apis.base.ClientApi."""
    routes = Blueprint("inference", __name__)
    for name, api in apis.items():
        view = _view(api, dispatcher, router, bodies, settings)
        routes.add_url_rule(api.PATH, name, view, methods=["POST"])
        deployed = _deployed(view)
        for prefix in ("/openai/deployments", "/deployments"):  # as Azure's clients ask
            routes.add_url_rule(f"{prefix}/<path:model>{api.PATH}", f"{name}_deployed", deployed, methods=["POST"])
    return routes


def _deployed(view: Callable[[], Any]) -> Callable[[str], Any]:
    """Return the view for a path that names the model."""

    def deployed(model: str) -> Any:
        request.environ[_MODEL] = model
        return view()

    return deployed


def _view(
    api: ClientApi, dispatcher: Dispatcher, router: Router, bodies: BodyBudget, settings: Settings
) -> Callable[[], Any]:
    def view(environ: Environ) -> Chat:
        place = dispatcher.places.take()  # before the body: what waits for its end costs memory, too
        share = bodies.share()
        record = record_of(environ)
        try:
            response = answer_request(environ, record, share)
        except BaseException as error:  # killed, too: it is raised again
            share.give_back()
            place.leave()
            if isinstance(error, ClientGone) or record.tally.has_begun:  # the upstream has worked for it
                record.count()
            raise
        response.call_on_close(place.leave)
        response.call_on_close(record.count)
        return response

    def answer_request(environ: Environ, record: Record, share: Share) -> Chat:
        body = read_body(
            environ,
            share,
            max_bytes=settings.max_body_bytes,
            silence_seconds=settings.request_timeout_seconds,
            total_seconds=settings.total_timeout_seconds,
        )
        chat_request = _with_headers(
            environ, record.id, api.parse(body, default_model=settings.default_model), settings.reasoning_fields
        )
        model = environ.get(_MODEL) or chat_request.model or router.first()
        if model != chat_request.model:
            chat_request = msgspec.structs.replace(chat_request, model=model)
        record.model, record.stream = chat_request.model[:200], chat_request.stream
        try:
            answer = dispatcher.dispatch(
                chat_request,
                record,
                environ.get("gunicorn.socket"),
                key=_request_key(environ, environ.get(_MODEL, "") + api.PATH, body),
            )
        except InvalidRequest as error:
            _blame_what_the_client_sent(error, chat_request)
            raise
        share.give_back()  # an upstream has the request
        del body
        try:
            response = respond(environ, answer, record, chat_request)
        except BaseException:  # killed, too: it is raised again
            answer.close()
            raise
        response.call_on_close(answer.close)
        return response

    def respond(environ: Environ, answer: Answer, record: Record, chat_request: ChatRequest) -> Chat:
        record.reference = answer.reference
        record.ignored = answer.ignored
        stamp = Stamp(f"{api.ID_PREFIX}{answer.id}", answer.created, chat_request.model)
        if not chat_request.stream:
            record.heard()  # the first list is there
            return _whole(api, answer, record, stamp, chat_request)
        plain = _wants_text(environ)
        renderer: StreamRenderer = TextRenderer(chat_request) if plain else api.stream(stamp, chat_request)
        pieces = _Stream(renderer, answer, record, keepalive_seconds=settings.keepalive_seconds, abort=plain)
        kind = "text/plain; charset=utf-8" if plain else "text/event-stream; charset=utf-8"
        return _with_reference(Chat(pieces, kind, *_STREAM_HEADERS), answer)

    return without_context(view)


def _whole(api: ClientApi, answer: Answer, record: Record, stamp: Stamp, chat_request: ChatRequest) -> Chat:
    collector = Collector()
    try:
        answer.collect(collector)
    finally:
        for events in reversed(collector.batches()):  # the usage is in the last one, and spares a second count
            record.tally.add(events)
    answer.close()
    body = api.render(collector.completion(), stamp, chat_request)
    response = Chat((body,), "application/json", ("Content-Length", str(len(body))))
    return _with_reference(response, answer)


class _Stream:
    """The body of a streamed answer. With `abort` a failure also breaks the transfer, for clients that read no events.

    Any server can iterate over it once; ours has it pushed, which is less work (see `Relay`).
    """

    def __init__(
        self, renderer: StreamRenderer, answer: Answer, record: Record, *, keepalive_seconds: float, abort: bool
    ) -> None:
        self._render = renderer.render
        self._fail = renderer.fail
        self._answer = answer
        self._record = record
        self._add = record.tally.add
        self._keepalive_seconds = keepalive_seconds
        self._abort = abort
        self._told = time.monotonic()
        self._pieces = self._iterate()

    def __iter__(self) -> Iterator[bytes]:
        """Return its pieces, the last one as Last. They raise BrokenPipeError where the connection has to be closed."""
        return self._pieces

    def _iterate(self) -> Generator[bytes, None, None]:
        try:
            pieces: list[bytes] = []
            for events in self._answer:
                self._tell(pieces.append, events)
                yield pieces.pop()
        except GeneratorExit:  # a write failed before the watch had noticed
            self._record.outcome = "client_gone"
            raise
        except Exception as error:  # whatever it is, the stream must not end as if it were whole
            yield self._ending(error)
            if self._abort:
                raise _broken_off("the answer failed") from error

    def push(self, write: Callable[[bytes], None]) -> None:
        """Write the same pieces. Raises BrokenPipeError, too, and what `write` raises."""
        try:
            self._answer.push(partial(self._tell, write))
        except OSError:
            self._record.outcome = "client_gone"
            raise
        except Exception as error:  # whatever it is, the stream must not end as if it were whole
            write(self._ending(error))
            if self._abort:
                raise _broken_off("the answer failed") from error

    def close(self) -> None:
        """End it."""
        self._pieces.close()

    def _tell(self, write: Callable[[bytes], None], events: list[Event]) -> None:
        if self._record.first is None and events:
            self._record.heard()
        self._add(events)
        piece = self._render(events)
        if piece:
            self._told = time.monotonic()
        elif time.monotonic() - self._told >= self._keepalive_seconds:
            piece = self._render([])  # the model thinks aloud, but its client is not shown that
            self._told = time.monotonic()
        # b'' goes out, too: the first piece sends the head.
        write(Last(piece) if events and type(events[-1]) is Finish else piece)

    def _ending(self, error: Exception) -> bytes:
        """Return the last piece of a stream that failed. Raises BrokenPipeError if nobody is there to read it."""
        if isinstance(error, ClientGone):
            self._record.outcome = "client_gone"
            raise _broken_off("the client is gone") from error  # if it only half closed, it must not see a clean end
        failure = error if isinstance(error, GatewayError) else InternalError()
        if failure is not error:
            _log.error("request %s: a bug while streaming", self._record.id, exc_info=error)
        self._record.failed(failure)
        ending = self._fail(failure)
        return ending if self._abort else Last(ending)


def _broken_off(reason: str) -> BrokenPipeError:
    """Return what makes gunicorn close the connection, without the last chunk and without a traceback."""
    return BrokenPipeError(errno.EPIPE, f"{reason}, so its transfer is broken off")


def _with_headers(environ: Environ, request_id: str, chat_request: ChatRequest, fields: ReasoningFields) -> ChatRequest:
    """The body's reasoning_effort goes before the header's, the header's reasoning format before the operator's."""
    trace = {"x-request-id": request_id}
    if _TRACE.fullmatch(parent := environ.get("HTTP_TRACEPARENT", "")):
        trace["traceparent"] = parent
    effort, wanted = chat_request.reasoning_effort, fields
    if not effort and (given := environ.get("HTTP_X_REASONING_EFFORT")):
        effort = _header_one_of(given, "x-reasoning-effort", EFFORTS)
    if given := environ.get("HTTP_X_REASONING_FORMAT"):
        wanted = _header_one_of(given, "x-reasoning-format", REASONING_FIELDS)
    return msgspec.structs.replace(chat_request, reasoning_effort=effort, reasoning_format=wanted, trace=trace)


def _header_one_of(given: str, name: str, values: Sequence[T]) -> T:
    """Return the header's value, however it is capitalised."""
    given = given.lower()
    for value in values:
        if value == given:
            return value
    raise InvalidRequest(f"The header {name} must be one of {', '.join(values)}.", code="invalid_value", param=name)


def _blame_what_the_client_sent(error: InvalidRequest, chat_request: ChatRequest) -> None:
    """Let an error name functions, and not the tools that they have become."""
    if "function_call" in chat_request.spelling and error.param:
        error.param = _TOOL.sub(lambda found: f"{_OLDER_NAMES[found[1]]}{found[2]}", error.param)


def _wants_text(environ: Environ) -> bool:
    if "text/plain" not in environ.get("HTTP_ACCEPT", "").lower():
        return False
    accepts = Request(environ, populate_request=False).accept_mimetypes
    accepted = {kind.partition(";")[0].lower() for kind, quality in accepts if quality}
    # axios and Angular ask for "application/json, text/plain, */*", whatever they want.
    return "text/plain" in accepted and accepted.isdisjoint({"text/event-stream", "application/json"})


def _request_key(environ: Environ, path: str, body: bytes) -> RequestKey | None:
    """Return what makes this request the same as another, None if it does not say that it may come again."""
    key, retries = environ.get("HTTP_IDEMPOTENCY_KEY"), environ.get("HTTP_X_STAINLESS_RETRY_COUNT")
    if key is None and retries is None:
        return None
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise InvalidRequest(
            "The header Idempotency-Key must be 1 to 255 visible ASCII characters.",
            code="invalid_value",
            param="Idempotency-Key",
        )
    return request_key(
        path=path,
        caller=caller(environ),
        body=body,
        effort=environ.get("HTTP_X_REASONING_EFFORT", "").lower(),
        idempotency_key=key,
        retries=retries or "0",
    )


def _with_reference(response: Chat, answer: Answer) -> Chat:
    reference = answer.reference
    if reference and len(reference) <= 128 and reference.isascii() and reference.isprintable():
        response.headers.append(("x-upstream-id", reference))
    return response
