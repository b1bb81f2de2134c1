"""HTTP towards upstreams: sessions of requests, and the one border where its errors become ours.

An outcome is decided by the phase in which it happened, never by an exception's text: while connecting, before the
head of the answer, in the body.
"""

import email.utils
import errno
import http.client
import io
import json
import socket
import time
from collections.abc import Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import gevent
import msgspec
import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from gpt_oss_proxy.errors import (
    GatewayError,
    ModelNotFound,
    Overloaded,
    RateLimited,
    UpstreamBadGateway,
    UpstreamConnectionError,
    UpstreamConnectTimeout,
    UpstreamFailed,
    UpstreamFirstEventTimeout,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamRejected,
    UpstreamTooLarge,
    UpstreamUnavailable,
    UpstreamUnreachable,
    quote,
)

_READ_BYTES = 64 * 1024
_BUFFER_BYTES = 16 * 1024
_SLICE_SECONDS = 0.001  # how long bytes of one answer may be read without letting others run
_A_MOMENT = 1e-6  # seconds; not 0, for gevent would look at its timers and sockets only after fifty turns
_ERROR_BODY_BYTES = 64 * 1024
_ERROR_BODY_SECONDS = 0.5
_MOST_INTERIM_HEADS = 8
_LONGEST_RETRY_AFTER = 64  # characters; a date has 29
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})  # those that urllib3 undoes; we ask for the first
_IDLE_SECONDS = 4.0  # uvicorn and Node close what has been idle for 5
_POOLED_CONNECTIONS = 1024  # per upstream and worker; above it a connection is opened and closed again


class HTTPStatusError(Exception):
    """The upstream answered with a status other than 200. `text` is what its body says, '' if nothing readable."""

    def __init__(self, status: int, text: str, code: str, retry_after: str | None) -> None:
        super().__init__(status)
        self.status = status
        self.text = text
        self.code = code
        self.retry_after = retry_after


class Transport:
    """One pooled session: no proxies or netrc from the environment, no cookies, no redirects, no retries."""

    def __init__(self, *, connect_timeout_seconds: float) -> None:
        self._session = _Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.clear()
        adapter = _Adapter(connect_timeout_seconds)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._connect_timeout_seconds = connect_timeout_seconds

    def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> requests.Response:
        """Return the answer's head, its body unread. Raises HTTPStatusError, or a GatewayError."""
        try:
            response = self._session.request(
                method,
                url,
                headers={"Accept-Encoding": "identity", "User-Agent": "gpt-oss-proxy", **headers},
                data=body,
                stream=True,
                allow_redirects=False,
                # No read time-out here: it would be one per read. The relay watches over silence and the whole.
                timeout=(self._connect_timeout_seconds, None),
            )
        except requests.ConnectionError as error:
            raise _head_error(error) from error
        except (requests.RequestException, http.client.HTTPException, ValueError) as error:
            raise UpstreamProtocolError from error
        except OSError as error:
            raise UpstreamConnectionError from error
        if response.status_code != 200:
            with response:
                raise _status_error(response)
        codings = response.headers.get("Content-Encoding", "").lower().replace(" ", "").split(",")
        if not _CODINGS.issuperset(codings):
            with response:
                raise UpstreamProtocolError
        return response

    def fetch(self, url: str, *, headers: Mapping[str, str], max_bytes: int, timeout_seconds: float) -> bytes:
        """Return the whole body of a GET. Raises a GatewayError, also when it is too long or takes too long."""
        timeout = gevent.Timeout(timeout_seconds)
        try:
            with timeout:
                return self._fetch(url, headers, max_bytes)
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            raise UpstreamFirstEventTimeout from error

    def _fetch(self, url: str, headers: Mapping[str, str], max_bytes: int) -> bytes:
        try:
            response = self.send("GET", url, headers=headers, body=None)
        except HTTPStatusError as error:
            raise error_from_status(error) from error
        body = bytearray()
        with response:
            for block in read_blocks(response):
                body += block
                if len(body) > max_bytes:
                    raise UpstreamTooLarge
        return bytes(body)


