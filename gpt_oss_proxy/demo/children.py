"""The demo's child processes: none outlives the demo, all are watched, and they end together."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_STOP_SECONDS = 5


class Ended(Exception):
    """The demo cannot continue: the message is one line for a person."""


class Stopped(Exception):
    """The demo was asked to stop."""


@dataclass(frozen=True)
class Child:
    """A running part of the demo. `stop_signal` ends it quickly and cleanly."""

    name: str
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals


class Children:
    """All children, in the order of their start. `stopping` is set when the demo is to stop."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._children: list[Child] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        stop_signal: signal.Signals = signal.SIGTERM,
        *,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        reads: bool = False,
    ) -> Child:
        """Start a child. With `reads`, `ready_port` can read its standard output.

        Its own process group keeps the terminal's Ctrl-C from it: only the demo gets the signal, and ends its children.
        """
        process = subprocess.Popen(  # noqa: S603  (our own commands)
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if reads else None,
            process_group=0,
            preexec_fn=_end_with_parent(stop_signal),
        )
        child = Child(name, process, stop_signal)
        self._children.append(child)
        return child

    def ready_port(self, child: Child, seconds: float) -> int:
        """Wait for the child's line `ready PORT` and return the port. Raises Ended, Stopped."""
        output = child.process.stdout
        assert output is not None, "started with reads=True"  # noqa: S101
        self.wait_until(lambda: bool(select.select([output], [], [], 0)[0]), f"{child.name} to start", seconds)
        line = output.readline().split()
        if len(line) != 2 or line[0] != b"ready":
            raise Ended(f"{child.name} did not start (exit status {child.process.wait()}).")
        return int(line[1])

    def wait_until(self, happened: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait for `happened`. Raises Ended if a child dies or time runs out, Stopped when the demo is to stop."""
        deadline = time.monotonic() + seconds
        while not happened():
            self._check()
            if time.monotonic() > deadline:
                raise Ended(f"Waited {seconds:g} seconds for {what}, in vain.")

    def watch(self) -> NoReturn:
        """Wait until the demo is to stop or a child dies. Raises Stopped, Ended."""
        while True:
            self._check()

    def _check(self) -> None:
        if self._stopping.wait(0.05):
            raise Stopped
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                raise Ended(f"{child.name} ended unexpectedly (exit status {status}), so the demo stops.")

    def stop(self) -> None:
        """End all children, the latest first, and wait for them; kill the process groups of those that linger."""
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.send_signal(child.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(_STOP_SECONDS)
            _kill_group(child.process.pid)
            child.process.wait()
            if child.process.stdout is not None:
                child.process.stdout.close()


def _kill_group(group: int) -> None:
    # Usually the group is empty by now; macOS reports EPERM if only zombies are left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _end_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """Return what a child does before its program starts, so that even `kill -9` of the demo ends it too.

    Linux sends a process the signal it has requested when its parent dies (prctl(2), PR_SET_PDEATHSIG). The request
    survives exec, but not fork: gunicorn's workers notice by themselves that their master has gone. Other systems have
    no such call; there a killed demo leaves its children running, but Ctrl-C and SIGTERM still end them.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(stop_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)

    return ask
