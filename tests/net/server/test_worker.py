"""gunicorn's worker with our manners. What it does under gunicorn is in tests/live."""

import contextlib
import errno
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event
from gunicorn.config import Config
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders
from gunicorn.http.wsgi import WSGIErrorsWrapper
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.ggevent import GeventWorker

from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.net.server.client_socket import ClientSocket
from gpt_oss_proxy.net.server.worker import Worker
from tests.net.server.served import PEER, SERVER, bodies, tell

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"


class Drained:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.draining = False
        self.lends = False

    def drain(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.draining = True


class Application:
    """What gunicorn loads: a WSGI application, and more that the worker asks of it."""

    write_seconds = 5.0

    def __init__(self) -> None:
        self.dispatcher = Drained()
        self.counted = 0
        self.metrics = SimpleNamespace(count=self._count)
        self.serve: Callable[[dict[str, Any], Any], Iterable[bytes]] = tell

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return self.serve(environ, start_response)

    def render_error(self, error: GatewayError, _path: str) -> bytes:
        return error_body(error)

    def _count(self) -> None:
        self.counted += 1


class Listener:
    """A socket that listens, until it is closed."""

    def getsockname(self) -> tuple[str, int]:
        return SERVER


LISTENER = Listener()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that no arbiter has started."""
    worker = Worker.__new__(Worker)
    worker.log = logging.getLogger("tests.worker")
    worker.alive = True
    worker.cfg = Config()
    worker.cfg.set("graceful_timeout", 30)
    worker.cfg.set("keepalive", 20)
    worker.tmp = SimpleNamespace(notify=lambda: None)
    worker.ppid = os.getppid()
    worker.sockets = [LISTENER]
    worker.wsgi = Application()
    monkeypatch.setattr(GeventWorker, "patch", lambda worker: None)
    worker.patch()
    return worker


def answer(worker: Worker, error: BaseException) -> tuple[str, dict[str, str], Any]:
    ours, clients = socket.socketpair()
    with ours, clients:
        worker.handle_error(None, ours, ("127.0.0.1", 1), error)
        ours.close()
        head, body = clients.makefile("rb").read().split(b"\r\n\r\n", 1)
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers.pop("Content-Length") == str(len(body))
    assert headers.pop("x-request-id").startswith("req_")
    assert (headers.pop("X-Content-Type-Options"), headers.pop("Cache-Control")) == ("nosniff", "no-store")
    return status, headers, json.loads(body)


@pytest.mark.parametrize("error", [InvalidRequestLine("<script>"), LimitRequestHeaders("limit")])
def test_what_is_not_http_is_answered_in_openais_shape(worker: Worker, error: Exception) -> None:
    assert answer(worker, error) == (
        "HTTP/1.1 400 Bad Request",
        {"Connection": "close", "Content-Type": "application/json"},
        {
            "error": {
                "message": "This is not a valid HTTP/1.1 request.",
                "type": "invalid_request_error",
                "param": None,
                "code": "invalid_http",
            }
        },
    )


def test_anything_else_is_an_internal_error_whose_details_only_the_log_has(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    status, headers, body = answer(worker, ValueError("secret"))
    assert (status, headers["Content-Type"]) == ("HTTP/1.1 500 Internal Server Error", "application/json")
    assert body["error"]["code"] == "internal_error"
    assert "secret" not in json.dumps(body)
    assert "secret" in caplog.text


def test_a_client_that_is_gone_is_not_answered(worker: Worker) -> None:
    ours, clients = socket.socketpair()
    clients.close()
    with ours:
        worker.handle_error(None, ours, None, InvalidRequestLine("x"))


@pytest.mark.parametrize(("graceful_seconds", "drain_seconds"), [(30, 28), (2, 0), (1, 0)])
def test_at_term_answers_may_finish_until_shortly_before_gunicorn_would_cut_them(
    worker: Worker, graceful_seconds: int, drain_seconds: float
) -> None:
    worker.cfg.set("graceful_timeout", graceful_seconds)
    worker.handle_exit(15, None)
    assert worker.alive is False
    assert worker.wsgi.dispatcher.seconds == []  # it still listens, so it still works
    for _ in range(3):
        worker.notify()
    assert worker.wsgi.dispatcher.seconds == [drain_seconds]


def test_at_ctrl_c_answers_end_now(worker: Worker) -> None:
    worker.handle_quit(2, None)
    assert worker.alive is False
    assert worker.wsgi.dispatcher.seconds == [0]
    worker.notify()
    assert worker.wsgi.dispatcher.seconds == [0]


@pytest.mark.parametrize("error", [None, SystemExit])
def test_what_was_not_counted_yet_is_counted_at_the_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | None
) -> None:
    def run(_worker: Worker) -> None:
        if error:
            raise error

    monkeypatch.setattr(GeventWorker, "run", run)
    monkeypatch.setattr(gevent.get_hub(), "handle_error", gevent.get_hub().handle_error)
    with pytest.raises(error) if error else contextlib.nullcontext():
        worker.run()
    assert worker.wsgi.counted == 1


class Client:
    """The other end of a connection that a worker serves."""

    def __init__(self, worker: Worker) -> None:
        ours, self.sock = gevent.socket.socketpair()
        self.serving = gevent.spawn(worker.handle, LISTENER, ours, PEER)
        gevent.sleep(0)

    def send(self, data: bytes) -> "Client":
        self.sock.sendall(data)
        return self

    def rest(self) -> bytes:
        """Return all that comes until the connection is closed; it must be soon, and with no error but for the log."""
        with self.sock, gevent.Timeout(5):
            received = b"".join(iter(lambda: self.sock.recv(65536), b""))
            self.serving.get()
        return received


def test_requests_are_answered_by_the_application_until_their_client_leaves(worker: Worker) -> None:
    client = Client(worker).send(GET).send(GET)
    client.sock.shutdown(socket.SHUT_WR)
    assert bodies(client.rest()) == [b"GET /a "] * 2


def test_a_plain_request_has_the_environment_that_gunicorn_would_have_made(worker: Worker) -> None:
    kept: list[dict[str, Any]] = []

    def keep(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ.pop("wsgi.input").read()
        kept.append({**environ, "body": body})
        return tell({**environ, "wsgi.input": SimpleNamespace(read=lambda: b"")}, start_response)

    worker.wsgi.serve = keep
    request = b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n%b\r\nabc"
    for odd in (b"", b"X-Odd: 1\r\nX-Odd: 1\r\n"):  # a header that comes twice is left to gunicorn
        assert bodies(Client(worker).send(request % odd).rest()) == [b"POST /a "]
    plain, others = kept
    for key, kind in {"gunicorn.socket": ClientSocket, "wsgi.errors": WSGIErrorsWrapper}.items():
        assert [type(environ.pop(key)) for environ in kept] == [kind, kind]
    assert others.pop("wsgi.early_hints")
    assert others.pop("HTTP_X_ODD") == "1,1"
    assert plain == others


@pytest.mark.parametrize(
    ("server", "peer", "expected"),
    [
        (SERVER, PEER, {"SERVER_NAME": SERVER[0], "SERVER_PORT": str(SERVER[1]), "REMOTE_PORT": str(PEER[1])}),
        (("::1", 80, 0, 0), ("::2", 1, 0, 0), {"SERVER_NAME": "::1", "SERVER_PORT": "80", "REMOTE_ADDR": "::2"}),
        ("/run/s", "", {"SERVER_NAME": "/run/s", "SERVER_PORT": "", "REMOTE_ADDR": "", "REMOTE_PORT": ""}),
    ],
)
def test_addresses_of_every_family_are_told(worker: Worker, server: Any, peer: Any, expected: dict[str, str]) -> None:
    environ = worker._environ(object(), peer, server)
    assert {key: environ[key] for key in expected} == expected


def test_what_is_no_http_is_answered_and_ends_the_connection(worker: Worker) -> None:
    received = Client(worker).send(GET + b"<script>\r\n\r\n" + GET).rest()
    first, second = bodies(received)
    assert (first, json.loads(second)["error"]["code"]) == (b"GET /a ", "invalid_http")


def test_a_bug_of_the_application_is_answered_and_ends_the_connection(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.wsgi.serve = lambda environ, start_response: [][1]
    (body,) = bodies(Client(worker).send(GET + GET).rest())
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [IndexError]


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (IndexError("a bug"), [IndexError]),
        (BrokenPipeError(errno.EPIPE, "the client is gone"), []),
        (ConnectionResetError(errno.ECONNRESET, "reset"), []),
        (OSError(errno.ENOTCONN, "not connected"), []),
        (OSError(errno.EIO, "an odd one"), [OSError]),
        (gevent.GreenletExit(), []),
        (SystemExit(), []),
    ],
)
def test_what_fails_in_the_middle_of_an_answer_ends_the_connection_without_its_last_chunk(
    worker: Worker, caplog: pytest.LogCaptureFixture, error: BaseException, logged: list[type]
) -> None:
    def half(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        raise error

    worker.wsgi.serve = half
    assert Client(worker).send(GET + GET).rest().endswith(b"\r\n\r\n1\r\na\r\n")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == logged


def test_a_connection_begins_even_while_its_listener_is_closed(worker: Worker) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    name, port = listener.getsockname()
    worker.sockets = [listener]
    worker.patch()
    listener.close()

    def tell_name(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return tell({**environ, "PATH_INFO": f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"}, start_response)

    worker.wsgi.serve = tell_name
    ours, clients = gevent.socket.socketpair()
    with clients:
        clients.sendall(GET)
        clients.shutdown(socket.SHUT_WR)
        worker.handle(listener, ours, PEER)
        assert bodies(clients.recv(65536)) == [f"GET {name}:{port} ".encode()]


def idle(client: Client) -> bool:
    """Return whether the connection is open, once all that can happen to it has happened."""
    gevent.sleep(0.01)
    return not client.serving.dead


def test_while_draining_a_connection_without_a_request_is_closed_and_a_request_is_served(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_oss_proxy.net.server.worker._FRESH_SECONDS", 0)
    answered = Event()

    def slow(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answered.wait()
        return tell(environ, start_response)

    worker.wsgi.serve = slow
    fresh, busy, half = Client(worker), Client(worker).send(GET), Client(worker).send(GET[:9])
    assert [idle(client) for client in (fresh, busy, half)] == [True] * 3
    worker.notify()
    assert [idle(client) for client in (fresh, busy, half)] == [True] * 3
    worker.alive = False
    for _ in range(2):
        worker.notify()
        assert [idle(client) for client in (fresh, busy, half)] == [False, True, False]
    assert (fresh.rest(), half.rest()) == (b"", b"")
    answered.set()
    assert idle(busy)
    worker.notify()
    assert bodies(busy.rest()) == [b"GET /a "]
    assert (worker._waits, worker.wsgi.dispatcher.seconds) == ({}, [28])


def test_while_draining_who_has_just_come_may_still_ask(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_oss_proxy.net.server.worker._FRESH_SECONDS", 0.05)
    fresh, late = Client(worker), Client(worker)
    worker.alive = False
    worker.notify()
    assert [idle(fresh), idle(late)] == [True, True]
    assert bodies(fresh.send(GET).rest()) == [b"GET /a "]
    gevent.sleep(0.06)
    worker.notify()
    assert (idle(late), late.rest()) == (False, b"")


def test_a_request_that_has_arrived_unread_is_no_idle_connection(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_oss_proxy.net.server.worker._FRESH_SECONDS", 0)
    client = Client(worker)
    assert idle(client)
    worker.alive = False
    client.send(GET)  # the socket pair has room: nobody reads meanwhile
    worker._end_waits()  # as the hub would call it before it looks at the sockets
    assert bodies(client.rest()) == [b"GET /a "]


def test_an_answer_that_begins_while_draining_is_the_last_of_its_connection(worker: Worker) -> None:
    client = Client(worker)
    worker.alive = False
    received = client.send(GET + GET).rest()
    assert (bodies(received), b"Connection: close\r\n" in received) == ([b"GET /a "], True)


def test_a_connection_without_a_request_is_closed_in_time(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed)
    for module in ("worker", "connection"):
        monkeypatch.setattr(f"gpt_oss_proxy.net.server.{module}.time", clock)
    fresh, half = Client(worker), Client(worker).send(GET[:9])
    kept = Client(worker).send(GET)
    open_after = {}
    for seconds in (0.0, 19.0, 21.0):
        passed = seconds
        worker.notify()
        open_after[seconds] = [idle(client) for client in (fresh, half, kept)]
        if seconds == 19:
            kept.send(GET)
            idle(kept)
    assert open_after == {0.0: [True] * 3, 19.0: [True] * 3, 21.0: [False, False, True]}
    passed = 40.0
    worker.notify()
    assert bodies(kept.rest()) == [b"GET /a "] * 2
    assert (fresh.rest(), half.rest(), worker._waits) == (b"", b"", {})


def test_a_connection_that_is_answered_has_all_time(worker: Worker) -> None:
    worker.cfg.set("keepalive", 0)
    answered = Event()

    def slow(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answered.wait()
        return tell(environ, start_response)

    worker.wsgi.serve = slow
    client = Client(worker).send(GET)
    assert idle(client)
    worker.notify()
    assert idle(client)
    answered.set()
    assert idle(client)
    worker.notify()
    assert bodies(client.rest()) == [b"GET /a "]


def test_it_is_gunicorns_worker() -> None:
    assert issubclass(Worker, BaseWorker)


def test_to_be_out_of_descriptors_is_told_in_a_line_now_and_then(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    bugs: list[Any] = []

    def otherwise(*error: Any) -> None:
        bugs.append(error[2])

    for _ in range(3):
        worker._hub_error(otherwise, None, OSError, OSError(errno.EMFILE, "Too many open files"), None)
    bug = OSError(errno.EIO, "Input/output error")
    worker._hub_error(otherwise, None, OSError, bug, None)
    assert [message.split(":")[0] for message in caplog.messages] == ["Out of file descriptors"]
    assert bugs == [bug]


def test_a_body_that_is_not_read_to_its_end_ends_the_connection(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_oss_proxy.net.server.connection._REST_SECONDS", 0.02)
    worker.wsgi.serve = lambda environ, start_response: tell(
        {**environ, "wsgi.input": SimpleNamespace(read=lambda: b"")}, start_response
    )
    client = Client(worker).send(b"POST /a HTTP/1.1\r\nContent-Length: 99\r\n\r\nGET /secret")
    assert bodies(client.rest()) == [b"POST /a "]


def test_a_client_that_floods_lets_others_run(worker: Worker) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0)

    def swallow(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"]
        while body.read(1000):
            time.sleep(0.00002)  # what it costs to look at it
        return tell(environ, start_response)

    worker.wsgi.serve = swallow
    other = gevent.spawn(tick)
    client = Client(worker).send(b"POST /a HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    assert bodies(client.rest()) == [b"POST /a "]
    other.kill()
    assert ticks > 10


def test_a_client_that_does_not_read_is_like_one_that_has_gone(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    def answer_much(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 1_000_000
        except GeneratorExit:
            ended.append("closed")
            raise

    worker.wsgi.write_seconds = 0.05
    worker.wsgi.serve = answer_much
    client = Client(worker).send(GET)
    with client.sock, gevent.Timeout(5):
        client.serving.get()
    assert (ended, caplog.messages) == (["closed"], [])
