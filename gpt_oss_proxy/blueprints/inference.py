"""The views of all client APIs: body in, answer out, streamed or whole."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from flask import Blueprint, Request, request

from gpt_oss_proxy.apis.base import (
    ClientApi,
    DirectRoute,
    Incoming,
    ModelRoute,
    Stamp,
)
from gpt_oss_proxy.blueprints.lean_flask import without_context
from gpt_oss_proxy.blueprints.reply import Chat, Reply
from gpt_oss_proxy.blueprints.request_body import read_body
from gpt_oss_proxy.blueprints.response_middleware import record_of
from gpt_oss_proxy.blueprints.streamed import Streamed
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.errors import InvalidField, InvalidRequest
from gpt_oss_proxy.gateway.adoption import RequestKey, request_key
from gpt_oss_proxy.gateway.answer import Answer
from gpt_oss_proxy.gateway.caller import Keys
from gpt_oss_proxy.gateway.dispatch import Dispatcher
from gpt_oss_proxy.gateway.limits import BodyBudget, Share
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.net.relay import ClientGone

Environ = dict[str, Any]
_PATH = "gpt_oss_proxy.path"  # in the environment: the values of the path's variables
# Without them proxies hold a stream back: nginx buffers it, and middleware that compresses waits for more of it.
_STREAM_HEADERS = ("Cache-Control", "no-cache, no-transform"), ("X-Accel-Buffering", "no")
_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context


def blueprint(
    apis: Sequence[ClientApi],
    dispatcher: Dispatcher,
    router: Router,
    bodies: BodyBudget,
    keys: Keys,
    settings: Settings,
) -> Blueprint:
    """Return the routes of the client APIs."""
    routes = Blueprint("inference", __name__)
    for api in apis:
        views = _Views(api, dispatcher, router, bodies, keys, settings)
        for number, route in enumerate(api.routes):
            view = partial(views.direct, route) if isinstance(route, DirectRoute) else partial(views.ask, route)
            found = _with_path(view) if "<" in route.path else without_context(view)
            routes.add_url_rule(route.path, f"{api.name}_{number}", found, methods=[route.method])
    return routes


def _with_path(view: Callable[[Environ], Any]) -> Callable[..., Any]:
    """Return the view for a path that has variables."""

    def with_path(**values: str) -> Any:
        request.environ[_PATH] = values
        return view(request.environ)

    return with_path


class _Views:
    """The views of one client API's routes."""

    def __init__(
        self,
        api: ClientApi,
        dispatcher: Dispatcher,
        router: Router,
        bodies: BodyBudget,
        keys: Keys,
        settings: Settings,
    ) -> None:
        self._api = api
        self._dispatcher = dispatcher
        self._router = router
        self._bodies = bodies
        self._keys = keys
        self._settings = settings

    def direct(self, route: DirectRoute, environ: Environ) -> Reply:
        """Answer a request that needs no model."""
        share = self._bodies.share()
        try:
            answer = route.answer(self._incoming(environ, share))
        finally:
            share.give_back()
        return Reply(answer.body, status=answer.status, mimetype=answer.content_type, headers=[*answer.headers])

    def ask(self, route: ModelRoute, environ: Environ) -> Chat:
        """Answer a request with a model's words."""
        place = self._dispatcher.places.take()  # before the body: what waits for its end costs memory, too
        share = self._bodies.share()
        record = record_of(environ)
        try:
            response = self._answer(route, environ, record, share)
        except BaseException as error:  # killed, too: it is raised again
            share.give_back()
            place.leave()
            if isinstance(error, ClientGone) or record.tally.has_begun:  # the upstream has worked for it
                record.count()
            raise
        response.call_on_close(place.leave)
        response.call_on_close(record.count)
        return response

    def _answer(self, route: ModelRoute, environ: Environ, record: Record, share: Share) -> Chat:
        incoming = self._incoming(environ, share)
        asked = route.parse(incoming)
        asked = msgspec.structs.replace(asked, model=asked.model or self._router.first(), trace=_trace(environ, record))
        record.model, record.stream = asked.model[:200], asked.stream
        key = self._request_key(incoming)
        del incoming
        try:
            answer = self._dispatcher.dispatch(asked, record, environ.get("gunicorn.socket"), key=key)
            share.give_back()  # an upstream has the request
            return self._respond(environ, answer, record, asked)
        except InvalidField as error:
            error.spell(partial(self._api.spell, request=asked))
            raise

    def _respond(self, environ: Environ, answer: Answer, record: Record, asked: ChatRequest) -> Chat:
        try:
            response = self._render(environ, answer, record, asked)
        except BaseException:  # killed, too: it is raised again
            answer.close()
            raise
        response.call_on_close(answer.close)
        return response

    def _render(self, environ: Environ, answer: Answer, record: Record, asked: ChatRequest) -> Chat:
        api = self._api
        record.reference = answer.reference
        if answer.ignored:
            record.ignored = api.spell_ignored(answer.ignored, asked)
        stamp = Stamp(f"{api.id_prefix}{answer.id}", answer.created, asked.model, record.id)
        headers = api.headers(record.id)
        if not asked.stream:
            record.heard()  # the first list is there
            return _whole(api, answer, record, stamp, asked, headers)
        bare = api.bare_text(asked) if _wants_text(environ) else None
        pieces = Streamed(
            bare or api.stream(stamp, asked),
            answer,
            record,
            keepalive_seconds=self._settings.keepalive_seconds,
            abort=bare is not None,
            spell=partial(api.spell, request=asked),
        )
        kind = "text/plain; charset=utf-8" if bare else "text/event-stream; charset=utf-8"
        return _with_reference(Chat(pieces, kind, *_STREAM_HEADERS, *headers), answer)

    def _incoming(self, environ: Environ, share: Share) -> Incoming:
        body = read_body(
            environ,
            share,
            max_bytes=self._settings.max_body_bytes,
            silence_seconds=self._settings.request_timeout_seconds,
            total_seconds=self._settings.total_timeout_seconds,
        )
        return Incoming(body, environ, environ.get(_PATH) or {})

    def _request_key(self, incoming: Incoming) -> RequestKey | None:
        """Return what makes this request the same as another, None if it does not say that it may come again."""
        environ = incoming.environ
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
            path="/".join((self._api.name, *incoming.path.values())),
            caller=self._keys.presented(environ),
            body=incoming.body,
            effort=incoming.header("x-reasoning-effort").lower(),
            idempotency_key=key,
            retries=retries or "0",
        )


