"""gunicorn's gevent worker, with JSON where it would send HTML pages, draining, and without a race of its own."""

import contextlib
import errno
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gevent
import gevent.socket
import greenlet
from gunicorn.http.errors import ParseException
from gunicorn.workers.ggevent import GeventWorker

from gpt_oss_proxy.apis.base import render_error
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest

_TELL_AGAIN_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_REST_SECONDS = 2.0
_REST_BYTES = 1024 * 1024
_LAST_WORDS_SECONDS = 2.0  # what it may take to tell all clients that their answers are cut


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn has no types
    """See the module. Configured in gunicorn.conf.py."""

    def patch(self) -> None:
        """Remember the listeners' names while they are open."""
        super().patch()
        self._listeners = {id(listener): _Listener(listener) for listener in self.sockets}
        self._told = -_TELL_AGAIN_SECONDS
        self._waits: dict[greenlet.greenlet, gevent.Timeout] = {}  # connections without a request

    def run(self) -> None:
        """Serve until told to stop; to be out of descriptors is no bug, so it is told without a traceback."""
        hub = gevent.get_hub()
        hub.handle_error = partial(self._hub_error, hub.handle_error)  # type: ignore[method-assign] # no other hook
        super().run()
        # gunicorn has waited for its own connections; of those who read from other workers it knows nothing.
        while self.wsgi.dispatcher.lends and self.ppid == os.getppid():
            self.notify()
            gevent.sleep(_LOOK_SECONDS)

    def _hub_error(self, otherwise: Callable[..., None], context: Any, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            otherwise(context, kind, error, trace)
        elif time.monotonic() - self._told > _TELL_AGAIN_SECONDS:
            self._told = time.monotonic()
            self.log.error("Out of file descriptors: new connections have to wait. Raise the limit (ulimit -n).")

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection."""
        fair = _FairSocket(client.family, client.type, client.proto, client.detach())
        fair.write_seconds = self.wsgi.write_seconds
        super().handle(self._listeners[id(listener)], fair, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Serve one request. Ends the connection, with StopIteration, if nobody knows where the next one begins."""
        super().handle_request(listener_name, req, sock, addr)
        if not _is_read(req.body):
            raise StopIteration

    @contextlib.contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Limit a connection's wait for its next request; a wait that is over ends the connection without a word."""
        connection = gevent.getcurrent()
        with super().timeout_ctx() as limit:
            self._waits[connection] = limit
            try:
                yield
            finally:
                del self._waits[connection]

    def notify(self) -> None:
        """Beat the heart, as gunicorn does each second; while draining, close the connections without a request."""
        super().notify()
        if not self.alive:  # gunicorn has closed the listeners by now
            if not self.wsgi.dispatcher.draining:
                # It kills what still runs at the end of its graceful time, without a word to the clients.
                self.wsgi.dispatcher.drain(max(self.cfg.graceful_timeout - _LAST_WORDS_SECONDS, 0))
            # gunicorn itself would wait for them to the end of its graceful time, behind nginx at each reload.
            gevent.get_hub().loop.run_callback(self._end_waits)

    def _end_waits(self) -> None:
        for connection, limit in list(self._waits.items()):
            connection.throw(limit)  # at once, as only the hub may: a request that has come meanwhile is not hit

    def handle_quit(self, sig: int, frame: Any) -> None:
        """On INT or QUIT (Ctrl-C): end now, with a word to the clients; gunicorn's own way leaves a traceback."""
        self.wsgi.dispatcher.drain(0)
        self.handle_exit(sig, frame)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:  # noqa: ARG002 - gunicorn's
        """Answer what is not even HTTP, in OpenAI's shape."""
        if isinstance(exc, ParseException):
            error: GatewayError = InvalidRequest("This is not a valid HTTP/1.1 request.", code="invalid_http")
            self.log.info("Invalid request: %s", exc)
        else:
            error = InternalError()
            self.log.error("Error handling a request", exc_info=exc)
        body = render_error(error)
        reason = "Bad Request" if error.status < 500 else "Internal Server Error"
        head = (
            f"HTTP/1.1 {error.status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
            f"x-request-id: req_{uuid.uuid4().hex}\r\n\r\n"
        )
        with contextlib.suppress(OSError):  # the client may be gone
            client.sendall(head.encode() + body)


def _is_read(body: Any) -> bool:
    """Return whether a body is at its end; what the application left is read for a while, then given up.

    gunicorn itself would read it to its end, however long that is. A client that still sends must not be cut off at
    once: it would never see the answer that refuses its body.
    """
    if getattr(getattr(body, "reader", None), "length", None) == 0:  # as nearly always: its Content-Length was read
        return not body.failed
    with contextlib.suppress(OSError, ParseException), gevent.Timeout(_REST_SECONDS, False):  # type: ignore[arg-type]
        while not body.failed:
            if not body.read(_REST_BYTES):
                return not body.failed
    return False


class _FairSocket(gevent.socket.socket):
    """A client's connection, read fairly: others run before each read, however fast it sends.

    Written to in bounded time: a client that reads nothing must not keep its place for ever.
    """

    write_seconds = 600.0
    _readable: Any = None

    def recv(self, *args: Any) -> bytes:
        """Read, after waiting in the hub: gevent's own recv lets no one else run for as long as there is data."""
        hub = gevent.get_hub()
        if self._readable is None:
            self._readable = hub.loop.io(self.fileno(), 1)
        hub.wait(self._readable)
        return super().recv(*args)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write everything. Raises BrokenPipeError, as for a client that has gone, if it takes too long."""
        try:
            sent = os.write(self.fileno(), data)  # mostly that is all; gevent would first ask for the buffer's size
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            with gevent.Timeout(self.write_seconds, BrokenPipeError(errno.EPIPE, "the client does not read")):
                super().sendall(memoryview(data)[sent:], flags)

    def close(self) -> None:
        """Close it."""
        if self._readable is not None:
            self._readable.close()
            self._readable = None
        super().close()


class _Listener:
    """The name of a listening socket, known even when it is closed.

    gunicorn asks the listener for it when a connection begins; after a reload or TERM the listener may be closed, and
    the connection would be reset (gunicorn issues 712 and 1877).
    """

    def __init__(self, listener: socket.socket) -> None:
        self._name = listener.getsockname()

    def getsockname(self) -> Any:
        return self._name
