"""The errors of the gateway: each knows its HTTP status, OpenAI error type and code.

GatewayError                       500 server_error
├── InvalidRequest                 400 invalid_request_error    the client can mend it; `param` is the path of the fault
│   ├── NotFound                   404                          no such path
│   ├── ModelNotFound              404                          no such model
│   ├── MethodNotAllowed           405
│   └── BodyTooLarge               413
├── Unauthorized                   401 authentication_error     no key, or none that we know
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
│   ├── ToolCallInvalid                                         its model's call fits no tool, the second time, too
│   ├── ResponseFormatInvalid                                   nor its answer the wanted format
│   ├── UpstreamAuthRequired                                    its 401 or 403: its operator's to mend
│   └── UpstreamNotFound                                        its 404 that is not about the model
├── Overloaded                     503 overloaded_error
│   ├── ShuttingDown
│   ├── CircuitOpen                                             the upstream has failed so often that it is not asked
│   └── UpstreamUnavailable
├── TimedOut                       504 timeout_error
│   ├── UpstreamConnectTimeout
│   ├── UpstreamFirstEventTimeout
│   ├── UpstreamIdleTimeout
│   └── TotalTimeout
└── InternalError                  500 server_error             our own bug

Statuses, types and codes stand here and nowhere else (design: contract section 7). A message says what happened and
what to do; it never holds a traceback, a URL, a host name or a key: text of foreign origin goes through `quote` first.
"""

import re

_RETRY_SOON = "5"  # seconds; what we say where an upstream that limits us has not said when
_QUOTE_LENGTH = 200
_READ_LENGTH = 4 * _QUOTE_LENGTH
_SECRETS = re.compile(
    r"""[a-z][a-z0-9+.-]*://\S+                              # a URL
      | \b(?:sk|pk|key|hf|ghp|xox[a-z])[-_][\w-]{4,}         # a key, by its usual prefixes
      | \b(?:bearer|basic)\s+\S+
      | \b(?:pass(?:word|wd)?|pwd|secret|token|api[_-]?key)["']?\s*[=:]\s*\S+
      | \beyJ[\w-]+\.[\w.-]+                                 # a signed token (JWT)
      | \b(?=[a-z]*\d)[a-z0-9]{20,}\b                        # longer than a word or a part of a model's name
      | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b                 # an address
      | (?<![\w:])(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b        # an IPv6 address, whole
      | (?<![\w:])(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?::[0-9a-f:]*\b   # and shortened, with a port that may follow
      | (?<![\w.])(?!body\.|(?:messages|tools|choices)\.\d+\.)  # not the path of a field
        (?:[\w-]+\.)+[a-z]{2,}(?::\d+)?\b                    # a host name
      | \blocalhost(?::\d+)?\b
      | (?:/[\w.-]+){2,}                                     # a file path
    """,
    re.IGNORECASE | re.VERBOSE,
)


def quote(text: str) -> str:
    """Return foreign text fit for an error message: one short line without URLs, hosts, paths or keys; '' if unfit."""
    if "Traceback (most recent call last)" in text or text.lstrip().startswith("<"):
        return ""
    if len(text) > _READ_LENGTH:
        text = text[:_READ_LENGTH]
        text = text.rpartition(" ")[0] or text  # half a host name would not be known as one
    line = _SECRETS.sub("[…]", " ".join(text.split()))
    line = line.encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= _QUOTE_LENGTH else line[:_QUOTE_LENGTH] + "…"


