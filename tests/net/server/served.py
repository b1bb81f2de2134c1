"""A client's connection without a network, and without gunicorn around it: what comes back, and how it ended."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
import gevent.socket
import greenlet
from gunicorn.config import Config

from gpt_oss_proxy.net.server.client_socket import ClientSocket
from gpt_oss_proxy.net.server.connection import Application, Connection

PEER = ("192.0.2.1", 50000)
SERVER = ("127.0.0.1", 8000)
Waits = dict[greenlet.greenlet, float]


class Ended(NamedTuple):
    """What the client got of a connection, and what was raised at its end."""

    received: bytes
    error: BaseException | None = None


def talk(
    application: Application,
    *pieces: bytes | float,
    may_go_on: Callable[[], bool] = lambda: True,
    waits: Waits | None = None,
) -> Ended:
    """Send the pieces so that each is read alone; a number is slept. Then send no more, and read to the end."""
    ours, clients = gevent.socket.socketpair()
    ours = ClientSocket.of(ours, 5.0)
    connection = Connection(
        ours,
        application,
        cfg=Config(),
        peer=PEER,
        server=SERVER,
        environ={"common": "to all"},
        waits={} if waits is None else waits,
    )

    def serve() -> BaseException | None:
        try:
            connection.serve(may_go_on)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is what is told
            return error
        finally:
            ours.close()
        return None

    serving = gevent.spawn(serve)
    with clients, gevent.Timeout(10):
        for piece in pieces:
            if isinstance(piece, bytes):
                try:
                    clients.sendall(piece)
                except OSError:  # it has been closed, as what it answered has told
                    break
                piece = 0.003
            gevent.sleep(piece)
        clients.shutdown(gevent.socket.SHUT_WR)
        received = b"".join(iter(lambda: clients.recv(65536), b""))
        return Ended(received, serving.get())


def bodies(received: bytes) -> list[bytes]:
    """Return the bodies of answers that all have a Content-Length; what remains is none."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: ([0-9]+)", head.lower())[1])  # type: ignore[index] # it is there
        assert len(rest) >= length
        found.append(rest[:length])
        received = rest[length:]
    return found


def tell(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An application that tells what it was asked, and the body."""
    told = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode() + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(told)))])
    return [told]
