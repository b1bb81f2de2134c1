"""The programs that the live tests start: each in a process group of its own, its output kept, and ended by its pid."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_START_SECONDS = 240  # generous: other people's load is on the machine
_END_SECONDS = 20
_MOST_WORKERS = 16
# Even `kill -9` of pytest then ends its children; gunicorn's and nginx's workers end with their masters.
_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
# Nothing of the developer's own environment reaches a child but where programs are and how text is spelled.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


def wait_for(what: str, look: Callable[[], T | None], seconds: float = _START_SECONDS) -> T:
    """Return what `look` finds as soon as it finds something. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}, in vain"
        time.sleep(0.01)


def ports(worker: str) -> Iterator[int]:
    """Give each port of a worker of pytest (gw0, gw1, …) once: others side by side have different ones."""
    number = int(worker.removeprefix("gw")) % _MOST_WORKERS
    # Not of those that the system gives to outgoing connections, which begin at 32768.
    mine = range(20000 + number, 32000, _MOST_WORKERS)
    yield from random.sample(mine, len(mine))


_PORTS = ports(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))


def free_port() -> int:
    """Return a port that nobody listens on, and that was not returned before, here or in another worker."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is left")


class Child:
    """A running program. `log` gathers its standard output and error, unless they go to the descriptor `output`.

    It has the descriptors `pass_fds` under their numbers.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        log: Path,
        env: Mapping[str, str],
        output: int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self.shown = 0  # how much of the log earlier tests have had
        kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*_WITH_PARENT, *command],
                cwd=folder,
                # Killed, they leave temporary files behind: where pytest removes them.
                env={**kept, "PYTHONUNBUFFERED": "1", "TMPDIR": str(log.parent), **env},
                stdin=subprocess.DEVNULL,
                stdout=file if output is None else output,
                stderr=subprocess.STDOUT,
                process_group=0,
                pass_fds=pass_fds,
            )

    def wait_until_ready(self, ready: Callable[[], T | None]) -> T:
        """Return what `ready` returns once it is something. Raises AssertionError with the log if the program ends."""

        def look() -> T | None:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.text()}"
            return ready()

        return wait_for(f"{self.name} to be ready", look)

    def ready_port(self) -> int:
        """Wait for the line `ready PORT` and return the port."""
        line = self.wait_until_ready(lambda: re.search(r"^ready (\d+)$", self.text(), re.MULTILINE))
        return int(line[1])

    def text(self) -> str:
        """Return all that the program has said so far."""
        return self.log.read_text(errors="replace")

    def news(self) -> str:
        """Return what the program has said since the last test began."""
        return self.log.read_bytes()[self.shown :].decode(errors="replace")

    def kill(self) -> None:
        """End it at once, with all that it has started: nothing is said to anybody, and nothing is left behind."""
        with contextlib.suppress(ProcessLookupError):  # nobody is left in its group
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it in good order, and return its exit status."""
        self.process.terminate()
        return self.process.wait(_END_SECONDS)
