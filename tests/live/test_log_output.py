"""Where the log goes may fill up or stand still: requests are answered all the same, and lines stay whole."""

import contextlib
import http.client
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.live.children import Child, free_port, wait_for
from tests.live.conftest import REPOSITORY
from tests.live.load.proc import workers
from tests.live.talk import SECONDS, Upstream, user

REQUESTS = 2_000
LONG_ID = "x" * 128
LONG_PATH = "/v1/models/" + "x" * 189
CHAT = json.dumps({"model": "gpt-oss-20b", "messages": user("hi")})
STREAM = json.dumps({"model": "gpt-oss-20b", "messages": user("hi"), "stream": True})


class Gateway:
    """A gateway whose standard output and error are the descriptor `output`. It counts the answers that it gave."""

    def __init__(self, output: int, folder: Path, **settings: str) -> None:
        port = free_port()
        env = {"WEB_CONCURRENCY": "1", "HOST": "127.0.0.1", "PORT": str(port), **settings}
        command = [str(Path(sys.executable).parent / "gunicorn"), "-c", "gunicorn.conf.py", "wsgi:app"]
        self.child = Child("gateway", command, REPOSITORY, folder / "log", env, output)
        self.netloc = f"127.0.0.1:{port}"
        self.answered = 0

    def is_ready(self) -> bool:
        with contextlib.suppress(ConnectionError), contextlib.closing(self.connect()) as connection:
            return self.ask(connection, "GET", "/healthz")[0] == 200
        return False

    def connect(self) -> http.client.HTTPConnection:
        url = urlsplit(f"http://{self.netloc}")
        return http.client.HTTPConnection(url.hostname or "", url.port, timeout=SECONDS)

    def ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None
    ) -> tuple[int, bytes]:
        connection.request(method, path, body, {"x-request-id": LONG_ID})
        response = connection.getresponse()
        found = response.status, response.read()
        self.answered += 1
        return found

    def chat(self, connection: http.client.HTTPConnection) -> None:
        """Ask for an answer, and for a streamed one."""
        path = "/v1/chat/completions"
        status, whole = self.ask(connection, "POST", path, CHAT)
        assert (status, json.loads(whole)["choices"][0]["message"]["content"]) == (200, "hi")
        status, streamed = self.ask(connection, "POST", path, STREAM)
        assert (status, streamed.endswith(b"data: [DONE]\n\n")) == (200, True)


StartInto = Callable[..., Gateway]


@pytest.fixture
def start_into(tmp_path: Path, chatkit: Upstream) -> Iterator[StartInto]:
    with contextlib.ExitStack() as stack:

        def run(output: int, **settings: str) -> Gateway:
            gateway = Gateway(output, tmp_path, BASE_URL=chatkit.address, CHATKIT_DIALECT="published", **settings)
            stack.callback(gateway.child.kill)
            gateway.child.wait_until_ready(gateway.is_ready)
            return gateway

        yield run


class Reader(threading.Thread):
    """Reads a pipe to its end, once it is started."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(daemon=True)
        self._descriptor = descriptor
        self.said = b""

    def run(self) -> None:
        while piece := os.read(self._descriptor, 65536):
            self.said += piece

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of JSON, all of which are whole."""
        return [json.loads(line) for line in self.said.splitlines() if line.startswith(b"{")]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # closed before
            os.close(end)


def test_a_log_reader_that_stalls_stops_no_request_and_is_told_what_it_missed(
    start_into: StartInto, pipe: tuple[int, int]
) -> None:
    read_end, write_end = pipe
    gateway = start_into(write_end)
    os.close(write_end)
    before = gateway.answered
    with contextlib.closing(gateway.connect()) as connection:
        while gateway.answered < before + REQUESTS:
            for _ in range(18):
                assert gateway.ask(connection, "GET", LONG_PATH)[0] == 404
            gateway.chat(connection)
        reader = Reader(read_end)
        reader.start()
        wait_for("the line of what was dropped", lambda: b"dropped_log_lines" in reader.said, SECONDS)
        for _ in range(10):
            gateway.chat(connection)
    assert gateway.child.stop() == 0
    reader.join(SECONDS)
    lines = reader.lines()
    kept = [line for line in lines if "outcome" in line]
    dropped = [line["dropped_log_lines"] for line in lines if "dropped_log_lines" in line]
    assert min(dropped) > 0
    assert len(kept) + sum(dropped) == gateway.answered
    assert [line["path"] for line in kept[-20:]] == ["/v1/chat/completions"] * 20  # written at the worker's end


def test_a_log_that_stands_still_stops_neither_the_start_nor_the_master(
    start_into: StartInto, pipe: tuple[int, int]
) -> None:
    read_end, write_end = pipe
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, b"\n" * 4096)
    os.set_blocking(write_end, True)
    gateway = start_into(write_end)
    (worker,) = workers(gateway.child.process.pid)
    os.kill(worker, signal.SIGKILL)  # the master complains of it, into the pipe
    wait_for("another worker", lambda: set(workers(gateway.child.process.pid)) - {worker}, SECONDS)
    wait_for("it to answer", gateway.is_ready, SECONDS)
    with contextlib.closing(gateway.connect()) as connection:
        gateway.chat(connection)
    os.close(write_end)
    reader = Reader(read_end)
    reader.start()
    assert gateway.child.stop() == 0
    reader.join(SECONDS)
    assert b"was sent SIGKILL!" in reader.said
    assert [line["path"] for line in reader.lines()[-2:]] == ["/v1/chat/completions"] * 2


def test_a_full_disk_below_the_log_is_no_reason_not_to_start_or_answer(start_into: StartInto) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        gateway = start_into(full)
    finally:
        os.close(full)
    with contextlib.closing(gateway.connect()) as connection:
        for _ in range(10):
            gateway.chat(connection)
    assert gateway.child.stop() == 0
