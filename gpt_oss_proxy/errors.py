"""The errors of the gateway: each has its HTTP status, OpenAI error type and code.

GatewayError                       500 server_error
├── InvalidRequest                 400 invalid_request_error    the client can fix it; `param` is the path of the fault
│   ├── InvalidField                                            named neutrally, spelled by the client API
│   ├── NotFound                   404                          no such path
│   ├── ModelNotFound              404                          no such model
│   ├── MethodNotAllowed           405
│   └── BodyTooLarge               413
├── Unauthorized                   401 authentication_error     no key, or an unknown one
├── UpstreamRejected               400 upstream_error           the upstream refused this content
├── RateLimited                    429 rate_limit_error
├── UpstreamFailed                 502 upstream_error           the upstream is at fault
│   ├── UpstreamUnreachable                                     refused, name not resolved, no way through the proxy
│   ├── UpstreamTls                                             its certificate or its handshake refused
│   ├── UpstreamConnectionError                                 broken before an answer began
│   ├── UpstreamBadGateway                                      its own 502 or 504
│   ├── UpstreamIncomplete                                      ended before its protocol's terminal event
│   ├── UpstreamProtocolError                                   HTML, malformed, bad coding
│   ├── UpstreamTooLarge
│   ├── UpstreamEmpty
│   ├── ToolCallInvalid                                         its model's calls did not fit a tool, in both tries
│   ├── ResponseFormatInvalid                                   nor its answer the wanted format
│   ├── UpstreamAuthRequired                                    its 401 or 403: the operator must fix it
│   └── UpstreamNotFound                                        its 404 that is not about the model
├── Overloaded                     503 overloaded_error
│   ├── ShuttingDown
│   ├── CircuitOpen                                             it has failed too often in a row to be asked now
│   └── UpstreamUnavailable
├── TimedOut                       504 timeout_error
│   ├── UpstreamConnectTimeout
│   ├── UpstreamFirstEventTimeout
│   ├── UpstreamIdleTimeout
│   └── TotalTimeout
└── InternalError                  500 server_error             our own bug

Statuses, types and codes are defined here and nowhere else (docs/contract.md, section 7). A message says what happened
and what to do; it never holds a traceback, a URL, a host name or a key: foreign text goes through `quote` first.
"""

from collections.abc import Callable
from typing import Any

_RETRY_SOON = "5"  # seconds; used if an upstream that limits us sends no Retry-After


class GatewayError(Exception):
    """A failure that is reported to the client: by `status` over HTTP, or by an error event once the stream has begun.

    `param` is the path of the field at fault, like `messages[0].content`. `retry_after` is the value of a Retry-After
    header (seconds or an HTTP date), `upstream_retry_after` the upstream's own, if it sent one. `should_retry` False
    tells SDKs that a retry cannot help. `reason` and `upstream_status` (of HTTP, if that was the failure) are only for
    the operator's log: a reason may name hosts, and never holds a key.

    Is it safe to ask again, or elsewhere? Only if `not_taken` is True: the request is not being processed, or (a 502 or
    504 from something in front of the upstream) will not be answered.
    `unhealthy` errors mean that an upstream cannot be reached at all; enough of them in a row open its circuit.
    """

    status = 500
    type = "server_error"
    code = "internal_error"
    message = "The gateway failed."
    retry_after: str | None = None
    should_retry: bool | None = None
    not_taken = False
    unhealthy = False

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: str | None = None,
        should_retry: bool | None = None,
        reason: str = "",
        upstream_status: int | None = None,
    ) -> None:
        self.message = message or self.message
        self.code = code or self.code
        self.param = param
        self.upstream_retry_after = retry_after
        self.retry_after = retry_after or self.retry_after
        self.should_retry = self.should_retry if should_retry is None else should_retry
        self.reason = reason
        self.upstream_status = upstream_status
        super().__init__(self.message)


