"""One view for every client API: body in, answer out, streamed or whole."""

import errno
import hashlib
import logging
import re
import socket
from collections.abc import Callable, Iterator, Mapping

import msgspec
from flask import Blueprint, Response, g, request

from gpt_oss_proxy.apis.base import ClientApi, Stamp, StreamRenderer
from gpt_oss_proxy.apis.plain_text import TextRenderer
from gpt_oss_proxy.blueprints.request_body import read_body
from gpt_oss_proxy.chat.collect import collect
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest
from gpt_oss_proxy.gateway.access_log import Record
from gpt_oss_proxy.gateway.dispatch import Answer, Dispatcher
from gpt_oss_proxy.gateway.relay import ClientGone
from gpt_oss_proxy.gateway.sharing import Identity
from gpt_oss_proxy.settings import EFFORTS, Settings

_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx buffers an answer unless told not to
_EFFORT_HEADER = "x-reasoning-effort"
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
        body = read_body(
            request,
            max_bytes=settings.max_body_bytes,
            silence_seconds=settings.request_timeout_seconds,
            total_seconds=settings.total_timeout_seconds,
        )
        chat_request = _with_effort(api.parse(body, default_model=settings.default_model))
        record: Record = g.record
        record.model, record.stream = chat_request.model[:200], chat_request.stream
        answer = dispatcher.dispatch(
            chat_request, record, _client(), patience=_patience(), identity=_identity(api.PATH, body)
        )
        record.reference = answer.reference
        g.ignored = answer.ignored
        stamp = Stamp(f"{api.ID_PREFIX}{answer.id}", answer.created, chat_request.model)
        if not chat_request.stream:
            return _whole(api, answer, stamp)
        plain = _wants_text()
        renderer: StreamRenderer = TextRenderer() if plain else api.stream(stamp, chat_request)
        response = Response(_stream(renderer, answer, record, abort=plain), headers=_STREAM_HEADERS)
        response.content_type = "text/plain; charset=utf-8" if plain else "text/event-stream; charset=utf-8"
        response.call_on_close(answer.close)
        return _with_reference(response, answer)

    return view


def _whole(api: ClientApi, answer: Answer, stamp: Stamp) -> Response:
    g.record.heard()  # the first list is there
    try:
        completion = collect(answer)
    finally:
        answer.close()
    return _with_reference(Response(api.render(completion, stamp), mimetype="application/json"), answer)


def _stream(renderer: StreamRenderer, answer: Answer, record: Record, *, abort: bool) -> Iterator[bytes]:
    """Yield the answer. With `abort` a failure also breaks the transfer, for clients that read no events."""
    try:
        for events in answer:
            if events:
                record.heard()
            yield renderer.render(events)
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


def _with_effort(chat_request: ChatRequest) -> ChatRequest:
    """The body's reasoning_effort goes before the header's."""
    effort = request.headers.get(_EFFORT_HEADER)
    if chat_request.reasoning_effort or not effort:
        return chat_request
    if effort.lower() not in EFFORTS:
        raise InvalidRequest(
            f"The header {_EFFORT_HEADER} must be one of {', '.join(EFFORTS)}.",
            code="invalid_value",
            param=_EFFORT_HEADER,
        )
    return msgspec.structs.replace(chat_request, reasoning_effort=effort.lower())


def _wants_text() -> bool:
    accepted = {kind.partition(";")[0].lower() for kind, quality in request.accept_mimetypes if quality}
    # axios and Angular ask for "application/json, text/plain, */*", whatever they want.
    return "text/plain" in accepted and accepted.isdisjoint({"text/event-stream", "application/json"})


def _patience() -> float | None:
    """Return the seconds after which the client's SDK gives up, None if it has not said."""
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        text = request.headers.get(name, "")
        if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) and float(text) > 0:
            return float(text)
    return None


def _identity(path: str, body: bytes) -> Identity | None:
    """Return what makes this request the same as another, None if it does not say that it may come again."""
    key, retries = request.headers.get("Idempotency-Key"), request.headers.get("x-stainless-retry-count")
    if key is None and retries is None:
        return None
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise InvalidRequest(
            "The header Idempotency-Key must be 1 to 255 visible ASCII characters.",
            code="invalid_value",
            param="Idempotency-Key",
        )
    effort = request.headers.get(_EFFORT_HEADER, "").lower()  # it is asked for as much as what the body says
    digest = hashlib.sha256(body + effort.encode("utf-8", "surrogateescape")).hexdigest()
    # Whoever has another key asks something else, whatever it says.
    parts = (path, request.headers.get("Authorization", ""), key if key is not None else digest)
    name = hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
    return Identity(name, digest, again=key is not None or retries not in ("", "0"))


def _client() -> socket.socket | None:
    return request.environ.get("gunicorn.socket")


def _with_reference(response: Response, answer: Answer) -> Response:
    reference = answer.reference
    if reference and len(reference) <= 128 and reference.isascii() and reference.isprintable():
        response.headers["x-upstream-id"] = reference
    return response
