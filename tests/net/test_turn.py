"""A turn's phases, over pairs of sockets."""

import errno
import os
import socket
from collections.abc import Iterator

import gevent
import greenlet
import pytest

from gpt_oss_proxy.net import turn as module
from gpt_oss_proxy.net.turn import LARGE_READ, SMALL_READ, Reader, turn

Pair = tuple[socket.socket, socket.socket]
real_read = os.read


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [socket.socketpair() for _ in range(3)]
    for ours, _ in made:
        ours.setblocking(False)
    with gevent.Timeout(10):
        yield made
    for pair in made:
        for sock in pair:
            sock.close()


@pytest.fixture
def readers(pairs: list[Pair]) -> Iterator[list[Reader]]:
    made = [Reader(ours.fileno()) for ours, _ in pairs]
    yield made
    for reader in made:
        reader.close()


def test_what_comes_is_read_piece_by_piece_and_to_its_end(pairs: list[Pair], readers: list[Reader]) -> None:
    _, theirs = pairs[0]
    theirs.sendall(b"Hello")
    assert (readers[0].read(2), readers[0].read()) == (b"He", b"llo")
    theirs.close()
    assert (readers[0].read(), readers[0].read()) == (b"", b"")


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all reads."""
    asked: list[int] = []

    def read(descriptor: int, size: int) -> bytes:
        asked.append(size)
        return real_read(descriptor, size)

    monkeypatch.setattr(module.os, "read", read)
    return asked


@pytest.mark.parametrize(
    ("came", "next_size"), [(1, SMALL_READ), (SMALL_READ - 1, SMALL_READ), (SMALL_READ, LARGE_READ)]
)
def test_a_read_is_large_only_after_a_full_one(
    pairs: list[Pair], readers: list[Reader], sizes: list[int], came: int, next_size: int
) -> None:
    _, theirs = pairs[0]
    for size in (came, 1, 1):  # a full read has left nothing behind; what comes then is little
        reading = gevent.spawn(readers[0].read)
        gevent.sleep(0)
        theirs.sendall(b"x" * size)
        assert reading.get() == b"x" * size
    assert sizes == [SMALL_READ, next_size, SMALL_READ]
    theirs.close()
    assert (readers[0].read(), sizes[3]) == (b"", SMALL_READ)


def test_at_full_speed_reads_stay_large(pairs: list[Pair], readers: list[Reader], sizes: list[int]) -> None:
    _, theirs = pairs[0]
    for _ in range(10):
        theirs.sendall(b"x" * 50_000)
        left = 50_000
        while left:
            left -= len(readers[0].read())
    assert sizes == [SMALL_READ, *[LARGE_READ] * 10]


def test_a_taker_gives_the_next_read_its_size_too(pairs: list[Pair], readers: list[Reader], sizes: list[int]) -> None:
    readers[0].on_bytes = lambda _data: True
    waiting = gevent.spawn(readers[0].read)
    for size in (SMALL_READ, 1, 1):
        gevent.sleep(0.01)
        pairs[0][1].sendall(b"x" * size)
    gevent.sleep(0.01)
    assert sizes == [SMALL_READ, LARGE_READ, SMALL_READ]
    waiting.kill()


def test_all_is_read_then_all_is_used_then_all_is_written(
    pairs: list[Pair], readers: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def read(descriptor: int, size: int) -> bytes:
        told.append("read")
        return real_read(descriptor, size)

    monkeypatch.setattr(module.os, "read", read)

    def use(reader: Reader) -> None:
        for _ in range(2):
            told.append(f"use {reader.read().decode()}")
            turn().write(lambda: told.append("write"))

    users = [gevent.spawn(use, reader) for reader in readers]
    gevent.sleep(0.01)
    for word in (b"a", b"b"):
        for _, theirs in pairs:
            theirs.sendall(word)
        gevent.sleep(0.01)
    gevent.joinall(users)
    assert told == [*["read"] * 3, *["use a"] * 3, *["write"] * 3, *["read"] * 3, *["use b"] * 3, *["write"] * 3]


def test_what_is_held_is_bounded(pairs: list[Pair], readers: list[Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 10)
    told: list[str] = []

    def read(descriptor: int, size: int) -> bytes:
        told.append("read")
        return real_read(descriptor, size)

    monkeypatch.setattr(module.os, "read", read)
    users = [gevent.spawn(lambda reader: told.append(reader.read(8).decode()), reader) for reader in readers]
    gevent.sleep(0.01)
    for _, theirs in pairs:
        theirs.sendall(b"x" * 8)
    gevent.joinall(users)
    assert told == ["read", "read", "x" * 8, "x" * 8, "read", "x" * 8]


def test_nothing_is_read_before_somebody_wants_it(pairs: list[Pair], readers: list[Reader]) -> None:
    ours, theirs = pairs[0]
    theirs.sendall(b"a")
    assert readers[0].read() == b"a"
    theirs.sendall(b"b")
    gevent.sleep(0.01)
    assert not readers[0].holds
    assert ours.recv(9, socket.MSG_PEEK) == b"b"
    assert readers[0].read() == b"b"


def test_while_nobody_reads_the_loop_is_not_kept_busy(pairs: list[Pair], readers: list[Reader]) -> None:
    _, theirs = pairs[0]
    theirs.sendall(b"a")
    readers[0].read()
    theirs.sendall(b"b")
    gevent.sleep(0.01)
    calls: list[None] = []
    come = readers[0]._come
    readers[0]._come = lambda: calls.append(come())  # type: ignore[method-assign]
    gevent.sleep(0.02)
    assert calls == []


def test_what_nobody_reads_is_told_as_long_as_it_is_wanted(pairs: list[Pair], readers: list[Reader]) -> None:
    _, theirs = pairs[0]
    told: list[None] = []
    readers[0].start(lambda: told.append(None))
    gevent.sleep(0.005)
    assert told == []
    theirs.sendall(b"a")
    gevent.sleep(0.005)
    assert len(told) > 1
    readers[0].stop()
    before = len(told)
    gevent.sleep(0.005)
    assert (len(told), readers[0].read()) == (before, b"a")
    readers[0].start(lambda: told.append(None))
    reading = gevent.spawn(readers[0].read)
    gevent.sleep(0.005)
    theirs.sendall(b"b")
    assert (reading.get(), len(told)) == (b"b", before)


def test_a_reader_that_was_killed_leaves_nothing_behind(pairs: list[Pair], readers: list[Reader]) -> None:
    _, theirs = pairs[0]
    killed = gevent.spawn(readers[0].read)
    gevent.sleep(0.01)
    killed.kill()
    theirs.sendall(b"Hello")
    assert readers[0].read() == b"Hello"


def test_what_was_read_for_one_who_is_killed_before_he_runs_is_not_lost(
    pairs: list[Pair], readers: list[Reader]
) -> None:
    waiting = gevent.spawn(readers[0].read)
    gevent.sleep(0.01)
    pairs[0][1].sendall(b"a")
    gevent.get_hub().loop.run_callback(readers[0]._come)  # as it will in this turn, but before the kill
    waiting.kill(block=False)
    gevent.sleep(0.01)
    assert (waiting.dead, readers[0].holds) == (True, True)
    assert readers[0].read() == b"a"


def test_a_time_limit_ends_the_wait_and_the_next_read_goes_on(pairs: list[Pair], readers: list[Reader]) -> None:
    _, theirs = pairs[0]
    with gevent.Timeout(0.01, False):
        readers[0].read()
    theirs.sendall(b"late")
    assert readers[0].read() == b"late"


def test_an_error_is_raised_where_it_is_read(
    pairs: list[Pair], readers: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int, _size: int) -> bytes:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    monkeypatch.setattr(module.os, "read", fail)
    pairs[0][1].sendall(b"x")
    with pytest.raises(ConnectionResetError):
        readers[0].read()


def test_a_false_alarm_is_none(pairs: list[Pair], readers: list[Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    alarms = [BlockingIOError(), BlockingIOError()]

    def read(descriptor: int, size: int) -> bytes:
        if alarms:
            raise alarms.pop()
        return real_read(descriptor, size)

    monkeypatch.setattr(module.os, "read", read)
    pairs[0][1].sendall(b"x")
    assert readers[0].read() == b"x"


def test_a_wake_up_by_somebody_else_is_no_data(pairs: list[Pair], readers: list[Reader]) -> None:
    reading = gevent.spawn(readers[0].read)
    gevent.sleep(0.01)
    gevent.get_hub().loop.run_callback(reading.switch)
    gevent.sleep(0.01)
    pairs[0][1].sendall(b"x")
    assert reading.get() == b"x"


def test_a_writer_that_has_others_written_is_no_endless_loop() -> None:
    told: list[int] = []

    def write() -> None:
        told.append(len(told))
        if len(told) < 3:
            turn().write(write)

    turn().write(write)
    gevent.sleep(0.01)
    assert told == [0, 1, 2]


def test_a_hub_has_one_turn() -> None:
    assert turn() is turn()


def test_a_bug_of_one_is_none_of_all_others(
    pairs: list[Pair], readers: list[Reader], capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[bytes] = []
    waiting = [gevent.spawn(lambda reader: told.append(reader.read()), reader) for reader in readers[1:]]

    def fail() -> None:
        readers[0].read()
        raise ValueError("a bug of a greenlet")

    gevent.get_hub().loop.run_callback(greenlet.greenlet(fail, gevent.get_hub()).switch)
    gevent.sleep(0.01)
    for _, theirs in pairs:
        theirs.sendall(b"a")
    gevent.joinall(waiting)
    assert told == [b"a", b"a"]

    def fail_to_write() -> None:
        raise ValueError("a bug of a write")

    turn().write(fail_to_write)
    turn().write(lambda: told.append(b"written"))
    gevent.sleep(0.01)
    assert told[2:] == [b"written"]
    said = capsys.readouterr().err
    assert "a bug of a greenlet" in said
    assert "a bug of a write" in said


def read_all(reader: Reader, into: list[bytes]) -> None:
    while data := reader.read():
        into.append(data)


def test_a_taker_comes_before_who_waits_and_what_it_leaves_is_for_that_one(
    pairs: list[Pair], readers: list[Reader]
) -> None:
    taken: list[bytes] = []
    left: list[bytes] = []

    def take(data: bytes) -> bool:
        if data != b"b":
            taken.append(data)
        return data != b"b"

    readers[0].on_bytes = take
    reading = gevent.spawn(read_all, readers[0], left)
    for word in (b"a", b"b", b"c"):
        gevent.sleep(0.01)
        pairs[0][1].sendall(word)
    gevent.sleep(0.01)
    readers[0].on_bytes = None
    pairs[0][1].sendall(b"d")
    gevent.sleep(0.01)
    pairs[0][1].close()
    reading.get()
    assert (taken, left) == ([b"a", b"c"], [b"b", b"d"])


def test_a_taker_is_offered_neither_an_end_nor_an_error_nor_what_nobody_waits_for(
    pairs: list[Pair], readers: list[Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered: list[bytes] = []

    def take(data: bytes) -> bool:
        offered.append(data)
        return True

    readers[0].on_bytes = readers[1].on_bytes = readers[2].on_bytes = take
    waiting = gevent.spawn(readers[0].read)
    gevent.sleep(0.01)
    pairs[0][1].close()
    assert waiting.get() == b""

    waiting = gevent.spawn(readers[1].read)
    gevent.sleep(0.01)
    pairs[1][1].sendall(b"a")
    gevent.get_hub().loop.run_callback(readers[1]._come)  # it is read in this turn, but before the kill
    waiting.kill(block=False)
    gevent.sleep(0.01)
    assert readers[1].read() == b"a"

    def fail(_descriptor: int, _size: int) -> bytes:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    monkeypatch.setattr(module.os, "read", fail)
    pairs[2][1].sendall(b"x")
    with pytest.raises(ConnectionResetError):
        readers[2].read()
    assert offered == []


def test_a_bug_of_a_taker_is_told_and_what_came_is_for_who_waits(
    pairs: list[Pair], readers: list[Reader], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_data: bytes) -> bool:
        raise ValueError("a bug of a callback")

    readers[0].on_bytes = fail
    waiting = [gevent.spawn(reader.read) for reader in readers]
    gevent.sleep(0.01)
    for _, theirs in pairs:
        theirs.sendall(b"a")
    gevent.joinall(waiting)
    assert [reading.value for reading in waiting] == [b"a"] * 3
    assert readers[0].on_bytes is None
    assert "a bug of a callback" in capsys.readouterr().err
