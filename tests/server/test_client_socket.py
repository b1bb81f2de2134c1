"""A client's connection, over a pair of sockets."""

import errno
import os
import time
from collections.abc import Iterator

import gevent
import gevent.socket
import pytest

from gpt_oss_proxy.server.client_socket import ClientSocket

Pair = tuple[ClientSocket, gevent.socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, clients = gevent.socket.socketpair()
    own = ClientSocket.of(ours, 5.0)
    with own, clients, gevent.Timeout(10):
        yield own, clients


def test_it_is_the_accepted_connection() -> None:
    with (
        gevent.socket.create_server(("127.0.0.1", 0)) as listener,
        gevent.socket.create_connection(listener.getsockname()) as clients,
    ):
        accepted, peer = listener.accept()
        descriptor = accepted.fileno()
        with ClientSocket.of(accepted, 7.0) as ours:
            assert accepted.fileno() == -1
            assert (ours.fileno(), ours.getpeername(), ours.write_seconds) == (descriptor, peer, 7.0)
            assert ours.getpeername() == clients.getsockname()


def test_what_is_sent_comes_back_to_its_end(pair: Pair) -> None:
    ours, clients = pair
    clients.sendall(b"Hello")
    assert ours.recv(2, gevent.socket.MSG_PEEK) == b"He"
    assert [ours.recv(2), ours.recv(99)] == [b"He", b"llo"]
    clients.shutdown(gevent.socket.SHUT_WR)
    assert ours.recv(99) == b""
    ours.sendall(b"Bye")
    ours.sendall(memoryview(b"!"))
    ours.close()
    assert b"".join(iter(lambda: clients.recv(99), b"")) == b"Bye!"


def test_a_client_that_floods_lets_others_run(pair: Pair) -> None:
    ours, clients = pair
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0)

    other = gevent.spawn(tick)
    clients.sendall(b"x" * 100_000)
    ticks = 0
    for _ in range(100):
        assert ours.recv(1000) == b"x" * 1000
        time.sleep(0.00002)  # what it costs to look at it
    other.kill()
    assert ticks > 10


def test_a_reader_that_was_killed_leaves_nothing_behind(pair: Pair) -> None:
    ours, clients = pair
    reader = gevent.spawn(ours.recv, 99)
    gevent.sleep(0)
    reader.kill()
    clients.sendall(b"Hello")
    assert ours.recv(99) == b"Hello"


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_what_does_not_fit_into_the_buffers_arrives_whole(pair: Pair, kind: type) -> None:
    ours, clients = pair
    data = bytes(range(256)) * 10_000
    writer = gevent.spawn(ours.sendall, kind(data))
    received = b""
    while len(received) < len(data):
        received += clients.recv(100_000)
    writer.get()
    assert received == data


def test_a_client_that_does_not_read_is_like_one_that_has_gone(pair: Pair) -> None:
    ours, _ = pair
    ours.write_seconds = 0.05
    begun = time.monotonic()
    with pytest.raises(BrokenPipeError) as caught:
        ours.sendall(b"x" * 100_000_000)
    assert caught.value.errno == errno.EPIPE
    assert 0.05 <= time.monotonic() - begun < 5
    with pytest.raises(BrokenPipeError):  # the buffers are full by now: not a byte of it is taken
        ours.sendall(b"x")


def test_the_limit_is_one_of_a_write_and_ends_with_it(pair: Pair) -> None:
    ours, clients = pair
    ours.write_seconds = 0.05

    def read() -> None:
        while clients.recv(100_000):
            pass

    reader = gevent.spawn(read)
    for _ in range(3):
        ours.sendall(b"x" * 1_000_000)
        gevent.sleep(0.03)
    reader.kill()


def test_a_client_that_has_gone_is_an_error(pair: Pair) -> None:
    ours, clients = pair
    clients.close()
    with pytest.raises(BrokenPipeError):
        ours.sendall(b"x")


def test_it_may_be_closed_twice(pair: Pair) -> None:
    ours, clients = pair
    ours.close()
    ours.close()
    assert (ours.fileno(), clients.recv(1)) == (-1, b"")


def test_a_stranger_who_gets_its_descriptor_afterwards_is_not_written_to(pair: Pair) -> None:
    ours, _ = pair
    reads, writes = os.pipe()
    number = ours.fileno()
    ours.close()
    os.dup2(writes, number)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            ours.sendall(b"x")
    finally:
        os.close(writes)
        os.close(number)
        received = os.read(reads, 1)
        os.close(reads)
    assert received == b""
