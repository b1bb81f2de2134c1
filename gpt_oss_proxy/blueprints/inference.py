"""One view for every client API: body in, answer out, streamed or whole."""

import contextlib
import errno
import hashlib
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
from flask import Blueprint, Request, Response, g, request

from gpt_oss_proxy.apis.base import ClientApi, Stamp, StreamRenderer
from gpt_oss_proxy.apis.plain_text import TextRenderer
from gpt_oss_proxy.blueprints.every_answer import header
from gpt_oss_proxy.blueprints.request_body import read_body
from gpt_oss_proxy.chat.collect import collect
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest
from gpt_oss_proxy.gateway.access_log import Record
from gpt_oss_proxy.gateway.dispatch import Answer, Dispatcher
from gpt_oss_proxy.gateway.relay import ClientGone
from gpt_oss_proxy.gateway.sharing import Identity
from gpt_oss_proxy.settings import EFFORTS, REASONING_FIELDS, ReasoningFields, Settings

T = TypeVar("T", bound=str)
_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx buffers an answer unless told not to
_EFFORT_HEADER = "x-reasoning-effort"
_FORMAT_HEADER = "x-reasoning-format"
_OLDER_NAMES = {"tools": "functions", "tool_choice": "function_call"}
_TOOL = re.compile(r"^(tools|tool_choice)\b((?:\[\d+\])?)(?:\.function\b)?")
_log = logging.getLogger(__name__)


def blueprint(apis: Mapping[str, ClientApi], dispatcher: Dispatcher, settings: Settings) -> Blueprint:
    """Return the routes of the client APIs: name → module, see apis.base.ClientApi."""
    routes = Blueprint("inference", __name__)
    for name, api in apis.items():
        routes.add_url_rule(api.PATH, name, _view(api, dispatcher, settings), methods=["POST"])
    return routes


def _view(api: ClientApi, dispatcher: Dispatcher, settings: Settings) -> Callable[[], Response]:
    def view() -> Response:
        place = dispatcher.places.take()  # before the body: what waits for its end costs memory, too
        try:
            response = answer_request()
        except BaseException:
            place.leave()
            raise
        response.call_on_close(place.leave)
        return response

    def answer_request() -> Response:
        # Each look through the proxy costs as much as what it looks for.
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]
        body = read_body(
            asked,
            max_bytes=settings.max_body_bytes,
            silence_seconds=settings.request_timeout_seconds,
            total_seconds=settings.total_timeout_seconds,
        )
        chat_request = _with_headers(
            asked, api.parse(body, default_model=settings.default_model), settings.reasoning_fields
        )
        record: Record = g.record
        record.model, record.stream = chat_request.model[:200], chat_request.stream
        with _blaming_what_the_client_sent(chat_request):
            answer = dispatcher.dispatch(
                chat_request,
                record,
                _client(asked),
                patience=_patience(asked),
                identity=_identity(asked, api.PATH, body),
            )
        record.reference = answer.reference
        g.ignored = answer.ignored
        stamp = Stamp(f"{api.ID_PREFIX}{answer.id}", answer.created, chat_request.model)
        if not chat_request.stream:
            return _whole(api, answer, stamp, chat_request)
        plain = _wants_text(asked)
        renderer: StreamRenderer = TextRenderer(chat_request) if plain else api.stream(stamp, chat_request)
        pieces = _stream(renderer, answer, record, keepalive_seconds=settings.keepalive_seconds, abort=plain)
        kind = "text/plain; charset=utf-8" if plain else "text/event-stream; charset=utf-8"
        response = Response(pieces, headers=_STREAM_HEADERS, content_type=kind)
        response.call_on_close(answer.close)
        return _with_reference(response, answer)

    return view


def _whole(api: ClientApi, answer: Answer, stamp: Stamp, chat_request: ChatRequest) -> Response:
    g.record.heard()  # the first list is there
    try:
        completion = collect(answer)
    finally:
        answer.close()
    body = api.render(completion, stamp, chat_request)
    return _with_reference(Response(body, mimetype="application/json"), answer)


