"""What holds for every answer: ids, timing, headers, the log, and the form of every error."""

import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from gpt_oss_proxy.apis.base import ClientApi
from gpt_oss_proxy.apis.family import family
from gpt_oss_proxy.blueprints.client_address import ClientAddresses
from gpt_oss_proxy.blueprints.reply import Pieces, Reply, call_each
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest, MethodNotAllowed, NotFound
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.gateway.observe.metrics import Metrics
from gpt_oss_proxy.net.relay import ClientGone

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_RECORD = "gpt_oss_proxy.record"  # in the WSGI environment


def install(app: Flask, apis: Sequence[ClientApi], metrics: Metrics, addresses: ClientAddresses) -> None:
    """Make it hold for `app`, and let `metrics` count it. `addresses` finds whose request it is.

    An error has the form of the API of `apis` that the request's path belongs to.
    """
    application = app.wsgi_app

    def begin(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        record = environ[_RECORD] = _record(environ)
        record.client = addresses.find(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            record.status = int(status[:3])
            return start_response(status, [*headers, *_headers(record, dict(headers))], exc_info)

        pieces: Any = application(environ, start)

        return Pieces(pieces, partial(call_each, (pieces.close, record.write, partial(metrics.note, record))))

    app.wsgi_app = begin  # type: ignore[method-assign] # as Flask's documentation has it
    app.response_class = Reply
    errors = _Errors(apis)
    app.register_error_handler(GatewayError, errors.answer)
    app.register_error_handler(HTTPException, errors.answer_http)
    app.register_error_handler(ClientGone, _client_gone)
    app.register_error_handler(Exception, errors.answer_bug)


def record_of(environ: dict[str, Any]) -> Record:
    """Return what is noted of the request with this WSGI environment."""
    record: Record = environ[_RECORD]
    return record


def _record(environ: dict[str, Any]) -> Record:
    given = environ.get("HTTP_X_REQUEST_ID")
    path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
    return Record(
        id=given if given and _REQUEST_ID.fullmatch(given) else f"req_{os.urandom(16).hex()}",
        method=environ["REQUEST_METHOD"],
        path=path[:200],
        started=time.monotonic(),
    )


def _headers(record: Record, given: dict[str, str]) -> list[tuple[str, str]]:
    headers = [
        ("X-Content-Type-Options", "nosniff"),  # a model's words are never a page, whatever they look like
        ("x-request-id", record.id),
        ("openai-processing-ms", str(round((time.monotonic() - record.started) * 1000))),
    ]
    if "Cache-Control" not in given:
        headers.append(("Cache-Control", "no-store"))  # answers are their client's own
    if record.ignored:
        headers.append(("x-ignored-params", _header_value(", ".join(record.ignored))))
    return headers


def _header_value(text: str) -> str:
    """Unknown fields have any names that JSON allows; a header has not, and proxies limit its length."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:1024])


class _Errors:
    """Flask's error handlers."""

    def __init__(self, apis: Sequence[ClientApi]) -> None:
        self._apis = apis

    def answer(self, error: GatewayError) -> Response:
        """Answer one of our errors."""
        record = record_of(request.environ)
        record.failed(error)
        body = family(self._apis, request.path, request.environ).render_error(error, record.id)
        response = Reply(body.body, status=body.status, mimetype=body.content_type)
        response.headers.extend(body.headers)
        if error.retry_after is not None:
            response.headers["retry-after"] = error.retry_after
        if error.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if error.should_retry is not None:
            response.headers["x-should-retry"] = str(error.should_retry).lower()
        return response

    def answer_http(self, error: HTTPException) -> Response:
        """Answer what Flask itself refuses: unknown paths, methods, broken requests."""
        if isinstance(error, WerkzeugMethodNotAllowed):
            response = self.answer(MethodNotAllowed(f"This path does not take {request.method[:20]}."))
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            return response
        if error.code == 404 or (error.code or 500) < 400:
            return self.answer(NotFound())
        if (error.code or 500) < 500:
            return self.answer(InvalidRequest("The request is not valid HTTP for this path."))
        return self.answer(InternalError())

    def answer_bug(self, error: Exception) -> Response:
        """Answer anything else, whose details only the log has."""
        _log.error("request %s: a bug", record_of(request.environ).id, exc_info=error)
        return self.answer(InternalError())


def _client_gone(_error: ClientGone) -> Response:
    # The client reads this only if it has just half closed. 499 is nginx's word for it; the access log shows it.
    record_of(request.environ).outcome = "client_gone"
    return Reply(status=499, mimetype="application/json")
