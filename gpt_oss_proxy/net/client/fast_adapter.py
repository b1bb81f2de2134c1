"""HTTP/1.1 over gevent's sockets and httptools' parser, as a transport adapter of requests.

What a read of the socket brings is handed on at once, however many chunks it has; urllib3 and http.client would hand on
one after the other. A wait for bytes comes before each read, so that all others who wait have their turn between two
reads, and no upstream can keep a worker to itself. Whatever it cannot do (client certificates, other rules for TLS than
its own) it leaves to the adapter that it extends.
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
_LONGEST_HEADER = 64 * 1024  # as http.client has it, like the next one
_MOST_HEADERS = 100
_MOST_INTERIM_HEADS = 8


class FastAdapter(StandardAdapter):
    """See the module. It stands where requests lets a subclass stand: below `send`, which tests may replace."""

    def __init__(self, connect_timeout_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(connect_timeout_seconds, tls)
        self._pools: dict[tuple[Origin, str | None], _Server] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool that the request goes to: ours, if it can do what is asked."""
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
        """Return the path and the query; what a proxy is asked for in the open is the whole URL."""
        return super().request_url(request, proxies) if proxies else _target(request.url or "").path

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return the answer's head; `raw` has its body."""
        if not isinstance(resp, Body):
            return super().build_response(req, resp)
        raw: Any = resp
        if "content-encoding" in resp.headers:  # whatever is compressed, urllib3 can undo
            pieces: Any = _Pieces(resp)
            raw = urllib3.HTTPResponse(pieces, resp.headers, preload_content=False)
        return _Response(req, resp, raw)

    def close(self) -> None:
        """Close all idle connections."""
        super().close()
        for pool in self._pools.values():
            pool.close()


class _Response(requests.Response):
    """An answer's head as requests has it, without what costs most of one: a jar for cookies that nobody takes."""

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
    """Headers by their names in lower case, found in any case."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return a header, `default` if it is not there."""
        return super().get(name.lower(), default)