def _whole(
    api: ClientApi,
    answer: Answer,
    record: Record,
    stamp: Stamp,
    asked: ChatRequest,
    headers: tuple[tuple[str, str], ...],
) -> Chat:
    collector = api.collector(asked)
    try:
        answer.collect(collector)
    finally:
        for events in reversed(collector.batches()):  # the usage is in the last one, and spares a second count
            record.tally.add(events)
    answer.close()
    body = api.whole(collector, stamp, asked)
    response = Chat((body,), "application/json", ("Content-Length", str(len(body))), *headers)
    return _with_reference(response, answer)


def _trace(environ: Environ, record: Record) -> dict[str, str]:
    """Return the headers that an upstream is sent, for its log."""
    trace = {"x-request-id": record.id}
    if _TRACE.fullmatch(parent := environ.get("HTTP_TRACEPARENT", "")):
        trace["traceparent"] = parent
    return trace


def _wants_text(environ: Environ) -> bool:
    if "text/plain" not in environ.get("HTTP_ACCEPT", "").lower():
        return False
    accepts = Request(environ, populate_request=False).accept_mimetypes
    accepted = {kind.partition(";")[0].lower() for kind, quality in accepts if quality}
    # axios and Angular ask for "application/json, text/plain, */*", whatever they want.
    return "text/plain" in accepted and accepted.isdisjoint({"text/event-stream", "application/json"})


def _with_reference(response: Chat, answer: Answer) -> Chat:
    reference = answer.reference
    if reference and len(reference) <= 128 and reference.isascii() and reference.isprintable():
        response.headers.append(("x-upstream-id", reference))
    return response
