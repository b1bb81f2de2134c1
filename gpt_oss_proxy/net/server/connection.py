"""A client's connection: reads requests one after the other, and answers each with the WSGI application."""

import contextlib
import io
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import gevent
import greenlet
from gunicorn import http
from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import ParseException
from gunicorn.http.message import _ip_in_allow_list
from gunicorn.http.unreader import SocketUnreader

from gpt_oss_proxy.net.server.answer import Answer
from gpt_oss_proxy.net.server.client_socket import ClientSocket
from gpt_oss_proxy.net.server.plain_request import read_plain

_READ_BYTES = 64 * 1024
_REST_SECONDS = 2.0
_REST_BYTES = 1024 * 1024
_A_MOMENT = 1e-6  # seconds; not 0: gevent would check timers and sockets only after fifty rounds

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Request(NamedTuple):
    """One request for the application. `body` is gunicorn's reader, None if the whole body has already arrived."""

    environ: dict[str, Any]
    version: tuple[int, int]
    keep_alive: bool
    body: Any


class Wait(NamedTuple):
    """Since when (in monotonic seconds) a connection waits for the client's next request, and its socket."""

    since: float
    sock: ClientSocket


class Connection:
    """Serves one client. It is in `waits` while it is between two requests."""

    def __init__(
        self,
        sock: ClientSocket,
        application: Application,
        *,
        cfg: Any,
        peer: Any,
        server: Any,
        environ: Mapping[str, Any],
        waits: dict[greenlet.greenlet, Wait],
    ) -> None:
        """`environ` is what all requests over this connection have in common."""
        self._sock = sock
        self._application = application
        self._cfg = cfg
        self._peer = peer
        self._server = server
        self._common = environ
        self._waits = waits
        self._schemes = _scheme_headers(cfg, peer)
        self._rest = b""  # bytes that were read behind the last request
        self._unreader: Any = None  # holds the rest, if it is not None

    def serve(self, may_go_on: Callable[[], bool]) -> None:
        """Answer requests until there are no more. Raises OSError, ParseException, and what the application raises."""
        while request := self._next_request():
            answer = Answer(
                self._sock,
                request.environ["REQUEST_METHOD"],
                request.version,
                keep_alive=request.keep_alive and may_go_on(),
            )
            try:
                self._answer(request.environ, answer)
            except OSError:
                raise
            except Exception as error:  # any error of the application: it is raised again
                if answer.begun:  # nothing may follow half an answer, not even an error
                    raise BrokenAnswer from error
                raise
            if not answer.keep_alive or not (request.body is None or is_read(request.body)):
                return
            if self._unreader:
                self._rest, self._unreader = self._unreader.take_buffered(), None
            if self._rest:
                gevent.sleep(_A_MOMENT)  # let others run before the next request, which has already arrived

    def _answer(self, environ: dict[str, Any], answer: Answer) -> None:
        pieces = self._application(environ, answer.start_response)
        try:
            if push := getattr(pieces, "push", None):  # not WSGI's, see blueprints/reply.py
                push(answer.write)
            else:
                for piece in pieces:
                    answer.write(piece)
            answer.close()
        except OSError:  # the client has gone
            raise
        except Exception:  # any error of the application: what it wrote before is still sent
            with contextlib.suppress(OSError):
                self._sock.flush()
            raise
        finally:
            if close := getattr(pieces, "close", None):
                close()

    def _next_request(self) -> Request | None:
        me = greenlet.getcurrent()
        self._waits[me] = Wait(time.monotonic(), self._sock)
        try:
            data = self._rest or self._sock.recv(_READ_BYTES)
            self._rest = b""
            if not data:
                return None
            return self._plain(data) or self._other(data)
        finally:
            del self._waits[me]

    def _plain(self, data: bytes) -> Request | None:
        plain = read_plain(data)
        if plain is None:
            return None
        environ = {**self._common, **plain.environ}
        is_secure = [environ[key] == secure for key, secure in self._schemes if key in environ]
        if len(is_secure) > 1:  # they might contradict each other
            return None
        if is_secure:
            environ["wsgi.url_scheme"] = "https" if is_secure[0] else "http"
        end = plain.size + plain.length
        body = None
        if end <= len(data):
            environ["wsgi.input"] = io.BytesIO(data[plain.size : end])
            self._rest = data[end:]
        else:
            self._unreader = SocketUnreader(self._sock)
            self._unreader.unread(data[plain.size :])
            body = environ["wsgi.input"] = Body(LengthReader(self._unreader, plain.length))
        return Request(environ, (1, 1), plain.keep_alive, body)

    def _other(self, data: bytes) -> Request | None:
        """Let gunicorn parse the request. Raises as it does."""
        parser = http.get_parser(self._cfg, self._sock, self._peer)
        parser.unreader.unread(data)
        try:
            found = next(parser)
        except (StopIteration, http.errors.NoMoreData):  # the client has left within the head
            return None
        self._unreader = parser.unreader
        _, environ = wsgi.create(found, self._sock, self._peer, self._server, self._cfg)
        environ["wsgi.multithread"] = True
        return Request(environ, found.version, not found.should_close(), found.body)


def _scheme_headers(cfg: Any, peer: Any) -> list[tuple[str, str]]:
    """Return (key, value) of the headers by which this peer may declare that its client used TLS (gunicorn's rule)."""
    if isinstance(peer, tuple) and not _ip_in_allow_list(
        peer[0], cfg.forwarded_allow_ips, cfg.forwarded_allow_networks()
    ):
        return []
    return [(f"HTTP_{name.replace('-', '_')}", value) for name, value in cfg.secure_scheme_headers.items()]


class BrokenAnswer(Exception):
    """The application failed in the middle of an answer: no error can be sent to the client any more."""


def is_read(body: Any) -> bool:
    """Return whether a body is at its end; what the application left unread is read for at most 2 seconds.

    gunicorn itself would read it to its end, however long that is. A client that is still sending must not be cut off
    at once: it would never see the answer that refuses its body.
    """
    if getattr(getattr(body, "reader", None), "length", None) == 0:  # the usual case: its Content-Length was read
        return not body.failed
    with contextlib.suppress(OSError, ParseException), gevent.Timeout(_REST_SECONDS, False):  # type: ignore[arg-type]
        while not body.failed:
            if not body.read(_REST_BYTES):
                return not body.failed
    return False