def read_blocks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes, decompressed, each read at once. Raises UpstreamIncomplete, UpstreamProtocolError."""
    raw = response.raw
    while True:
        try:
            # read1 gives what is there; read, stream and iter_content hold a close-delimited body back to its end.
            block = raw.read1(_READ_BYTES, decode_content=True)
        except urllib3.exceptions.DecodeError as error:
            raise UpstreamProtocolError from error
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise UpstreamIncomplete from error
        if not block:
            return
        yield block


def error_from_status(error: HTTPStatusError) -> GatewayError:
    """Return the error that an upstream's HTTP status means to our client (contract, section 7)."""
    said = quote(error.text)
    tail = f" It said: {said}" if said else ""
    if error.status in (400, 413, 422):
        code = "context_length_exceeded" if error.code == "context_length_exceeded" else None
        return UpstreamRejected(UpstreamRejected.message + tail, code=code)
    if error.status == 429:
        return RateLimited(RateLimited.message + tail, retry_after=error.retry_after)
    if error.status == 503:
        return UpstreamUnavailable(retry_after=error.retry_after)
    if error.status in (401, 403):
        # Ours to mend, not the client's, so neither the status nor the text is passed on.
        return UpstreamFailed("The model's server refused the gateway's own credentials. Tell the gateway's operator.")
    if error.status in (502, 504):
        return UpstreamBadGateway()
    if 200 <= error.status < 300:
        return UpstreamProtocolError()
    return UpstreamFailed()


def model_not_found(model: str) -> ModelNotFound:
    """Return the error for a model that we know of and the upstream does not."""
    return ModelNotFound(f"The model's server does not know {quote(model)!r}. Ask for another model.", param="model")


def _head_error(error: requests.ConnectionError) -> GatewayError:
    # requests wraps urllib3's ProtocolError(text, cause); the cause tells a broken connection from a malformed head.
    inner = error.args[0] if error.args else None
    cause = inner.args[1] if isinstance(inner, urllib3.exceptions.ProtocolError) and len(inner.args) > 1 else None
    malformed = isinstance(cause, http.client.HTTPException) and not isinstance(cause, OSError)
    return UpstreamProtocolError() if malformed else UpstreamConnectionError()


def _status_error(response: requests.Response) -> HTTPStatusError:
    body = bytearray()
    try:
        with gevent.Timeout(_ERROR_BODY_SECONDS, False):  # type: ignore[arg-type] # False: the block is left
            for block in read_blocks(response):
                body += block
                if len(body) > _ERROR_BODY_BYTES:
                    break
    except GatewayError:
        pass  # The status alone says enough.
    text, code = _error_text(bytes(body[:_ERROR_BODY_BYTES]))
    return HTTPStatusError(response.status_code, text, code, _retry_after(response.headers.get("Retry-After")))


def _error_text(body: bytes) -> tuple[str, str]:
    """Return (message, code) of an error body: OpenAI's object, FastAPI's detail, or plain text."""
    try:
        value: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace"), ""
    if isinstance(value, dict):
        inner = value.get("error", value)
        if isinstance(inner, dict):
            message = next((inner[key] for key in ("message", "detail", "error") if inner.get(key)), "")
            code = inner.get("code")
            return _text(message), code if isinstance(code, str) else ""
        value = inner
    return (value if isinstance(value, str) else ""), ""


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except (ValueError, RecursionError):
        return ""


