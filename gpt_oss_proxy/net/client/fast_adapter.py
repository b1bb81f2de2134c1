"""HTTP/1.1 over gevent's sockets and httptools' parser, as a transport adapter of requests.

What one read of the socket brings is passed on at once, however many chunks it holds; urllib3 and http.client would
pass the chunks on one by one. Each read waits first, so that other greenlets run between two reads and no upstream can
occupy a worker. What it does not support (client certificates, other TLS rules) is left to StandardAdapter.
"""

import errno
import ssl
from collections.abc import Callable, Mapping
from functools import lru_cache
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec
import requests
import urllib3
from requests.cookies import RequestsCookieJar
from requests.utils import select_proxy

from gpt_oss_proxy.net.client.connections import Connection, Connections, Origin
from gpt_oss_proxy.net.client.proxy import parse_proxy
from gpt_oss_proxy.net.client.standard_adapter import StandardAdapter
from gpt_oss_proxy.net.turn import LARGE_READ

_MOST_HEAD_BYTES = 64 * 1024
_LONGEST_HEADER = 64 * 1024  # http.client's limits, this and the next
_MOST_HEADERS = 100
_MOST_INTERIM_HEADS = 8


class FastAdapter(StandardAdapter):
    """See the module. It overrides requests' hooks below `send`, because tests may replace `send`."""

    def __init__(self, connect_timeout_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(connect_timeout_seconds, tls)
        self._pools: dict[tuple[Origin, str | None], _Server] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool for the request: ours, if it supports what the request needs."""
        if cert or verify is not True:
            return super().get_connection_with_tls_context(request, verify, proxies, cert)
        origin = _target(request.url or "").origin
        proxy = select_proxy(request.url or "", proxies) if proxies else None
        pool = self._pools.get((origin, proxy))
        if pool is None:
            way = parse_proxy(proxy) if proxy else None
            pool = self._pools[origin, proxy] = _Server(origin, self._connect_timeout_seconds, self._tls, way)
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return path and query; for a plain http request through a proxy, the whole URL."""
        return super().request_url(request, proxies) if proxies else _target(request.url or "").path

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return the response; `raw` reads its body."""
        if not isinstance(resp, Body):
            return super().build_response(req, resp)
        raw: Any = resp
        if "content-encoding" in resp.headers:  # urllib3 decompresses
            pieces: Any = _Pieces(resp)
            raw = urllib3.HTTPResponse(pieces, resp.headers, preload_content=False)
        return _Response(req, resp, raw)

    def close(self) -> None:
        """Close all idle connections."""
        super().close()
        for pool in self._pools.values():
            pool.close()


class _Response(requests.Response):
    """A response as requests has it, without the cookie jar, which is most of its cost and is never read."""

    cookies = RequestsCookieJar()

    def __init__(self, request: requests.PreparedRequest, head: "Body", raw: Any) -> None:
        self._content = False  # type: ignore[assignment] # as requests says that it was not read
        self._content_consumed = False
        self._next = None
        self.status_code = head.status
        self.reason = head.reason
        self.headers = _Headers(head.headers)  # type: ignore[assignment] # it is used like one of requests' own
        self.raw = raw
        self.url = request.url or ""
        self.encoding = None
        self.history = []
        self.request = request


class _Headers(dict[str, str]):
    """Headers by lower-case name, looked up in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header's value, `default` if it is missing."""
        return super().get(name.lower(), default)


class _Target(msgspec.Struct, frozen=True):
    """The server and path of a URL. `path` includes the query."""

    origin: Origin
    path: str


@lru_cache(256)
def _target(url: str) -> _Target:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise requests.exceptions.InvalidURL(url)
    name = parts.netloc.rpartition("@")[2]
    origin = Origin(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80), name)
    return _Target(origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _encode(method: str, path: str, host: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *[f"{name}: {value}" for name, value in headers.items()]]
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise ValueError("a line end in a header")
    return head.encode("latin-1") + b"\r\n\r\n" + body


class Body:
    """One response: its head is read first, then its body, with the transfer coding removed.

    httptools fills it by callbacks. If it was read to its end, its connection is given back, provided it is trusted.
    """

    def __init__(self, connection: "Connection", give_back: Callable[["Connection"], None]) -> None:
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._give_back = give_back
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # httptools calls it with each piece of the body
        self._parser = httptools.HttpResponseParser(self)
        # Some servers send Content-Length beside chunks, which is invalid: their connection is not reused. Some old
        # servers write blanks after a chunk's size.
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True, lenient_spaces_after_chunk_size=True)
        self._number_of_headers = 0
        self._interim = 0
        self._complete = False
        self._reusable = False
        self.trusted = True
        self.closed = False
        self._broken: Exception | None = None
        self._on_bytes: Callable[[bytes], bool] | None = None
        self._fed = False  # the bytes that `receive` returns next were already parsed
        self._overhead = 0  # bytes of chunk heads and trailers since the last piece

    def read_head(self) -> None:
        """Read until the head is complete. Raises OSError, or HTTPException if it is not HTTP."""
        size = 0
        while not self.status:
            data = self._connection.receive(LARGE_READ)  # a short response arrives together with its head
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed before its answer")
            size += len(data)
            self._feed(data)
            # A broken body is reported by read1, not here.
            if not self.status and (self._broken or size > _MOST_HEAD_BYTES):
                raise HTTPException("no HTTP") from self._broken

    def read1(self, _amount: int = -1, *, decode_content: bool = False) -> bytes:  # noqa: ARG002 - as urllib3 has it
        """Return the available part of the body; wait if there is none. Returns b'' at its end.

        Raises OSError, or ValueError if the body is malformed.
        """
        pieces = self._pieces
        if not pieces and not self._complete:
            self._await_pieces()
            pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._complete:
            self.close()
        return data

    def read_piece(self) -> bytes:
        """Like `read1`, but return the pieces of one read one by one."""
        self._await_pieces()
        if self._complete and len(self._pieces) <= 1:
            self.close()
        return self._pieces.pop(0) if self._pieces else b""

    def offer(self, on_bytes: Callable[[bytes], bool]) -> None:
        """Call `on_bytes` in the hub with the body bytes of each read, before the waiting greenlet is woken.

        It never gets the end of the body. If it returns False, the bytes are left to `read1`.
        """
        if not self.closed:  # else the connection may serve another request
            self._on_bytes = on_bytes
            self._connection.offer(self._take)

    def _take(self, data: bytes) -> bool:
        """Return whether `on_bytes` has accepted all body bytes of `data`."""
        try:  # as `_feed`, inlined: it saves a call per token
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(error)
        self._fed = True
        pieces = self._pieces
        if self._on_bytes is None or not pieces or self._complete or self._broken:
            return False
        if not self._on_bytes(pieces[0] if len(pieces) == 1 else b"".join(pieces)):
            return False
        pieces.clear()
        self._fed = False
        self._overhead = 0
        return True

    def _await_pieces(self) -> None:
        self._overhead = 0
        while not self._pieces and not self._complete:
            if self._broken or self._overhead > _MOST_HEAD_BYTES:
                raise ValueError("broken chunks") from self._broken
            data = self._connection.receive()
            if data:
                self._overhead += len(data)
                if not self._fed:
                    self._feed(data)
                self._fed = False
            elif self._ends_with_its_connection():
                self._complete = True
            else:
                raise ConnectionResetError(errno.ECONNRESET, "closed in its body")

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(error)

    def _break(self, error: Exception) -> None:
        self._broken, self._reusable = error, False

    @property
    def at_end(self) -> bool:
        """Whether the whole body has been returned."""
        return self._complete and not self._pieces

    def _ends_with_its_connection(self) -> bool:
        return not self._is_chunked() and "content-length" not in self.headers

    def _is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower().rpartition(",")[2].strip() == "chunked"

    def close(self) -> None:
        """Give the connection back if the response was read to its end, else close it."""
        if self.closed:
            return
        self.closed = True
        if self._on_bytes:
            self._connection.offer(None)
            self._on_bytes = None
        del self._parser  # it refers to us: only the garbage collector would free the cycle
        if self._reusable:
            self._give_back(self._connection)
        else:
            self._connection.close()

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """Do not reuse the connection if a second response begins behind the first: it was not requested."""
        if self._complete:
            self._reusable = False

    def on_status(self, status: bytes) -> None:
        """Store the reason."""
        if not self.status:
            self.reason = status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header. Values of a repeated header are joined by commas; trailers are ignored."""
        if self.status:
            return
        self._number_of_headers += 1
        if self._number_of_headers > _MOST_HEADERS or len(value) > _LONGEST_HEADER:
            raise ValueError("too many headers")
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """Store the status; skip an interim response."""
        status = self._parser.get_status_code()
        if self._complete:
            return
        if status < 100:
            raise ValueError("no status")
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > _MOST_INTERIM_HEADS:
                raise ValueError("not requested")
            self.headers.clear()
            return
        if "transfer-encoding" in self.headers and not self._is_chunked() and "content-length" in self.headers:
            raise ValueError("ambiguous length")
        self.status = status

    def on_message_complete(self) -> None:
        """Mark the response as complete, unless it is an interim one."""
        if self.status and not self._complete:
            self._complete = True
            self._pieces = self._pieces[:]  # bytes after the end do not belong to the body
            ambiguous_length = "transfer-encoding" in self.headers and "content-length" in self.headers
            self._reusable = self.trusted and self._parser.should_keep_alive() and not ambiguous_length


class _Pieces:
    """A body as urllib3 reads it to decompress it: an error must not discard the pieces before it."""

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def closed(self) -> bool:
        return self._body.closed and self._body.at_end

    def read1(self, _amount: int = -1) -> bytes:
        return self._body.read_piece()

    read = read1  # urllib3 looks for this name

    def close(self) -> None:
        self._body.close()


class _Server(Connections):
    """An origin in the form that requests' adapter needs: an object that opens URLs."""

    def urlopen(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], **_rest: Any) -> Body:
        """Return the response with its body unread. The name and the arguments are urllib3's.

        Raises as `connecting` does, OSError if the connection broke, HTTPException if the response is not HTTP, and
        ValueError if the request is invalid.
        """
        if self.proxy and self.origin.scheme == "http":  # a tunnel would pass these headers on to the upstream
            headers = {**headers, **self.proxy.headers}
        request = _encode(method, url, self.origin.name, headers, body or b"")
        connection = self.take()
        answer = Body(connection, self.put)
        try:
            _exchange(connection, request, answer)
        except BaseException:  # also when the greenlet is killed: it is raised again
            answer.close()
            raise
        return answer


def _exchange(connection: Connection, request: bytes, answer: Body) -> None:
    try:
        connection.send(request)
    except OSError as error:
        # A server that refuses a long body may answer without reading it, then close: its response can still be read.
        answer.trusted = False
        try:
            answer.read_head()
        except (OSError, HTTPException):
            raise error from None
    else:
        answer.read_head()
