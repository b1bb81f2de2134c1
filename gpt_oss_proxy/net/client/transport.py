"""HTTP towards upstreams: sessions of requests, and the one border where its errors become ours.

An outcome is decided by the phase in which it happened, never by an exception's text: while connecting, before the
head of the answer, in the body.
"""

import email.utils
import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import gevent
import requests
import urllib3
import urllib3.exceptions

from gpt_oss_proxy.errors import (
    GatewayError,
    UpstreamConnectionError,
    UpstreamFirstEventTimeout,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamTooLarge,
    UpstreamUnreachable,
)
from gpt_oss_proxy.net.client.fast_adapter import FastAdapter
from gpt_oss_proxy.net.client.proxy import is_loopback
from gpt_oss_proxy.net.client.standard_adapter import StandardAdapter

_READ_BYTES = 64 * 1024
_A_MOMENT = 1e-6  # seconds; not 0, for gevent would look at its timers and sockets only after fifty turns
_ERROR_BODY_BYTES = 64 * 1024
_ERROR_BODY_SECONDS = 0.5
_LONGEST_RETRY_AFTER = 64  # characters; a date has 29
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})  # those that urllib3 undoes; we ask for the first


class HTTPStatusError(Exception):
    """A server answered with a status other than 2xx. `body` is the first 64 KiB, what came of them in half a second.

    `retry_after` is the header of that name, if it is valid.
    """

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.retry_after = retry_after


class Transport:
    """Pools of connections: no proxies or netrc from the environment, no cookies, no redirects, no retries.

    Requests go to requests' adapter, and not through a Session, which does all these things and takes its time.
    """

    def __init__(
        self, *, connect_timeout_seconds: float, fast: bool = True, tls: ssl.SSLContext | None = None, proxy: str = ""
    ) -> None:
        """`fast` chooses between our adapter and requests' own. `tls` has the authorities, certifi's by default.

        `proxy` is the URL of a forward proxy for all but loopback.
        """
        self._adapter: StandardAdapter = (FastAdapter if fast else StandardAdapter)(connect_timeout_seconds, tls)
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        # No read time-out here: it would be one per read. The relay watches over silence and the whole.
        self._timeout = urllib3.Timeout(connect=connect_timeout_seconds, read=None)

    def close(self) -> None:
        """Close all idle connections."""
        self._adapter.close()

    def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> requests.Response:
        """Return the answer's head, its body unread. Raises HTTPStatusError, or a GatewayError."""
        try:
            proxies = None if self._proxies is None or is_loopback(url) else self._proxies
            request = _request(method, url, headers, body)
            response = self._adapter.send(request, stream=True, timeout=self._timeout, proxies=proxies)  # type: ignore[arg-type] # requests takes it as it is
        except requests.ConnectionError as error:
            raise _head_error(error) from error
        except (requests.RequestException, http.client.HTTPException, ValueError) as error:
            raise UpstreamProtocolError from error
        except OSError as error:
            raise UpstreamConnectionError from error
        if not 200 <= response.status_code < 300:
            with response:
                if response.status_code == 407 and proxies and url.lower().startswith("http:"):  # its own answer
                    raise UpstreamUnreachable(reason=f"the proxy answered 407 {response.reason}")
                raise _status_error(response)
        coding = response.headers.get("Content-Encoding")
        if coding and not _CODINGS.issuperset(coding.lower().replace(" ", "").split(",")):
            with response:
                raise UpstreamProtocolError
        return response

    def fetch(self, url: str, *, headers: Mapping[str, str], max_bytes: int, timeout_seconds: float) -> bytes:
        """Return the whole body of a GET. Raises HTTPStatusError, or a GatewayError (too long, too slow)."""
        timeout = gevent.Timeout(timeout_seconds)
        try:
            with timeout:
                return self._fetch(url, headers, max_bytes)
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            raise UpstreamFirstEventTimeout from error

    def _fetch(self, url: str, headers: Mapping[str, str], max_bytes: int) -> bytes:
        response = self.send("GET", url, headers=headers, body=None)
        body = bytearray()
        with response:
            for block in read_blocks(response):
                body += block
                if len(body) > max_bytes:
                    raise UpstreamTooLarge
        return bytes(body)


@lru_cache(256)
def _prepared(method: str, url: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what all requests to a URL have in common, and their headers. To prepare one takes requests long."""
    prepared = requests.Request(method, url).prepare()
    headers = {"Accept-Encoding": "identity", "User-Agent": "gpt-oss-proxy"}
    if basic := prepared.headers.get("Authorization"):  # the URL has a user's name and password
        headers["Authorization"] = basic
    return vars(prepared), headers


def _request(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.PreparedRequest:
    prepared, common = _prepared(method, url)
    request = requests.PreparedRequest.__new__(requests.PreparedRequest)
    vars(request).update(prepared, body=body)
    length = {"Content-Length": str(len(body))} if body is not None else {}
    request.headers = {**common, **headers, **length}  # type: ignore[assignment] # each has its usual spelling
    return request


def read_blocks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes, decompressed, each read at once. Raises UpstreamIncomplete, UpstreamProtocolError."""
    read = response.raw.read1
    compressed = "Content-Encoding" in response.headers
    begun = False

    def next_block() -> bytes:
        nonlocal begun
        if compressed and begun:  # a little may become very much, all of it without a wait for the next byte
            gevent.sleep(_A_MOMENT)
        begun = True
        try:
            # read1 gives what is there; read, stream and iter_content hold a close-delimited body back to its end.
            block: bytes = read(_READ_BYTES, decode_content=True)
        except urllib3.exceptions.DecodeError as error:
            raise UpstreamProtocolError from error
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise UpstreamIncomplete from error
        return block

    return iter(next_block, b"")


def offer(response: requests.Response, taker: Callable[[bytes], bool]) -> None:
    """Let this take blocks before whoever waits for them, in the hub, if the adapter can do that.

    It is never offered the end, and returns whether it has taken the block.
    """
    if offered := getattr(response.raw, "offer", None):
        offered(taker)


def is_read(response: requests.Response) -> bool:
    """Return whether it is known, without waiting, that no more blocks will come."""
    return getattr(response.raw, "at_end", False)


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
    retry_after = _retry_after(response.headers.get("Retry-After"))
    return HTTPStatusError(response.status_code, bytes(body[:_ERROR_BODY_BYTES]), retry_after)


def _retry_after(value: str | None) -> str | None:
    # It becomes a header of ours, so it must be one by any server's rules.
    if not value or len(value) >= _LONGEST_RETRY_AFTER or not (value.isascii() and value.isprintable()):
        return None
    try:
        return value if value.isdigit() or email.utils.parsedate_to_datetime(value) else None
    except (ValueError, OverflowError):  # there is no such day
        return None