class GatewayError(Exception):
    """An end that a client is told of: `status` over HTTP, or an error event once the stream has begun.

    `param` is the path of the field at fault, like `messages[0].content`. `retry_after` is the value of a Retry-After
    header (seconds or an HTTP date), `upstream_retry_after` the upstream's own, if it sent one. `should_retry` False
    tells SDKs that asking again cannot help. `reason` and `upstream_status` (of HTTP, if that was the failure) are for
    the operator's log alone: a reason may name hosts, and never holds a key.

    Is it safe to ask again, or elsewhere? Only where `not_taken` is True: nobody works on the request, or (a 502 or 504
    of something in front of the upstream) nobody will answer it.
    `unhealthy` errors say that an upstream is not there at all; enough of them in a row open its circuit.
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

    def body(self) -> dict[str, dict[str, str | None]]:
        """Return OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(GatewayError):
    """The request is at fault, and the client can mend it."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    message = "The request is not valid."


class NotFound(InvalidRequest):
    """No such path."""

    status = 404
    code = "not_found"
    message = "There is nothing at this path. Try POST /v1/chat/completions or GET /v1/models."


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
    """The operator wants a key, and this request has none that is known."""

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
    """The upstream wants fewer requests; its own Retry-After is passed on, unless it is short enough to wait for."""

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
    """No trust: its certificate was refused, or no TLS agreed upon. `reason` says which check failed.

    Nothing was sent, so another upstream may be asked. The same one is there, and as it is: asking it again is no use,
    and a circuit, which is for servers that are not there, would only hide what its operator has to mend.
    """

    code = "upstream_tls"
    message = (
        "The gateway does not trust the connection to the model's server: its certificate or TLS handshake failed. "
        "Tell the gateway's operator: the log names the check, and CA_FILE adds a private authority."
    )
    not_taken = True
    should_retry = False


class UpstreamConnectionError(UpstreamFailed):
    """The connection broke before an answer began. The upstream may have taken the request."""

    code = "upstream_connection_error"
    message = "The connection to the model's server broke before it answered. Try again."
    unhealthy = True


class UpstreamBadGateway(UpstreamFailed):
    """Its own 502 or 504: what stands in front of it got no answer either."""

    not_taken = unhealthy = True


class UpstreamIncomplete(UpstreamFailed):
    """The answer ended before its protocol's terminal event: the text may be cut."""

    code = "upstream_incomplete"
    message = "The model's server ended the answer before it was complete. Try again."


class UpstreamProtocolError(UpstreamFailed):
    """The answer is not what the protocol allows: HTML, malformed, bad coding."""

    code = "upstream_protocol_error"
    message = "The model's server sent something that is no answer. Try again; if it stays so, tell the operator."


class UpstreamTooLarge(UpstreamFailed):
    """One event is larger than MAX_EVENT_BYTES."""

    code = "upstream_too_large"
    message = "The model's server sent an event that is too large. Ask for a shorter answer."


class UpstreamEmpty(UpstreamFailed):
    """A clean end with neither text nor anything else that could be an answer."""

    code = "upstream_empty_response"
    message = "The model's server ended without any answer. Try again."


class ToolCallInvalid(UpstreamFailed):
    """The model called a tool in a way that does not fit, and again when it was told so."""

    code = "tool_call_invalid"
    message = "The model did not manage to call a tool. Try again, with simpler tools or another model."
    should_retry = False  # the model was asked again already, or the client has seen a part


class ResponseFormatInvalid(UpstreamFailed):
    """The model's answer is not of the format that was asked for."""

    code = "response_format_invalid"
    message = "The model did not manage to answer in the wanted format. Try again, or ask another model."
    should_retry = False  # the model was asked again already, or the client has seen a part


class UpstreamAuthRequired(UpstreamFailed):
    """The upstream asks for a login, or refuses the gateway's key; that is the operator's to mend, not the client's."""

    code = "upstream_auth_required"
    message = "The model's server asks the gateway to sign in. Tell the gateway's operator."
    refused = "The model's server refused the gateway's own credentials. Tell the gateway's operator."
    should_retry = False


class UpstreamNotFound(UpstreamFailed):
    """The upstream has nothing at the path that it was asked at: the operator's base URL is wrong."""

    code = "upstream_not_found"
    message = "The model's server has nothing at the address that the gateway asks. Tell the gateway's operator."
    should_retry = False


class Overloaded(GatewayError):
    """No room for more work now."""

    status = 503
    type = "overloaded_error"
    code = "overloaded"
    message = "The gateway has too much to do. Try again soon."
    retry_after = _RETRY_SOON
    not_taken = True


class ShuttingDown(Overloaded):
    """This process drains."""

    code = "shutting_down"
    message = "The gateway is shutting down. Try again at once: another process answers."
    retry_after = "1"


class CircuitOpen(Overloaded):
    """The upstream has failed so often in a row that it is left alone for a while."""

    code = "circuit_open"
    message = "The model's server has failed too often lately, and is not asked for a while. Try again later."


class UpstreamUnavailable(Overloaded):
    """The upstream's own 503."""

    unhealthy = True
    code = "upstream_unavailable"
    message = "The model's server has no room for more work now. Try again later."


class TimedOut(GatewayError):
    """A limit of time ran out."""

    status = 504
    type = "timeout_error"
    code = "timeout"
    message = "It took too long."


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
