"""A server on loopback that answers with exactly the bytes, breaks and silences that a test wants."""

import contextlib
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence

Step = bytes | Callable[[socket.socket], None]
Answer = Sequence[Step]
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def close(connection: socket.socket) -> None:
    """End the connection in order."""
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def reset(connection: socket.socket) -> None:
    """End the connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())  # close() would wait for the file that reads from it


def tunnel_to(port: int) -> Step:
    """Return a step that joins the connection to that port, as a proxy that was asked to CONNECT."""

    def join(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as other:
            across = {connection: other, other: connection}
            while True:
                for end in select.select(list(across), [], [])[0]:
                    if not (data := end.recv(65536)):
                        return close(connection)
                    across[end].sendall(data)

    return join


def chunk(data: bytes) -> bytes:
    """Return one chunk; b'' is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def with_length(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Return a whole answer."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class RawServer:
    """Gives its answers in order, the last one again and again. `heads` are the requests' head lines.

    With `listens` False it answers at once, whatever it is asked. With `tls` it speaks that.
    """

    def __init__(
        self, *answers: Answer, listens: bool = True, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answers = list(answers)
        self._listens = listens
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.heads: list[list[str]] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Close everything, also what is just being accepted."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)  # close() would wait for the file that reads from it
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection.makefile("rb") as requests:
                while not self._listens or (head := _head(requests)):
                    if self._listens:
                        length = next(
                            (int(line[16:]) for line in head if line.lower().startswith("content-length: ")), 0
                        )
                        self.heads.append(head)
                        self.bodies.append(requests.read(length))
                    self._answer(connection)
        except (OSError, ValueError):
            pass  # the client has gone, or the test is over

    def _answer(self, connection: socket.socket) -> None:
        for step in self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]:
            if isinstance(step, bytes):
                connection.sendall(step)
            else:
                step(connection)


def _head(requests: object) -> list[str]:
    lines = iter(requests.readline, b"\r\n")  # type: ignore[attr-defined]
    head = []
    for line in lines:
        if not line:
            return []
        head.append(line.decode().rstrip("\r\n"))
    return head