def _retry_after(value: str | None) -> str | None:
    # It becomes a header of ours, so it must be one by any server's rules.
    if not value or len(value) >= _LONGEST_RETRY_AFTER or not (value.isascii() and value.isprintable()):
        return None
    try:
        return value if value.isdigit() or email.utils.parsedate_to_datetime(value) else None
    except (ValueError, OverflowError):  # there is no such day
        return None


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter over connections that know when they are connecting."""

    def __init__(self, connect_timeout_seconds: float) -> None:
        self._connect_timeout_seconds = connect_timeout_seconds
        super().__init__(pool_maxsize=_POOLED_CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        seconds = self._connect_timeout_seconds

        class Plain(_Connecting, urllib3.connection.HTTPConnection):
            limit_seconds = seconds
            response_class = _Answer

        class Secure(_Connecting, urllib3.connection.HTTPSConnection):
            limit_seconds = seconds
            response_class = _Answer

        class PlainPool(_Pool, urllib3.connectionpool.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(_Pool, urllib3.connectionpool.HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


class _FairReader(io.RawIOBase):
    """A socket's bytes, read fairly: gevent's recv lets no one else run for as long as there is data.

    It stands below all buffers, because http.client (trailers, chunk heads) and urllib3 (compressed nothing) read on in
    loops of their own for as long as an upstream likes to send.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._since = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        begun = time.monotonic()
        if begun - self._since > _SLICE_SECONDS:
            gevent.sleep(_A_MOMENT)
            begun = self._since = time.monotonic()
        size = self._raw.readinto(buffer)
        now = time.monotonic()
        if now - begun > _SLICE_SECONDS:  # it had to wait, so others have run
            self._since = now
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer read fairly; http.client itself would read on for as long as `100 Continue` comes."""

    _interim = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        raw: io.RawIOBase = self.fp.detach()
        self.fp = io.BufferedReader(_FairReader(raw), _BUFFER_BYTES)

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc] # typeshed leaves it out
        if size < 0:  # http.client would hand over the chunks' heads as text
            raise ValueError
        return size

    def _read_status(self) -> tuple[str, int, str]:
        line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc] # typeshed leaves it out
        if line[1] == http.client.SWITCHING_PROTOCOLS:  # nobody asked for it
            raise http.client.HTTPException
        if 100 <= line[1] < 200:
            # http.client skips 100 only: a 103 would count as the answer, and the true one go to the next request.
            line = line[0], http.client.CONTINUE, line[2]
        self._interim += line[1] == http.client.CONTINUE
        if self._interim > _MOST_INTERIM_HEADS:
            raise http.client.HTTPException
        return line


class _Session(requests.Session):
    """A session that does not even look where a redirect leads: requests would read its whole body first."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002 - requests' own hook
        return None


class _Pool:
    """A pool that closes connections before their servers do: a POST into a closed one could not be repeated."""

    pool: Any  # urllib3's queue
    _sweeping = False

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)  # type: ignore[misc] # a mix-in over urllib3's pools
        if conn.sock is not None and conn.idle_since <= time.monotonic() - _IDLE_SECONDS:
            conn.close()
        return conn

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc] # a mix-in over urllib3's pools
        if not self._sweeping:
            self._sweeping = True
            gevent.spawn_later(_IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        open_ones = (
            [conn for conn in self.pool.queue if conn is not None and conn.sock is not None] if self.pool else []
        )
        oldest = time.monotonic() - _IDLE_SECONDS
        for conn in open_ones:
            if conn.idle_since <= oldest:
                conn.close()
        self._sweeping = any(conn.sock is not None for conn in open_ones)
        if self._sweeping:
            gevent.spawn_later(_IDLE_SECONDS / 4, self._sweep)


class _Connecting:
    """A connection whose name look-up, TCP and TLS share one deadline, and whose failure in them is known as such."""

    limit_seconds: float
    sock: socket.socket

    def connect(self) -> None:
        timeout = gevent.Timeout(self.limit_seconds)
        try:
            with timeout:
                super().connect()  # type: ignore[misc] # a mix-in over urllib3's connections
                self.sock.settimeout(None)  # else it would limit the sending of the request, too
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            raise UpstreamConnectTimeout from error
        except urllib3.exceptions.NewConnectionError as error:  # refused, no such name: by its class a time-out, too
            ours = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.EMFILE, errno.ENFILE)
            raise (Overloaded if ours else UpstreamUnreachable) from error
        except (urllib3.exceptions.ConnectTimeoutError, TimeoutError) as error:
            raise UpstreamConnectTimeout from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise UpstreamUnreachable from error
