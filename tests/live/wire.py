"""Plain sockets: a client that may break every rule of HTTP, and servers that do not answer."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.live.talk import SECONDS


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Connection:
    """A client's connection. Closing it is the test's to do."""

    def __init__(self, base: str) -> None:
        self.host = urlsplit(base).netloc
        self.socket = socket.create_connection((urlsplit(base).hostname, urlsplit(base).port), timeout=SECONDS)

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def post(self, body: Any, *headers: str) -> None:
        """Send a chat."""
        data = json.dumps(body).encode()
        self.head(f"Content-Length: {len(data)}", *headers)
        self.send(data)

    def head(self, *headers: str, start: str = "POST /v1/chat/completions HTTP/1.1") -> None:
        """Send a request's head."""
        self.send("".join(f"{line}\r\n" for line in (start, f"Host: {self.host}", *headers, "")).encode("latin-1"))

    def read_until(self, words: bytes) -> bytes:
        """Return what has come when `words` are in it."""
        heard = bytearray()
        while heard.find(words, max(0, len(heard) - 65536 - len(words))) < 0:
            piece = self.socket.recv(65536)
            assert piece, f"{words!r} never came: {bytes(heard)!r}"
            heard += piece
        return bytes(heard)

    def answer(self) -> Answer:
        """Read one whole answer."""
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return Answer(response.status, response.headers, response.read())


class Silent:
    """A server that takes connections and does not answer, or, with a full backlog, does not even take them."""

    def __init__(self, backlog: int = 100) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self._listener.settimeout(SECONDS)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def accept(self) -> socket.socket:
        accepted, _ = self._listener.accept()
        accepted.settimeout(SECONDS)
        return accepted

    def close(self) -> None:
        self._listener.close()


@contextlib.contextmanager
def full_backlog() -> Iterator[str]:
    """Give the address of a server whose queue of connections is full, so that the kernel drops further ones."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.closing(Silent(backlog=0)))
        url = urlsplit(server.address)
        while True:
            attempt = stack.enter_context(socket.socket())
            attempt.settimeout(0.3)
            try:
                attempt.connect((url.hostname, url.port))
            except TimeoutError:
                break
        yield server.address