def _stream(
    renderer: StreamRenderer, answer: Answer, record: Record, *, keepalive_seconds: float, abort: bool
) -> Iterator[bytes]:
    """Yield the answer. With `abort` a failure also breaks the transfer, for clients that read no events."""
    told = time.monotonic()
    try:
        for events in answer:
            if events:
                record.heard()
            piece = renderer.render(events)
            if not piece and time.monotonic() - told >= keepalive_seconds:
                piece = renderer.render([])  # the model thinks aloud, but its client is not shown that
            if piece:
                told = time.monotonic()
            yield piece  # even if empty: the first one sends the head
        return
    except GatewayError as error:
        failure = error
    except ClientGone as error:
        record.outcome = "client_gone"
        raise _broken_off("the client is gone") from error  # and if it only half closed, it must not see a clean end
    except GeneratorExit:  # a write failed before the watch had noticed
        record.outcome = "client_gone"
        raise
    except Exception:  # noqa: BLE001 - a bug of ours must end the stream as a failure, and never as a clean end
        _log.exception("request %s: a bug while streaming", record.id)
        failure = InternalError()
    record.outcome = failure.code
    yield renderer.fail(failure)
    if abort:
        raise _broken_off("the answer failed")


def _broken_off(reason: str) -> BrokenPipeError:
    """Return what makes gunicorn close the connection, without the last chunk and without a traceback."""
    return BrokenPipeError(errno.EPIPE, f"{reason}, so its transfer is broken off")


def _with_headers(asked: Request, chat_request: ChatRequest, fields: ReasoningFields) -> ChatRequest:
    """The body's reasoning_effort goes before the header's, the header's reasoning format before the operator's."""
    effort = chat_request.reasoning_effort or _header_one_of(asked, _EFFORT_HEADER, EFFORTS)
    wanted = _header_one_of(asked, _FORMAT_HEADER, REASONING_FIELDS) or fields
    return msgspec.structs.replace(chat_request, reasoning_effort=effort, reasoning_format=wanted)


def _header_one_of(asked: Request, name: str, values: Sequence[T]) -> T | None:
    """Return the header's value, however it is capitalised, None if it is not there."""
    given = header(asked, name).lower()
    if not given:
        return None
    for value in values:
        if value == given:
            return value
    raise InvalidRequest(f"The header {name} must be one of {', '.join(values)}.", code="invalid_value", param=name)


@contextlib.contextmanager
def _blaming_what_the_client_sent(chat_request: ChatRequest) -> Iterator[None]:
    """Let an error name functions, and not the tools that they have become."""
    try:
        yield
    except InvalidRequest as error:
        if "function_call" in chat_request.spelling and error.param:
            error.param = _TOOL.sub(lambda found: f"{_OLDER_NAMES[found[1]]}{found[2]}", error.param)
        raise


def _wants_text(asked: Request) -> bool:
    if "text/plain" not in header(asked, "Accept").lower():
        return False
    accepted = {kind.partition(";")[0].lower() for kind, quality in asked.accept_mimetypes if quality}
    # axios and Angular ask for "application/json, text/plain, */*", whatever they want.
    return "text/plain" in accepted and accepted.isdisjoint({"text/event-stream", "application/json"})


def _patience(asked: Request) -> float | None:
    """Return the seconds after which the client's SDK gives up, None if it has not said."""
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        text = header(asked, name)
        if text and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) and float(text) > 0:
            return float(text)
    return None


def _identity(asked: Request, path: str, body: bytes) -> Identity | None:
    """Return what makes this request the same as another, None if it does not say that it may come again."""
    environ = asked.environ
    key, retries = environ.get("HTTP_IDEMPOTENCY_KEY"), environ.get("HTTP_X_STAINLESS_RETRY_COUNT")
    if key is None and retries is None:
        return None
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise InvalidRequest(
            "The header Idempotency-Key must be 1 to 255 visible ASCII characters.",
            code="invalid_value",
            param="Idempotency-Key",
        )
    effort = header(asked, _EFFORT_HEADER).lower()  # it is asked for as much as what the body says
    digest = hashlib.sha256(body + effort.encode("utf-8", "surrogateescape")).hexdigest()
    # Whoever has another key asks something else, whatever it says.
    parts = (path, header(asked, "Authorization"), key if key is not None else digest)
    name = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return Identity(name, digest, again=key is not None or retries not in ("", "0"))


def _client(asked: Request) -> socket.socket | None:
    return asked.environ.get("gunicorn.socket")


def _with_reference(response: Response, answer: Answer) -> Response:
    reference = answer.reference
    if reference and len(reference) <= 128 and reference.isascii() and reference.isprintable():
        response.headers["x-upstream-id"] = reference
    return response
