"""Standard output and standard error for a process that must not wait for their readers.

A write to a full pipe blocks the whole process, with all its requests, until the pipe is read. O_NONBLOCK is no
solution: it applies to all processes that share the pipe. So a native thread writes, not one of gevent's, and the
queue is bounded: lines that do not fit are dropped and counted, and one line reports their number when output flows
again.
"""

import atexit
import io
import os
import select
from collections import deque
from typing import Any

from gevent import monkey

# gevent's own would run in the thread that serves all requests.
_allocate_lock: Any = monkey.get_original("_thread", "allocate_lock")
_start_new_thread: Any = monkey.get_original("_thread", "start_new_thread")
_sleep: Any = monkey.get_original("time", "sleep")

_MOST_BYTES = 512 * 1024  # about 1,500 lines of the access log
_PAUSE_SECONDS = 0.1  # between two rounds of writing: lines of that time are written together
_LAST_SECONDS = 1.0  # how long the end of the process waits for a reader


class Output(io.RawIOBase):
    """A descriptor that accepts whole lines from any greenlet, the hub and signal handlers; it never blocks or raises.

    Lines written together are not mixed with those of other processes: no write is longer than PIPE_BUF, unless a
    single line is.
    """

    def __init__(self, descriptor: int) -> None:
        self.name = descriptor  # as for a file that was opened by its number
        self.forget()

    def forget(self) -> None:
        """Drop what is not written yet. Called in a forked process: the parent's own thread writes that."""
        self._waiting: deque[bytes] = deque()
        self._writing = _allocate_lock()  # held while the thread runs
        # Each counter has one writer thread: the first two the callers of `write`, the others the native thread.
        self._taken_bytes = 0
        self._refused_lines = 0
        self._done_bytes = 0
        self._failed_lines = 0
        self._reported_lines = 0
        self._torn = False  # the last write ended within a line

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.name

    def close(self) -> None:
        """Do nothing: the descriptor belongs to the process, and others may still write."""

    def write(self, data: Any) -> int:
        """Queue whole lines, to be written within about a tenth of a second."""
        lines = bytes(data)
        if self._taken_bytes - self._done_bytes + len(lines) > _MOST_BYTES:
            self._refused_lines += lines.count(b"\n")
        else:
            self._taken_bytes += len(lines)
            self._waiting.append(lines)
        if self._writing.acquire(False):
            try:
                _start_new_thread(self._work, ())
            except RuntimeError:  # no thread available: the next write tries again
                self._writing.release()
        return len(lines)

    def finish(self, seconds: float = _LAST_SECONDS) -> None:
        """Wait until all is written, at most `seconds`. Called at the end of the process."""
        if self._writing.acquire(timeout=seconds):
            self._writing.release()

    def _work(self) -> None:
        """Write until the queue is empty."""
        mine = True
        while mine:
            self._write_waiting()
            _sleep(_PAUSE_SECONDS)
            if not self._waiting:
                self._writing.release()
                # A `write` since the check above found the lock held, and started no thread.
                mine = bool(self._waiting) and self._writing.acquire(False)

    def _write_waiting(self) -> None:
        while self._waiting:
            lines = self._next()
            if not self._put(lines):
                self._failed_lines += lines.count(b"\n")
            self._done_bytes += len(lines)
        dropped = self._refused_lines + self._failed_lines - self._reported_lines
        if dropped and self._put(b'{"dropped_log_lines":%d}\n' % dropped):
            self._reported_lines += dropped

    def _next(self) -> bytes:
        """Return at least one waiting line, and as many as fit into one write to a pipe."""
        lines = [self._waiting.popleft()]
        size = len(lines[0])
        while self._waiting and size + len(self._waiting[0]) <= select.PIPE_BUF:
            lines.append(self._waiting.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    def _put(self, lines: bytes) -> bool:
        """Return whether the lines were written, after any delay; False if the disk is full or no reader is left."""
        rest = b"\n" + lines if self._torn else lines
        while rest:
            try:
                rest = rest[os.write(self.name, rest) :]
                self._torn = True
            except BlockingIOError:  # another process has set O_NONBLOCK
                _sleep(_PAUSE_SECONDS)
            except OSError:
                return False
        self._torn = False
        return True


STDOUT, STDERR = Output(1), Output(2)
for _output in (STDOUT, STDERR):
    os.register_at_fork(after_in_child=_output.forget)
    atexit.register(_output.finish)


def text_of(output: Output) -> io.TextIOWrapper:
    """Return it as a text stream, to replace sys.stdout or sys.stderr."""
    return io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", line_buffering=True)