class _Target(msgspec.Struct, frozen=True):
    """Where a URL leads. `path` has the query."""

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
    """One answer as it is read: its head first, then its body, the transfer coding undone.

    The callbacks of httptools fill it. An answer that was read to its end gives its connection back, if it is trusted.
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
        # A length beside chunks is nonsense that servers do send; its connection is not trusted with another answer.
        # Blanks behind a chunk's size are what some old servers write.
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True, lenient_spaces_after_chunk_size=True)
        self._number_of_headers = 0
        self._interim = 0
        self._complete = False
        self._reusable = False
        self.trusted = True
        self.closed = False
        self._broken: Exception | None = None
        self._taker: Callable[[bytes], bool] | None = None
        self._fed = False  # what comes next has been given to the parser
        self._overhead = 0  # bytes of chunk heads and trailers since the last piece

    def read_head(self) -> None:
        """Read until the head is there. Raises OSError, or HTTPException for what is no HTTP."""
        size = 0
        while not self.status:
            data = self._connection.receive(LARGE_READ)  # a short answer comes with its head
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "closed before its answer")
            size += len(data)
            self._feed(data)
            # If it is the body that is broken, whoever reads that is told.
            if not self.status and (self._broken or size > _MOST_HEAD_BYTES):
                raise HTTPException("no HTTP") from self._broken

    def read1(self, _amount: int = -1, *, decode_content: bool = False) -> bytes:  # noqa: ARG002 - as urllib3 has it
        """Return what is there of the body, after waiting for it if nothing is; b'' at its end.

        Raises OSError, or ValueError if it is broken.
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
        """Return the same, but what has come together piece by piece."""
        self._await_pieces()
        if self._complete and len(self._pieces) <= 1:
            self.close()
        return self._pieces.pop(0) if self._pieces else b""

    def offer(self, taker: Callable[[bytes], bool]) -> None:
        """Let this take what comes of the body, in the hub, before whoever waits for it.

        It is offered what has come with one read, never the end, and returns whether it has taken it.
        """
        if not self.closed:  # else its connection is somebody else's
            self._taker = taker
            self._connection.offer(self._take)

    def _take(self, data: bytes) -> bool:
        """Return whether the taker has taken all that these bytes bring."""
        try:  # as `_feed`, without a call a token
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._break(error)
        self._fed = True
        pieces = self._pieces
        if self._taker is None or not pieces or self._complete or self._broken:
            return False
        if not self._taker(pieces[0] if len(pieces) == 1 else b"".join(pieces)):
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
        """Whether all of it has been handed on."""
        return self._complete and not self._pieces

    def _ends_with_its_connection(self) -> bool:
        return not self._is_chunked() and "content-length" not in self.headers

    def _is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower().rpartition(",")[2].strip() == "chunked"

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else close it."""
        if self.closed:
            return
        self.closed = True
        if self._taker:
            self._connection.offer(None)
            self._taker = None
        del self._parser  # it holds us: together they would wait for the garbage collector
        if self._reusable:
            self._give_back(self._connection)
        else:
            self._connection.close()

    # httptools calls these.

    def on_message_begin(self) -> None:
        """A second answer begins behind the first: nobody asked for it."""
        if self._complete:
            self._reusable = False

    def on_status(self, status: bytes) -> None:
        """Take the reason."""
        if not self.status:
            self.reason = status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes twice is one with a comma, and trailers are nobody's business."""
        if self.status:
            return
        self._number_of_headers += 1
        if self._number_of_headers > _MOST_HEADERS or len(value) > _LONGEST_HEADER:
            raise ValueError("too many headers")
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """Take the status; an interim answer is passed over."""
        status = self._parser.get_status_code()
        if self._complete:
            return
        if status < 100:
            raise ValueError("no status")
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > _MOST_INTERIM_HEADS:
                raise ValueError("nobody asked for it")
            self.headers.clear()
            return
        if "transfer-encoding" in self.headers and not self._is_chunked() and "content-length" in self.headers:
            raise ValueError("nobody knows where it ends")
        self.status = status

    def on_message_complete(self) -> None:
        """The answer is there, unless it was an interim one."""
        if self.status and not self._complete:
            self._complete = True
            self._pieces = self._pieces[:]  # what comes now is no part of it
            twice_told = "transfer-encoding" in self.headers and "content-length" in self.headers
            self._reusable = self.trusted and self._parser.should_keep_alive() and not twice_told


class _Pieces:
    """A body as urllib3 reads it to undo a compression: what is broken must not lose what came before."""

    def __init__(self, body: Body) -> None:
        self._body = body

    @property
    def closed(self) -> bool:
        return self._body.closed and self._body.at_end

    def read1(self, _amount: int = -1) -> bytes:
        return self._body.read_piece()

    read = read1  # by it urllib3 knows what can be read

    def close(self) -> None:
        self._body.close()


class _Server(Connections):
    """An origin as requests' adapter sees it: something that opens URLs."""

    def urlopen(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], **_rest: Any) -> Body:
        """Return the answer, its body unread; the name and the arguments are urllib3's.

        Raises as `connecting` does, OSError if the connection broke, HTTPException for what is no HTTP, and ValueError
        for what is no request.
        """
        if self.proxy and self.origin.scheme == "http":  # through a tunnel they would reach the upstream
            headers = {**headers, **self.proxy.headers}
        request = _encode(method, url, self.origin.name, headers, body or b"")
        connection = self.take()
        answer = Body(connection, self.put)
        try:
            _exchange(connection, request, answer)
        except BaseException:  # killed, too: it is raised again
            answer.close()
            raise
        return answer


def _exchange(connection: Connection, request: bytes, answer: Body) -> None:
    try:
        connection.send(request)
    except OSError as error:
        # Who refuses a long body answers without reading it, and closes: the answer is there all the same.
        answer.trusted = False
        try:
            answer.read_head()
        except (OSError, HTTPException):
            raise error from None
    else:
        answer.read_head()
