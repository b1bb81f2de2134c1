"""Maps the failures that upstreams report (by HTTP status, in a body, or within an answer) to our errors.

Sources of the forms: OpenAI, Azure, Anthropic, Google (an array, status words), FastAPI (`detail`), vLLM (`object:
error`), OpenRouter (an error beside a choice, its status as `code`), Ollama and llama.cpp (a text). The table of our
errors is that of docs/contract.md.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gpt_oss_proxy.errors import (
    GatewayError,
    ModelNotFound,
    RateLimited,
    UpstreamAuthRequired,
    UpstreamBadGateway,
    UpstreamFailed,
    UpstreamNotFound,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gpt_oss_proxy.net.client.transport import HTTPStatusError
from gpt_oss_proxy.quoting import quote
from gpt_oss_proxy.upstreams.values import json_value, upstream_said

# The status for a failure without a number: types, codes and Google's status names, in lower case.
_STATUSES: Mapping[str, int] = {
    "invalid_request_error": 400,
    "invalid_argument": 400,
    "failed_precondition": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "unauthenticated": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "model_not_found": 404,
    "permission_denied": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "insufficient_quota": 429,
    "overloaded_error": 503,
    "overloaded": 503,
    "unavailable": 503,
    "service_unavailable": 503,
}
_DEEPEST = 8  # errors within errors
_NO_MODEL = frozenset({"model_not_found", "DeploymentNotFound"})
_KEPT_CODES = frozenset({"context_length_exceeded", "content_filter"})
# Agents shorten their history on this code, which few servers send.
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|(?:maximum|max) (?:context|sequence|model) length"
    r"|context (?:window|length|size)[^.]{0,60}(?:exceed|too)|exceeds?[^.]{0,60}context (?:window|length|size)"
    r"|prompt is too long|input is too long|too many (?:input )?tokens|max_new_tokens",
    re.IGNORECASE,
)


class Said(msgspec.Struct, frozen=True):
    """What a server says about a failure: message, code or type, the field at fault, a status; '' or 0 if missing."""

    text: str = ""
    code: str = ""
    param: str = ""
    status: int = 0


class StatusError(Exception):
    """An upstream answered with a status other than 2xx, or reported one within its answer. `said` is its text."""

    def __init__(self, status: int, said: Said, retry_after: str | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.text = said.text
        self.code = said.code
        self.param = said.param
        self.retry_after = retry_after


def read_status(error: HTTPStatusError) -> StatusError:
    """Return the same error with the content of the answer's body."""
    return StatusError(error.status, read_error(error.body), error.retry_after)


def read_error(body: bytes) -> Said:
    """Return the content of an error's body: JSON in any known form, or plain text."""
    try:
        return _read(json_value(body))
    except UpstreamProtocolError:
        return Said(body.decode("utf-8", "replace"))


def failure_in(record: dict[str, Any]) -> GatewayError | None:
    """Return the failure that an event, or a body with a good status, reports; None if it reports none."""
    if record.get("error"):
        return failure_of(record)
    base = record.get("base_resp")  # MiniMax
    if isinstance(base, dict) and base.get("status_code"):
        return failure_of({"message": base.get("status_msg")})
    if "choices" in record:
        return None
    if record.get("error_msg"):  # Baidu
        return failure_of({"message": record["error_msg"]})
    kind = record.get("object") or record.get("type")
    texts = (record.get(name) for name in ("message", "msg"))
    if (
        kind == "error"
        or record.get("detail")
        or record.get("errors")
        or any(isinstance(text, str) and text for text in texts)
    ):
        return failure_of(record)
    return None


def failure_of(error: Any) -> GatewayError:
    """Return our error for one that an upstream reports within its answer. Its number, if any, decides the kind."""
    said = _read(error)
    if 400 <= said.status < 600:
        return error_from_status(StatusError(said.status, said))
    return UpstreamFailed(upstream_said(quote(said.text)), reason=quote(said.text))


