"""A client's connection, over a pair of sockets."""

import errno
import os
import time
from collections.abc import Iterator

import gevent
import gevent.socket
import pytest

from gpt_oss_proxy.net.server.client_socket import ClientSocket
from gpt_oss_proxy.net.turn import Reader
from tests.doubles import Other

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
    with Other() as other:
        clients.sendall(b"x" * 100_000)
        other.turns = 0
        for _ in range(100):
            assert ours.recv(1000) == b"x" * 1000
            time.sleep(0.00002)  # what it costs to look at it
    assert other.turns > 10


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


# What is written at the end of a turn


def received(clients: gevent.socket.socket, size: int = 100_000) -> bytes:
    """Return what has come by now."""
    gevent.sleep(0.002)
    clients.setblocking(False)
    try:
        return clients.recv(size)
    except BlockingIOError:
        return b""
    finally:
        clients.setblocking(True)


def test_what_is_sent_soon_is_sent_when_others_have_had_their_turn(pair: Pair) -> None:
    ours, clients = pair
    ours.send_soon(b"a")
    clients.setblocking(False)
    with pytest.raises(BlockingIOError):
        os.read(clients.fileno(), 9)
    clients.setblocking(True)
    assert received(clients) == b"a"
    ours.send_soon(b"b")
    assert received(clients) == b"b"


def test_pieces_never_overtake_each_other(pair: Pair) -> None:
    ours, clients = pair
    ours.send_soon(b"a")
    ours.send_soon(b"b")
    ours.send_soon(b"c")
    ours.sendall(b"d")
    ours.send_soon(b"e")
    ours.flush()
    ours.flush()
    ours.sendall(memoryview(b"f"))
    assert received(clients) == b"abcdef"


def test_what_does_not_fit_follows_when_the_client_reads_though_nothing_more_is_sent(pair: Pair) -> None:
    ours, clients = pair
    data = bytes(range(256)) * 10_000
    ours.send_soon(data)
    got = b""
    while len(got) < len(data):
        got += clients.recv(100_000)
    assert got == data
    assert ours.unsent == b""
    calls: list[None] = []
    ours._write_soon = lambda: calls.append(None)  # type: ignore[method-assign]
    gevent.sleep(0.01)
    assert calls == []  # nobody listens for room any more
    del ours._write_soon
    ours.send_soon(b"more")
    assert received(clients) == b"more"


def test_behind_what_does_not_fit_the_next_one_waits(pair: Pair) -> None:
    ours, clients = pair
    data = b"x" * 3_000_000
    ours.send_soon(data)
    gevent.sleep(0.01)
    writer = gevent.spawn(ours.send_soon, b"end")
    gevent.sleep(0.01)
    assert not writer.dead
    got = b""
    while len(got) < len(data) + 3:
        got += clients.recv(100_000)
    writer.get()
    assert got == data + b"end"


def test_a_client_that_does_not_read_ends_the_next_write(pair: Pair) -> None:
    ours, _ = pair
    ours.write_seconds = 0.05
    ours.send_soon(b"x" * 3_000_000)
    gevent.sleep(0.01)
    with pytest.raises(BrokenPipeError):
        ours.send_soon(b"y")


@pytest.mark.parametrize("write", ["send_soon", "sendall", "flush"])
def test_that_a_client_has_gone_the_next_write_tells(pair: Pair, write: str) -> None:
    ours, clients = pair
    clients.close()
    ours.send_soon(b"a")
    gevent.sleep(0.005)
    with pytest.raises(BrokenPipeError):
        getattr(ours, write)(*([b"b"] if write != "flush" else []))


def test_a_client_that_goes_while_it_is_waited_for_keeps_the_loop_not_busy(pair: Pair) -> None:
    ours, clients = pair
    ours.send_soon(b"x" * 3_000_000)
    gevent.sleep(0.01)
    clients.close()
    gevent.sleep(0.01)
    writes: list[None] = []
    ours._write_soon = lambda: writes.append(None)  # type: ignore[method-assign]
    gevent.sleep(0.01)
    assert writes == []


def test_closing_it_sends_what_was_to_be_sent_soon(pair: Pair) -> None:
    ours, clients = pair
    ours.send_soon(b"last words")
    ours.close()
    assert clients.recv(99) == b"last words"
    gevent.sleep(0.005)
    assert clients.recv(99) == b""


def test_a_stranger_gets_nothing_of_what_was_to_be_sent_soon(pair: Pair) -> None:
    ours, _ = pair
    reads, writes = os.pipe()
    number = ours.fileno()
    ours.send_soon(b"secret")
    ours.close()
    os.dup2(writes, number)
    gevent.sleep(0.005)
    os.close(writes)
    os.close(number)
    assert os.read(reads, 99) == b""
    os.close(reads)


def test_it_tells_what_nobody_has_taken_yet(pair: Pair) -> None:
    ours, clients = pair
    assert not ours.holds
    waiting = gevent.spawn(ours.recv, 9)
    gevent.sleep(0.002)
    clients.sendall(b"a")
    gevent.get_hub().loop.run_callback(ours._reader._come)
    gevent.get_hub().loop.run_callback(lambda: held.append(ours.holds))
    held: list[bool] = []
    assert waiting.get() == b"a"
    assert held == [True]
    ours.close()
    assert not ours.holds


def test_behind_a_write_that_failed_in_its_middle_nothing_is_sent(pair: Pair) -> None:
    ours, clients = pair
    ours.write_seconds = 0.02
    with pytest.raises(BrokenPipeError):
        ours.sendall(b"x" * 3_000_000)
    while received(clients):
        pass
    for write in (ours.send_soon, ours.sendall):
        with pytest.raises(BrokenPipeError):
            write(b"behind a hole")
    assert received(clients) == b""


def test_its_descriptor_is_closed_whatever_the_end_of_its_reader_raises(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Reader.close

    def fail(reader: Reader) -> None:
        close(reader)
        raise LookupError("a bug")

    ours, clients = pair
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "close", fail)
        with pytest.raises(LookupError):
            ours.close()
    assert (ours.fileno(), clients.recv(9)) == (-1, b"")