class InvalidRequest(GatewayError):
    """The request is at fault, and the client can fix it."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    message = "The request is not valid."


class InvalidField(InvalidRequest):
    """A field's value is invalid.

    The code that raises it knows no client format, and names the field neutrally: `path` holds the names and positions
    that lead to it, like ("tools", 0, "name"), and a client API spells it in its own format. With `is_named` the
    message begins with the spelled path.
    """

    code = "invalid_value"
    message = "The value of a field cannot be taken."

    def __init__(
        self,
        path: tuple[str | int, ...] = (),
        text: str = message,
        *,
        code: str | None = None,
        is_named: bool = True,
    ) -> None:
        self.path = path
        self.text = text
        self.is_named = is_named
        super().__init__(text, code=code)
        self.spell(dotted)

    def spell(self, spelled: Callable[[tuple[str | int, ...]], str]) -> None:
        """Name the field by its path as `spelled` spells it."""
        self.param = spelled(self.path) or None
        self.message = f"{self.param}: {self.text}" if self.is_named and self.path else self.text
        self.args = (self.message,)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.text), self.__dict__


def dotted(path: tuple[str | int, ...]) -> str:
    """Return a path in the usual notation for JSON: `tools[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class NotFound(InvalidRequest):
    """No such path."""

    status = 404
    code = "not_found"
    message = "Unknown path. Try POST /v1/chat/completions or GET /v1/models."


class ModelNotFound(InvalidRequest):
    """No such model; the message should name those that exist."""

    status = 404
    code = "model_not_found"
    message = "The model does not exist. GET /v1/models lists those that do."


class MethodNotAllowed(InvalidRequest):
    """The path exists, but not for this method."""

    status = 405
    code = "method_not_allowed"
    message = "This path does not take this method."


class BodyTooLarge(InvalidRequest):
    """The request's body is larger than MAX_BODY_BYTES."""

    status = 413
    code = "body_too_large"
    message = "The request's body is too large."


class Unauthorized(GatewayError):
    """The operator requires a key, and this request has no known one."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    message = (
        "This gateway wants an API key: send it as `Authorization: Bearer …`, `api-key` or `x-api-key`. "
        "Ask the operator for one."
    )


class UpstreamRejected(GatewayError):
    """The upstream refused this content (its 400, 413, 422)."""

    status = 400
    type = "upstream_error"
    code = "upstream_rejected"
    message = "The model's server refused this request. Check its length, images and roles."


class RateLimited(GatewayError):
    """The upstream limits requests; its Retry-After is passed on, unless it is short enough to wait for."""

    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"
    message = "The model's server limits the rate of requests. Try again later."
    retry_after = _RETRY_SOON
    not_taken = True


class UpstreamFailed(GatewayError):
    """The upstream is at fault: an error event, a 5xx or 3xx."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    message = "The model's server failed. Try again; if it stays so, tell the gateway's operator."


class UpstreamUnreachable(UpstreamFailed):
    """No connection: refused, name not resolved, hung up, or refused by the proxy."""

    code = "upstream_unreachable"
    not_taken = unhealthy = True
    message = "The model's server cannot be reached. Try again; if it stays so, tell the gateway's operator."


class UpstreamTls(UpstreamFailed):
    """TLS failed: the upstream's certificate was refused, or no version was agreed on. `reason` names the failed check.

    Nothing was sent, so another upstream may be asked. The same one will not change, so asking it again is useless, and
    a circuit, which is for unreachable servers, would only hide what the operator has to fix.
    """

    code = "upstream_tls"
    message = (
        "The gateway does not trust the connection to the model's server: its certificate or TLS handshake failed. "
        "Tell the gateway's operator: the log names the check, and CA_FILE adds a private authority."
    )
    not_taken = True
    should_retry = False


class UpstreamConnectionError(UpstreamFailed):
    """The connection broke before an answer began. The upstream may have accepted the request."""

    code = "upstream_connection_error"
    message = "The connection to the model's server broke before it answered. Try again."
    unhealthy = True


class UpstreamBadGateway(UpstreamFailed):
    """Its own 502 or 504: the proxy in front of it got no answer either."""

    not_taken = unhealthy = True


class UpstreamIncomplete(UpstreamFailed):
    """The answer ended before its protocol's terminal event: the text may be incomplete."""

    code = "upstream_incomplete"
    message = "The model's server ended the answer before it was complete. Try again."


class UpstreamProtocolError(UpstreamFailed):
    """The answer violates the protocol: HTML, malformed, bad coding."""

    code = "upstream_protocol_error"
    message = "The model's server returned an invalid response. Try again; if it stays so, tell the operator."


class UpstreamTooLarge(UpstreamFailed):
    """One event is larger than MAX_EVENT_BYTES."""

    code = "upstream_too_large"
    message = "The model's server sent an event that is too large. Ask for a shorter answer."


class UpstreamEmpty(UpstreamFailed):
    """A regular end without text or anything else that could be an answer."""

    code = "upstream_empty_response"
    message = "The model's server ended without any answer. Try again."


class ToolCallInvalid(UpstreamFailed):
    """The model called a tool with arguments that do not fit, and again after a correction."""

    code = "tool_call_invalid"
    message = "The model returned no valid tool call. Try simpler tools, or another model."
    should_retry = False  # the model was already asked again, or the client has seen a part


class ResponseFormatInvalid(UpstreamFailed):
    """The model's answer does not have the requested format."""

    code = "response_format_invalid"
    message = "The model returned no answer in the wanted format. Try another model."
    should_retry = False  # the model was already asked again, or the client has seen a part


class UpstreamAuthRequired(UpstreamFailed):
    """The upstream requires a login, or refuses the gateway's key; the operator must fix that, not the client."""

    code = "upstream_auth_required"
    message = "The model's server asks the gateway to sign in. Tell the gateway's operator."
    refused = "The model's server refused the gateway's own credentials. Tell the gateway's operator."
    should_retry = False


class UpstreamNotFound(UpstreamFailed):
    """The upstream does not know the requested path: the operator's base URL is wrong."""

    code = "upstream_not_found"
    message = "The model's server has nothing at the address that the gateway asks. Tell the gateway's operator."
    should_retry = False


class Overloaded(GatewayError):
    """No capacity for more work now."""

    status = 503
    type = "overloaded_error"
    code = "overloaded"
    message = "The gateway has too much to do. Try again soon."
    retry_after = _RETRY_SOON
    not_taken = True


class ShuttingDown(Overloaded):
    """This process is draining."""

    code = "shutting_down"
    message = "The gateway is shutting down. Try again at once: another process answers."
    retry_after = "1"


class CircuitOpen(Overloaded):
    """The upstream has failed so often in a row that it is not asked for a while."""

    code = "circuit_open"
    message = "The model's server has failed too often lately, and is not asked for a while. Try again later."


class UpstreamUnavailable(Overloaded):
    """The upstream's own 503."""

    unhealthy = True
    code = "upstream_unavailable"
    message = "The model's server has no room for more work now. Try again later."


class TimedOut(GatewayError):
    """A time limit ran out."""

    status = 504
    type = "timeout_error"
    code = "timeout"
    message = "The answer took too long."


class UpstreamConnectTimeout(TimedOut):
    """No connection within CONNECT_TIMEOUT_SECONDS."""

    code = "upstream_connect_timeout"
    message = "The model's server did not accept a connection in time. Try again."
    not_taken = unhealthy = True


class UpstreamFirstEventTimeout(TimedOut):
    """Silence from the request to the first event for REQUEST_TIMEOUT_SECONDS."""

    code = "upstream_first_event_timeout"
    message = "The model's server did not begin its answer in time. Try again, or ask for less."
    unhealthy = True


class UpstreamIdleTimeout(TimedOut):
    """Silence between two events for REQUEST_TIMEOUT_SECONDS."""

    code = "upstream_idle_timeout"
    message = "The model's server fell silent in the middle of its answer. Try again."


class TotalTimeout(TimedOut):
    """The whole answer took TOTAL_TIMEOUT_SECONDS."""

    code = "total_timeout"
    message = "The answer took longer than the gateway allows. Ask for a shorter one."


class InternalError(GatewayError):
    """Our own bug. The log has the details; the client gets none of them."""

    message = "The gateway failed. This is a bug of ours: please report it with the x-request-id of this answer."
