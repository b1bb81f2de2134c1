"""gunicorn's worker with our manners. What it does under gunicorn is in tests/live."""

import contextlib
import errno
import json
import logging
import os
import socket
import time
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from gpt_oss_proxy.worker import Worker


class Drained:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.draining = False

    def drain(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.draining = True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that no arbiter has started."""
    worker = Worker.__new__(Worker)
    worker.log = logging.getLogger("tests.worker")
    worker.alive = True
    worker.cfg = SimpleNamespace(graceful_timeout=30, keepalive=20)
    worker.tmp = SimpleNamespace(notify=lambda: None)
    worker.ppid = os.getppid()
    worker.sockets = []
    worker.wsgi = SimpleNamespace(dispatcher=Drained(), write_seconds=600)
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
    worker.cfg.graceful_timeout = graceful_seconds
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


def test_a_connection_begins_even_while_its_listener_is_closed(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[Any] = []

    def serve(_worker: Worker, listener: Any, client: Any, _addr: object) -> None:
        names.append(listener.getsockname())
        client.close()

    monkeypatch.setattr(AsyncWorker, "handle", serve)
    listener = socket.create_server(("127.0.0.1", 0))
    name = listener.getsockname()
    worker.sockets = [listener]
    worker.patch()
    listener.close()
    ours, clients = socket.socketpair()
    with ours, clients:
        worker.handle(listener, ours, name)
    assert names == [name]


def connection(worker: Worker, told: list[str], answered: Event | None = None) -> None:
    """What gunicorn does with a connection: wait for a request within a limit, then serve it until it is answered."""
    request = False
    with worker.timeout_ctx():
        gevent.sleep(0 if answered else 20)
        request = True
    if request and answered:
        answered.wait()
        told.append("served")
    told.append("closed")


def test_while_draining_a_connection_without_a_request_is_closed_and_a_request_is_served(worker: Worker) -> None:
    told: list[str] = []
    answered = Event()
    busy = gevent.spawn(connection, worker, told, answered)
    idle = [gevent.spawn(connection, worker, told) for _ in range(2)]
    gevent.sleep(0.01)
    worker.notify()
    gevent.sleep(0.01)
    assert told == []
    worker.alive = False
    worker.notify()
    worker.notify()
    gevent.joinall(idle, timeout=1, raise_error=True)
    assert told == ["closed", "closed"]
    worker.notify()
    answered.set()
    gevent.joinall([busy], timeout=1, raise_error=True)
    assert told == ["closed", "closed", "served", "closed"]


def test_a_connection_without_a_request_is_closed_in_time(worker: Worker) -> None:
    told: list[str] = []
    worker.cfg.keepalive = 0.02
    gevent.joinall([gevent.spawn(connection, worker, told)], timeout=1, raise_error=True)
    assert told == ["closed"]


def test_what_fails_while_it_waits_fails_as_it_would_without_a_limit(worker: Worker) -> None:
    with pytest.raises(ConnectionResetError), worker.timeout_ctx():
        raise ConnectionResetError


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


class Body:
    """What gunicorn gives for a body: pieces, seconds of silence, or an error."""

    failed = False

    def __init__(self, *pieces: bytes | float | Exception) -> None:
        self._pieces = list(pieces)

    def read(self, size: int) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, bytes):
                return piece
            if isinstance(piece, Exception):
                raise piece
            gevent.sleep(piece)
        return b""


@pytest.mark.parametrize(
    ("pieces", "goes_on"),
    [
        ([], True),
        ([b"x"] * 5, True),
        ([b"x", 0.01, b"x"], True),
        ([b"x", 20.0], False),
        ([b"x", 0.001] * 1000, False),
        ([b"x", OSError()], False),
        ([InvalidRequestLine("x")], False),
    ],
)
def test_a_connection_goes_on_when_the_body_is_read_to_its_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes | float | Exception], goes_on: bool
) -> None:
    monkeypatch.setattr("gpt_oss_proxy.worker._REST_SECONDS", 0.05)
    monkeypatch.setattr(GeventWorker, "handle_request", lambda *_: None)
    with contextlib.nullcontext() if goes_on else pytest.raises(StopIteration):
        worker.handle_request("name", SimpleNamespace(body=Body(*pieces)), None, None)


def test_a_body_that_was_given_up_ends_the_connection(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GeventWorker, "handle_request", lambda *_: None)
    body = Body()
    body.failed = True
    with pytest.raises(StopIteration):
        worker.handle_request("name", SimpleNamespace(body=body), None, None)


def test_a_client_that_floods_lets_others_run(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0)

    def swallow(_worker: Worker, _listener: object, client: Any, _addr: object) -> None:
        for _ in range(1000):
            assert client.recv(1000) == b"x" * 1000
            time.sleep(0.00002)  # what it costs to look at it
        client.close()

    monkeypatch.setattr(AsyncWorker, "handle", swallow)
    listener, (ours, clients) = object(), gevent.socket.socketpair()
    worker._listeners = {id(listener): listener}
    other = gevent.spawn(tick)
    flood = gevent.spawn(clients.sendall, b"x" * 1_000_000)
    worker.handle(listener, ours, None)
    other.kill()
    flood.join()
    clients.close()
    assert ticks > 10


def test_a_client_that_does_not_read_is_like_one_that_has_gone(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[BaseException] = []

    def answer_much(_worker: Worker, _listener: object, client: Any, _addr: object) -> None:
        try:
            client.sendall(b"x" * 100_000_000)
        except OSError as error:
            ended.append(error)
        client.close()

    worker.wsgi.write_seconds = 0.05
    monkeypatch.setattr(AsyncWorker, "handle", answer_much)
    listener, (ours, clients) = object(), gevent.socket.socketpair()
    worker._listeners = {id(listener): listener}
    with clients, gevent.Timeout(5):
        worker.handle(listener, ours, None)
    assert [type(error) for error in ended] == [BrokenPipeError]
