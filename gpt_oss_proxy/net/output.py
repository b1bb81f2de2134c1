"""Standard output and standard error for a process that must not wait for their readers.

A write to a pipe that is full blocks the whole process, with all its requests, until somebody reads; O_NONBLOCK is no
way out, for it belongs to all processes that share the pipe. So a thread of the operating system writes, not one of
gevent's, and what it has not written yet is bounded: what does not fit is dropped and counted, and a line says how many
were dropped when output flows again.
"""

import atexit
import io
import os
import select
from collections import deque
from typing import Any

from gevent import monkey

# gevent's own would run in the thread of all requests.
_allocate_lock: Any = monkey.get_original("_thread", "allocate_lock")
_start_new_thread: Any = monkey.get_original("_thread", "start_new_thread")
_sleep: Any = monkey.get_original("time", "sleep")

_MOST_BYTES = 512 * 1024  # about 1,500 lines of the access log
_PAUSE_SECONDS = 0.1  # between two rounds of writing: what comes meanwhile is written together
_LAST_SECONDS = 1.0  # what the end of the process waits for a reader


class Output(io.RawIOBase):
    """A descriptor that takes whole lines at once, from any greenlet, the hub and signal handlers, and never raises.

    Lines written together stay whole among those of other processes: no write is longer than a pipe takes in one piece,
    unless a single line is.
    """

    def __init__(self, descriptor: int) -> None:
        self.name = descriptor  # as a file has it that was opened by its number
        self.forget()

    def forget(self) -> None:
        """Forget what is not written yet. Called in a forked process: its parent writes that, by its own thread."""
        self._waiting: deque[bytes] = deque()
        self._writing = _allocate_lock()  # held while there is a thread
        # Each number is changed by one thread only: the first two by those who write, the others by the thread.
        self._taken_bytes = 0
        self._refused_lines = 0
        self._done_bytes = 0
        self._failed_lines = 0
        self._reported_lines = 0
        self._torn = False  # half a line was written

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.name

    def close(self) -> None:
        """Do nothing: the descriptor is the process's own, and others may still write."""

    def write(self, data: Any) -> int:
        """Take whole lines, to be written within about a tenth of a second."""
        lines = bytes(data)
        if self._taken_bytes - self._done_bytes + len(lines) > _MOST_BYTES:
            self._refused_lines += lines.count(b"\n")
        else:
            self._taken_bytes += len(lines)
            self._waiting.append(lines)
        if self._writing.acquire(False):
            try:
                _start_new_thread(self._work, ())
            except RuntimeError:  # the system has no thread for us: the next write asks again
                self._writing.release()
        return len(lines)

    def finish(self, seconds: float = _LAST_SECONDS) -> None:
        """Wait until all is written, but not longer than this. Called at the end of the process."""
        if self._writing.acquire(timeout=seconds):
            self._writing.release()

    def _work(self) -> None:
        """Write for as long as there is something to write."""
        mine = True
        while mine:
            self._write_waiting()
            _sleep(_PAUSE_SECONDS)
            if not self._waiting:
                self._writing.release()
                # Who has written since found the lock taken.
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
        """Return as many of the lines that wait as a pipe takes in one piece, at least one."""
        lines = [self._waiting.popleft()]
        size = len(lines[0])
        while self._waiting and size + len(self._waiting[0]) <= select.PIPE_BUF:
            lines.append(self._waiting.popleft())
            size += len(lines[-1])
        return b"".join(lines)

    def _put(self, lines: bytes) -> bool:
        """Return whether they are written, however long that takes; not, if the disk is full or no reader is left."""
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
    """Return it as a text stream, in the place of sys.stdout or sys.stderr."""
    return io.TextIOWrapper(output, encoding="utf-8", errors="backslashreplace", line_buffering=True)
