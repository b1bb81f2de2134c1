"""Output makes no writer wait, keeps lines whole, and says what it had to drop."""

import errno
import fcntl
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpt_oss_proxy.net import output
from gpt_oss_proxy.net.output import Output, text_of

ROOT = Path(__file__).parents[2]
SECONDS = 30


class Pipe:
    """A pipe of the smallest size, and an output into it."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)
        self.output = Output(self.write_end)

    def read(self) -> bytes:
        ready, _, _ = select.select([self.read_end], [], [], SECONDS)
        assert ready, "nothing came"
        return os.read(self.read_end, 65536)

    def read_until(self, words: bytes) -> bytes:
        heard = b""
        while words not in heard:
            heard += self.read()
        return heard


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.read_end)  # a thread that still writes gets EPIPE
    assert pipe.output._writing.acquire(timeout=SECONDS)
    os.close(pipe.write_end)


def line(number: int) -> bytes:
    return b'{"number":%d,"text":"%b"}\n' % (number, b"x" * 200)


def numbers(said: bytes) -> list[int]:
    """Return the numbers of the lines, each of which must be whole; a dropped one counts as -1."""
    assert said.endswith(b"\n")
    found = []
    for text in said.splitlines():
        held = json.loads(text)
        found += [-1] * held["dropped_log_lines"] if "dropped_log_lines" in held else [held["number"]]
    return found


def test_a_line_is_written_at_once(pipe: Pipe) -> None:
    assert (pipe.output.write(b"one\n"), pipe.read()) == (4, b"one\n")


def test_what_comes_together_is_written_together_and_in_order(pipe: Pipe) -> None:
    for number in range(100):
        pipe.output.write(line(number))
    assert numbers(pipe.read_until(b'"number":99')) == list(range(100))


def test_a_reader_that_stalls_stops_no_writer_and_is_told_what_was_dropped(pipe: Pipe) -> None:
    for number in range(10_000):
        pipe.output.write(line(number))
    said = pipe.read_until(b"dropped_log_lines")
    found = numbers(said)
    kept = [number for number in found if number >= 0]
    assert kept == sorted(set(kept))
    assert len(found) == 10_000
    assert output._MOST_BYTES - 1000 < len(said) < output._MOST_BYTES + 2 * select.PIPE_BUF
    pipe.output.write(line(10_000))
    assert numbers(pipe.read()) == [10_000]


def test_what_is_dropped_twice_is_told_twice(pipe: Pipe) -> None:
    found = []
    for _ in range(2):
        for number in range(5_000):
            pipe.output.write(line(number))
        found.append(len(numbers(pipe.read_until(b"dropped_log_lines"))))
    assert found == [5_000, 5_000]


def test_lines_of_several_processes_stay_whole(pipe: Pipe) -> None:
    outputs = [pipe.output, Output(pipe.write_end)]
    for number in range(500):
        for one in outputs:
            one.write(line(number))
    said = b""
    while len(found := said.splitlines()) < 1000 or not said.endswith(b"\n"):
        said += pipe.read()
    assert len(found) == 1000
    assert sorted(numbers(said)) == sorted([*range(500), *range(500)])
    outputs[1].finish(SECONDS)


def test_a_line_that_is_longer_than_a_pipe_takes_at_once_comes_whole(pipe: Pipe) -> None:
    long = b"x" * 20_000 + b"\n"
    pipe.output.write(long)
    pipe.output.write(b"short\n")
    assert pipe.read_until(b"short\n") == long + b"short\n"


def test_a_full_disk_is_no_reason_to_fail_and_is_told_when_there_is_room_again(pipe: Pipe) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        full = Output(descriptor)
        full.write(b"one\n")
        full.write(b"two\nthree\n")
        full.finish(SECONDS)
        os.dup2(pipe.write_end, descriptor)
        full.write(b"four\n")
        assert pipe.read_until(b"}\n") == b'four\n{"dropped_log_lines":3}\n'
        full.finish(SECONDS)
    finally:
        os.close(descriptor)


def scripted(monkeypatch: pytest.MonkeyPatch, *script: int | OSError) -> tuple[Output, list[bytes]]:
    """Return an output whose writes take so many bytes, or fail, one after the other, and what each has taken."""
    steps, written = list(script), []

    def write(_descriptor: int, data: bytes) -> int:
        step = steps.pop(0) if steps else len(data)
        if isinstance(step, OSError):
            raise step
        written.append(data[:step])
        return len(data[:step])

    monkeypatch.setattr(output, "os", SimpleNamespace(write=write))
    return Output(-1), written


def test_no_write_is_longer_than_a_pipe_takes_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    out, written = scripted(monkeypatch)
    for number in range(1000):
        out.write(line(number))
    out.finish(SECONDS)
    assert numbers(b"".join(written)) == list(range(1000))
    assert all(piece.endswith(b"\n") for piece in written)
    assert select.PIPE_BUF - len(line(1000)) < max(map(len, written)) <= select.PIPE_BUF


def test_a_line_that_comes_when_its_thread_is_about_to_end_is_written(pipe: Pipe) -> None:
    class Lock:
        """A line comes before it is released."""

        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.acquire = self.lock.acquire

        def release(self) -> None:
            if lines:
                pipe.output.write(lines.pop())
            self.lock.release()

    lines = [b"late\n"]
    pipe.output._writing = Lock()
    pipe.output.write(b"one\n")
    assert pipe.read_until(b"late\n") == b"one\nlate\n"


def test_half_a_line_that_filled_the_disk_does_not_spoil_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    out, written = scripted(monkeypatch, 2, OSError(errno.ENOSPC, ""), OSError(errno.ENOSPC, ""))
    out.write(b"one\n")
    out.finish(SECONDS)
    out.write(b"two\n")
    out.finish(SECONDS)
    assert b"".join(written) == b'on\ntwo\n{"dropped_log_lines":1}\n'


def test_a_descriptor_that_others_have_made_non_blocking_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    out, written = scripted(monkeypatch, 2, BlockingIOError(), 1)
    out.write(b"one\n")
    out.finish(SECONDS)
    assert b"".join(written) == b"one\n"


def test_without_a_thread_to_be_had_lines_wait(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    def none(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(output, "_start_new_thread", none)
        pipe.output.write(b"one\n")
    pipe.output.write(b"two\n")
    assert pipe.read_until(b"two\n") == b"one\ntwo\n"


def test_as_a_text_stream_it_takes_lines_and_not_their_pieces(pipe: Pipe) -> None:
    text = text_of(pipe.output)
    print("a", "ü", "\udc80", sep="-", file=text)
    assert pipe.output._taken_bytes == len(pipe.read()) == len("a-ü-\\udc80\n".encode())
    print("b", end="", file=text)
    assert not pipe.output._waiting
    text.flush()
    assert pipe.read() == b"b"
    assert text.fileno() == pipe.write_end
    text.close()  # as a reload's garbage is
    print("still", file=text_of(pipe.output))
    assert pipe.read() == b"still\n"


# At the end of a process


def python(program: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", f"import os, sys\nfrom gpt_oss_proxy.net.output import STDERR, STDOUT\n{program}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_what_is_not_written_yet_is_written_at_the_end_of_the_process() -> None:
    child = python("for number in range(100): STDOUT.write(b'%d\\n' % number); STDERR.write(b'e%d\\n' % number)")
    said, complained = child.communicate(timeout=SECONDS)
    assert said == b"".join(b"%d\n" % number for number in range(100))
    assert complained == b"".join(b"e%d\n" % number for number in range(100))


def test_a_reader_that_stalls_does_not_hold_up_the_end_of_the_process() -> None:
    child = python("STDOUT.write(b'x' * 200_000 + b'\\n')")
    try:
        assert child.wait(timeout=SECONDS) == 0
    finally:
        child.kill()
        child.communicate()


def test_a_forked_process_writes_its_own_lines_and_not_its_parents() -> None:
    child = python(
        "STDOUT.write(b'x' * 100_000 + b'\\n')\n"
        "STDOUT.write(b'parent\\n')\n"
        "if os.fork():\n"
        "    os.write(2, b'forked')\n"
        "    STDOUT.finish(30)\n"
        "    os.wait()\n"
        "else:\n"
        "    STDOUT.write(b'child\\n')\n"
        "    STDOUT.finish(30)"
    )
    assert child.stderr is not None
    assert child.stderr.read(6) == b"forked"
    said, _ = child.communicate(timeout=SECONDS)
    # The pipe is full of the parent's long line, so the child's may come in its middle.
    assert sorted(said.replace(b"x", b"").split()) == [b"child", b"parent"]
    assert said.count(b"x") == 100_000
