"""What holds for every request: ids, timing, headers, and that every error has OpenAI's shape."""

import logging
import re
import time
import uuid
from functools import partial

from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from gpt_oss_proxy.apis.base import render_error
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest, MethodNotAllowed, NotFound
from gpt_oss_proxy.gateway.access_log import Record
from gpt_oss_proxy.gateway.metrics import Metrics
from gpt_oss_proxy.gateway.relay import ClientGone

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


def install(app: Flask, metrics: Metrics) -> None:
    """Make it hold for `app`, and let `metrics` count it."""
    app.before_request(_begin)
    app.after_request(partial(_finish, metrics))
    app.register_error_handler(GatewayError, _error_response)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(ClientGone, _client_gone)
    app.register_error_handler(Exception, _bug)


def header(asked: Request, name: str) -> str:
    """Return a header of the request, '' if it is not there. Werkzeug's own way raises and catches where it is not."""
    value: str = asked.environ.get(f"HTTP_{name.upper().replace('-', '_')}", "")
    return value


def _begin() -> None:
    # Each look through the proxy costs as much as what it looks for.
    asked: Request = request._get_current_object()  # type: ignore[attr-defined]
    given = header(asked, "x-request-id")
    request_id = given if given and _REQUEST_ID.fullmatch(given) else f"req_{uuid.uuid4().hex}"
    g.record = Record(id=request_id, method=asked.method, path=asked.path[:200], started=time.monotonic())


def _finish(metrics: Metrics, response: Response) -> Response:
    context = g._get_current_object()
    record: Record = context.record
    record.status = response.status_code
    headers = response.headers
    headers["X-Content-Type-Options"] = "nosniff"  # a model's words are never a page, whatever they look like
    headers.setdefault("Cache-Control", "no-store")  # answers are their client's own
    headers["x-request-id"] = record.id
    headers["openai-processing-ms"] = str(round((time.monotonic() - record.started) * 1000))
    if ignored := context.get("ignored"):
        headers["x-ignored-params"] = _header_value(", ".join(ignored))
    response.call_on_close(partial(_end, metrics, record))
    return response


def _end(metrics: Metrics, record: Record) -> None:
    record.write()
    metrics.observe(record)


def _header_value(text: str) -> str:
    """Unknown fields have any names that JSON allows; a header has not, and proxies limit its length."""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:1024])


def _error_response(error: GatewayError) -> Response:
    g.record.outcome = error.code
    response = Response(render_error(error), status=error.status, mimetype="application/json")
    if error.retry_after is not None:
        response.headers["retry-after"] = error.retry_after
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.should_retry is not None:
        response.headers["x-should-retry"] = str(error.should_retry).lower()
    return response


def _http_error(error: HTTPException) -> Response:
    """What Flask itself refuses: unknown paths, methods, broken requests."""
    if isinstance(error, WerkzeugMethodNotAllowed):
        response = _error_response(MethodNotAllowed(f"This path does not take {request.method[:20]}."))
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response
    if error.code == 404 or (error.code or 500) < 400:
        return _error_response(NotFound())
    if (error.code or 500) < 500:
        return _error_response(InvalidRequest("The request is not valid HTTP for this path."))
    return _error_response(InternalError())


def _client_gone(_error: ClientGone) -> Response:
    # Nobody reads this, unless he only half closed. 499 is nginx's word for it; the access log shows it.
    g.record.outcome = "client_gone"
    return Response(status=499, mimetype="application/json")


def _bug(error: Exception) -> Response:
    _log.error("request %s: a bug", g.record.id, exc_info=error)
    return _error_response(InternalError())
