"""gunicorn's gevent worker with JSON errors in place of HTML pages, draining, and the fix for a race of gunicorn's."""

import contextlib
import errno
import os
import select
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import greenlet
from gevent import monkey
from gunicorn.http.errors import ParseException
from gunicorn.http.wsgi import base_environ
from gunicorn.workers.ggevent import GeventWorker

from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidRequest
from gpt_oss_proxy.net.server.client_socket import ClientSocket
from gpt_oss_proxy.net.server.connection import BrokenAnswer, Connection, Wait

_REPORT_AGAIN_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)
_FRESH_SECONDS = 0.5
_LAST_WORDS_SECONDS = 2.0  # reserved for sending every client the error that ends its answer

# gevent's own poll would switch to other greenlets; the original polls without waiting.
_poll = monkey.get_original("select", "poll")


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn has no types
    """See the module. Configured in gunicorn.conf.py."""

    def patch(self) -> None:
        """Store the listeners' names while they are open."""
        super().patch()
        # gunicorn asks a listener for its name when a connection begins. After a reload or TERM the listener may be
        # closed, and the connection would be reset (gunicorn issues 712 and 1877).
        self._names = {id(listener): listener.getsockname() for listener in self.sockets}
        self._reported_at = -_REPORT_AGAIN_SECONDS
        self._waits: dict[greenlet.greenlet, Wait] = {}  # connections between two requests

    def run(self) -> None:
        """Serve until stopped. Running out of descriptors is logged without a traceback: it is no bug."""
        hub = gevent.get_hub()
        hub.handle_error = partial(self._hub_error, hub.handle_error)  # type: ignore[method-assign] # no other hook
        try:
            super().run()
            # gunicorn has waited for its own connections; it does not know the retries in other workers that read from
            # us.
            while self.wsgi.dispatcher.lends and self.ppid == os.getppid():
                self.notify()
                gevent.sleep(_LOOK_SECONDS)
        finally:
            self.wsgi.metrics.count()  # what has not been counted yet

    def _hub_error(self, otherwise: Callable[..., None], context: Any, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            otherwise(context, kind, error, trace)
        elif time.monotonic() - self._reported_at > _REPORT_AGAIN_SECONDS:
            self._reported_at = time.monotonic()
            self.log.error("Out of file descriptors: new connections have to wait. Raise the limit (ulimit -n).")

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection."""
        sock = ClientSocket.of(client, self.wsgi.write_seconds)
        server = self._names[id(listener)]
        connection = Connection(
            sock,
            self.wsgi,
            cfg=self.cfg,
            peer=addr,
            server=server,
            environ=self._environ(sock, addr, server),
            waits=self._waits,
        )
        try:
            connection.serve(lambda: self.alive)
        except BrokenAnswer as error:
            self.log.error("Error handling a request", exc_info=error.__cause__)
        except OSError as error:
            if error.errno not in _GONE:
                self.log.exception("Socket error processing a request")
        except (_WaitOver, gevent.GreenletExit, SystemExit):
            pass
        except Exception as error:  # noqa: BLE001 - the border: a bug of ours, or what is no HTTP
            self.handle_error(None, sock, addr, error)
        finally:
            sock.close()

    def _environ(self, sock: ClientSocket, addr: Any, server: Any) -> dict[str, Any]:
        """Return what gunicorn would put into the environment of each plain request over a connection."""
        name, port = server[:2] if isinstance(server, tuple) else (server, "")
        return {
            **base_environ(self.cfg),
            "wsgi.multithread": True,
            "wsgi.url_scheme": "http",
            "gunicorn.socket": sock,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": name,
            "SERVER_PORT": str(port),
            "SCRIPT_NAME": "",
            "REMOTE_ADDR": addr[0] if isinstance(addr, tuple) else str(addr),
            "REMOTE_PORT": str(addr[1]) if isinstance(addr, tuple) else "",
        }

    def notify(self) -> None:
        """Send the heartbeat, as gunicorn does each second; close connections that waited too long for a request."""
        super().notify()
        if not self.alive and not self.wsgi.dispatcher.draining:  # gunicorn has closed the listeners by now
            # At the end of its graceful time it kills what still runs, and clients would get no error.
            self.wsgi.dispatcher.drain(max(self.cfg.graceful_timeout - _LAST_WORDS_SECONDS, 0))
        if self._waits:
            gevent.get_hub().loop.run_callback(self._end_waits)

    def _end_waits(self) -> None:
        # Close them soon while draining: gunicorn would wait for them until the end of its graceful time, at each
        # reload. But a client that has just connected is about to send a request.
        oldest = time.monotonic() - (self.cfg.keepalive if self.alive else _FRESH_SECONDS)
        over = [(connection, wait) for connection, wait in self._waits.items() if wait.since <= oldest]
        poll = _poll()
        for _, wait in over:
            poll.register(wait.sock.descriptor, select.POLLIN)
        asking = {descriptor for descriptor, _ in poll.poll(0)} if over else ()
        for connection, wait in over:
            # Data that has arrived is a request, even if it has not been read yet.
            if wait.sock.descriptor not in asking and not wait.sock.holds:
                connection.throw(_WaitOver)  # at once: only the hub may throw

    def handle_quit(self, sig: int, frame: Any) -> None:
        """On INT or QUIT (Ctrl-C): end now, with an error to the clients; gunicorn's own handler leaves a traceback."""
        self.wsgi.dispatcher.drain(0)
        self.handle_exit(sig, frame)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:  # noqa: ARG002 - gunicorn's
        """Answer invalid HTTP with an error in the form of the client API that the path belongs to."""
        if isinstance(exc, ParseException):
            error: GatewayError = InvalidRequest("This is not a valid HTTP/1.1 request.", code="invalid_http")
            self.log.info("Invalid request: %s", exc)
        else:
            error = InternalError()
            self.log.error("Error handling a request", exc_info=exc)
        body = self.wsgi.render_error(error, getattr(req, "path", None) or "")
        reason = "Bad Request" if error.status < 500 else "Internal Server Error"
        head = (
            f"HTTP/1.1 {error.status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n"
            f"x-request-id: req_{uuid.uuid4().hex}\r\n\r\n"
        )
        with contextlib.suppress(OSError):  # the client may be gone
            client.sendall(head.encode() + body)


class _WaitOver(BaseException):
    """Ends a connection without an answer, between two requests."""
