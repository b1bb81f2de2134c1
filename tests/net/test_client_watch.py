"""A client that leaves is noticed, however it leaves, and one that stays is not."""

import socket
import struct
from collections.abc import Iterator

import gevent
import pytest

from gpt_oss_proxy.net import client_watch
from gpt_oss_proxy.net.client_watch import ClientWatch
from gpt_oss_proxy.net.server.client_socket import ClientSocket

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_watch, "_LOOK_SECONDS", 0.005)


@pytest.fixture(params=["tcp", "unix", "our server's"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """The gateway's end of a connection, and the client's."""
    if request.param == "unix":
        ours, clients = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            clients = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
    if request.param == "our server's":
        ours = ClientSocket.of(ours, 5.0)
    with ours, clients:
        yield ours, clients


class Bell:
    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


def rings(bell: Bell) -> bool:
    for _ in range(500):
        if bell.rung:
            gevent.sleep(0.02)  # it would ring again
            return bell.rung == 1
        gevent.sleep(0.002)
    return False


def stays_silent(bell: Bell) -> bool:
    gevent.sleep(0.03)
    return bell.rung == 0


def close(client: socket.socket) -> None:
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("leave", [close, half_close, reset])
@pytest.mark.parametrize("pipelined", [b"", b"POST /v1/chat/completions HTTP/1.1\r\n"])
@pytest.mark.parametrize("already", [False, True])
def test_a_client_that_leaves_is_noticed_once(pair: Pair, leave: object, pipelined: bytes, already: bool) -> None:
    ours, clients = pair
    assert callable(leave)
    bell = Bell()
    clients.sendall(pipelined)
    if already:
        leave(clients)
    watch = ClientWatch(ours, bell)
    if not already:
        assert stays_silent(bell)
        leave(clients)
    assert rings(bell)
    watch.close()


def test_a_client_that_sends_its_next_request_has_not_left(pair: Pair) -> None:
    ours, clients = pair
    bell = Bell()
    watch = ClientWatch(ours, bell)
    for _ in range(3):
        clients.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stays_silent(bell)
    watch.close()
    assert ours.recv(1000) == b"GET / HTTP/1.1\r\n\r\n" * 3  # it only looked


def test_a_client_that_does_not_read_has_not_left(pair: Pair) -> None:
    ours, _ = pair
    ours.setblocking(False)
    while True:
        try:
            ours.send(b"x" * 65536)
        except BlockingIOError:
            break
    bell = Bell()
    watch = ClientWatch(ours, bell)
    assert stays_silent(bell)
    watch.close()


@pytest.mark.parametrize("pipelined", [b"", b"GET"])
def test_after_the_watch_nothing_is_noticed(pair: Pair, pipelined: bytes) -> None:
    ours, clients = pair
    bell = Bell()
    watch = ClientWatch(ours, bell)
    clients.sendall(pipelined)
    gevent.sleep(0.02)
    watch.close()
    clients.close()
    assert stays_silent(bell)


def test_a_hundred_watches_do_not_mix_up_their_clients() -> None:
    pairs = [socket.socketpair() for _ in range(100)]
    bells = [Bell() for _ in pairs]
    watches = [ClientWatch(ours, bell) for (ours, _), bell in zip(pairs, bells, strict=True)]
    for _, clients in pairs[::2]:
        clients.close()
    assert rings(bells[-2])
    assert [bell.rung for bell in bells] == [1, 0] * 50
    for watch in watches:
        watch.close()
    for pair in pairs:
        for end in pair:
            end.close()
