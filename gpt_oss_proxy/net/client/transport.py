"""HTTP to upstreams through requests' adapters, and the one place where their errors become ours.

The phase decides the error, never an exception's text: connecting, before the response's head, or in the body.
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
_A_MOMENT = 1e-6  # seconds; not 0: gevent would check timers and sockets only after fifty rounds
_ERROR_BODY_BYTES = 64 * 1024
_ERROR_BODY_SECONDS = 0.5
_LONGEST_RETRY_AFTER = 64  # characters; a date has 29
_CODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})  # what urllib3 decodes; we ask for identity


class HTTPStatusError(Exception):
    """A response with a status other than 2xx. `body` is at most 64 KiB of it, as read within half a second.

    `retry_after` is the value of that header, if it is valid.
    """

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.retry_after = retry_after


class Transport:
    """Pools of connections: no proxies or netrc from the environment, no cookies, no redirects, no retries.

    It calls requests' adapter directly; a Session would add all of these, and costs more time.
    """

    def __init__(
        self, *, connect_timeout_seconds: float, fast: bool = True, tls: ssl.SSLContext | None = None, proxy: str = ""
    ) -> None:
        """`fast` selects FastAdapter, else StandardAdapter. `tls` holds the authorities, certifi's by default.

        `proxy` is the URL of a forward proxy for all upstreams except loopback.
        """
        self._adapter: StandardAdapter = (FastAdapter if fast else StandardAdapter)(connect_timeout_seconds, tls)
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        # No read time-out here: it would apply to each read. The relay limits silence and total time.
        self._timeout = urllib3.Timeout(connect=connect_timeout_seconds, read=None)

    def close(self) -> None:
        """Close all idle connections."""
        self._adapter.close()

    def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> requests.Response:
        """Return the response with its body unread. Raises HTTPStatusError, or a GatewayError."""
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
                if response.status_code == 407 and proxies and url.lower().startswith("http:"):  # from the proxy
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
    """Return the attributes and headers that all requests to a URL share; preparing a request is slow in requests."""
    prepared = requests.Request(method, url).prepare()
    headers = {"Accept-Encoding": "identity", "User-Agent": "gpt-oss-proxy"}
    if basic := prepared.headers.get("Authorization"):  # from the URL's user name and password
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
    """Yield the decompressed body, each read at once. Raises UpstreamIncomplete, UpstreamProtocolError."""
    read = response.raw.read1
    compressed = "Content-Encoding" in response.headers
    begun = False

    def next_block() -> bytes:
        nonlocal begun
        if compressed and begun:  # few bytes may expand to very many, without waiting for the next byte
            gevent.sleep(_A_MOMENT)
        begun = True
        try:
            # read1 returns what is available; read, stream and iter_content delay a close-delimited body until its end.
            block: bytes = read(_READ_BYTES, decode_content=True)
        except urllib3.exceptions.DecodeError as error:
            raise UpstreamProtocolError from error
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise UpstreamIncomplete from error
        return block

    return iter(next_block, b"")


def offer(response: requests.Response, on_bytes: Callable[[bytes], bool]) -> None:
    """Call `on_bytes` in the hub with each block, before the waiting greenlet is woken, if the adapter supports it.

    It never gets the end of the body. If it returns False, the block is left to `read_blocks`.
    """
    if offered := getattr(response.raw, "offer", None):
        offered(on_bytes)


def is_read(response: requests.Response) -> bool:
    """Return whether the body is known, without waiting, to have no more blocks."""
    return getattr(response.raw, "at_end", False)


def _head_error(error: requests.ConnectionError) -> GatewayError:
    # requests wraps urllib3's ProtocolError(text, cause); the cause separates a broken connection from a malformed
    # head.
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
        pass  # The status alone is enough.
    retry_after = _retry_after(response.headers.get("Retry-After"))
    return HTTPStatusError(response.status_code, bytes(body[:_ERROR_BODY_BYTES]), retry_after)


def _retry_after(value: str | None) -> str | None:
    # It becomes one of our headers, so it must be valid for any server.
    if not value or len(value) >= _LONGEST_RETRY_AFTER or not (value.isascii() and value.isprintable()):
        return None
    try:
        return value if value.isdigit() or email.utils.parsedate_to_datetime(value) else None
    except (ValueError, OverflowError):  # no such date
        return None