def error_from_status(error: StatusError, model: str = "") -> GatewayError:
    """Return our client's error for an upstream's status. `model` is the requested one, '' if there is none."""
    found = _from_status(error, model)
    found.upstream_status = error.status
    found.reason = quote(error.text)
    return found


def _from_status(error: StatusError, model: str) -> GatewayError:
    said = quote(error.text)
    tail = f" It said: {said}" if said else ""
    match error.status:
        case 400 if model and error.code in _NO_MODEL:
            return model_not_found(model)
        case 400 | 413 | 422:
            code = error.code if error.code in _KEPT_CODES else None
            code = "context_length_exceeded" if not code and _TOO_LONG.search(error.text) else code
            return UpstreamRejected(UpstreamRejected.message + tail, code=code)
        case 401 | 403:  # the operator must fix it, not the client, so neither status nor text is passed on
            return UpstreamAuthRequired(UpstreamAuthRequired.refused)
        case 404 if error.code in _NO_MODEL or (model and "model" in said.lower()):
            return model_not_found(model)
        case 404:
            return UpstreamNotFound()
        case 429:
            return RateLimited(RateLimited.message + tail, retry_after=error.retry_after)
        case 502 | 504:
            return UpstreamBadGateway(upstream_said(said))
        case 503 | 529:
            return UpstreamUnavailable(UpstreamUnavailable.message + tail, retry_after=error.retry_after)
        case _:
            return UpstreamFailed(upstream_said(said))


def model_not_found(model: str) -> ModelNotFound:
    """Return the error for a model that we list and the upstream does not know; '' if its id is not available."""
    if not model:
        return ModelNotFound(param="model")
    return ModelNotFound(f"The model's server does not know {quote(model)!r}. Ask for another model.", param="model")


def _read(value: Any, depth: int = _DEEPEST) -> Said:
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict | str)), "")
    if isinstance(value, str):
        return Said(value)
    if not isinstance(value, dict) or not depth:
        return Said()
    inner = value.get("error") or value.get("errors")
    if not inner:  # elsewhere these are texts
        inner = next((value[name] for name in ("detail", "message") if isinstance(value.get(name), dict)), None)
    found, own = _read(inner, depth - 1), _own(value)
    # A text beside a message is the status as a word.
    first, second = (own, found) if isinstance(inner, str) else (found, own)
    return Said(first.text or second.text, found.code or own.code, found.param or own.param, found.status or own.status)


def _own(value: dict[str, Any]) -> Said:
    """Return the content at the top level of a failure."""
    message = next((value[key] for key in ("message", "detail", "msg", "Message") if value.get(key)), "")
    behind, inner = (value[name] if isinstance(value.get(name), dict) else {} for name in ("metadata", "innererror"))
    if isinstance(behind.get("raw"), str):  # OpenRouter: the text of the server behind it
        message = f"{_text(message)}: {behind['raw']}"
    if inner.get("code") == "ResponsibleAIPolicyViolation":  # Azure
        return Said(_text(message), "content_filter", status=_status(value))
    code = next((value[key] for key in ("code", "type") if value.get(key) and isinstance(value[key], str)), "")
    param = value.get("param")
    return Said(_text(message), code, param if isinstance(param, str) else "", _status(value))


def _status(value: dict[str, Any]) -> int:
    """Return the HTTP status that a failure names, by a number or by a known word."""
    for name in ("status", "status_code", "statusCode", "code", "http_status", "type"):
        given = value.get(name)
        if isinstance(given, str):
            given = int(given) if re.fullmatch(r"[1-5]\d\d", given, re.ASCII) else _STATUSES.get(given.lower())
        if isinstance(given, int) and not isinstance(given, bool) and 400 <= given < 600:
            return given
    return 0


def _text(value: Any) -> str:
    """Return a message as text; FastAPI's `detail` is a list of faults, each with its location."""
    try:
        if isinstance(value, list) and value and all(isinstance(item, dict) and "msg" in item for item in value):
            return "; ".join(map(_fault, value))
        return value if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError):
        return ""


def _fault(item: dict[str, Any]) -> str:
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {item['msg']}" if where else str(item["msg"])
