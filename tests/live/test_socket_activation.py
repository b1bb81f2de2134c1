"""A listening socket that another process holds: systemd, or a holder, hands it to one gateway after the other."""

import contextlib
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.children import Child, free_port, wait_for
from tests.live.conftest import PYTHON, Start, answers, needs
from tests.live.load.proc import workers
from tests.live.load.steady import MODEL, Steady
from tests.live.talk import SECONDS, Upstream, chat, text_of

GUNICORN = (str(Path(PYTHON).parent / "gunicorn"), "-c", "gunicorn.conf.py", "wsgi:app")
# Become the program argv[2:], with the descriptor argv[1] where systemd's service manager puts the first socket.
HAND_OVER = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
RESTARTS = 5


def settings(chatkit: Upstream) -> dict[str, str]:
    return {
        "BASE_URL": chatkit.address,
        "CHATKIT_DIALECT": "published",
        "WEB_CONCURRENCY": "2",
        "PORT": str(free_port()),
    }


def test_a_gateway_that_systemd_starts_answers_on_systemds_socket_also_after_a_reload(
    start: Start, chatkit: Upstream
) -> None:
    activate, address, env = needs("systemd-socket-activate"), f"127.0.0.1:{free_port()}", settings(chatkit)
    options = [f"--setenv={name}={value}" for name, value in env.items()]
    gateway = start("gateway of systemd-socket-activate", activate, f"--listen={address}", *options, *GUNICORN)
    base = f"http://{address}"
    gateway.wait_until_ready(lambda: answers(f"{base}/readyz"))
    assert text_of(chat(base, MODEL, "hello")) == "hello"
    banner = f"gpt_oss_proxy answers on http://localhost:{address.rpartition(':')[2]} with 2 worker(s)"
    assert banner in gateway.text()
    assert not answers(f"http://127.0.0.1:{env['PORT']}/healthz")

    before = set(workers(gateway.process.pid))
    gateway.process.send_signal(signal.SIGHUP)
    wait_for("other workers", lambda: len(after := set(workers(gateway.process.pid))) == 2 and not after & before)
    assert text_of(chat(base, MODEL, "hello")) == "hello"
    assert gateway.stop() == 0


class Holder:
    """Holds the listening socket and the notification socket, as systemd does, and starts gateways that have both."""

    def __init__(self, start: Start, folder: Path, env: dict[str, str]) -> None:
        self._start = start
        self._env = {**env, "NOTIFY_SOCKET": str(folder / "notify")}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.base = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notified.settimeout(SECONDS)
        self._notified.bind(self._env["NOTIFY_SOCKET"])

    def close(self) -> None:
        self._listener.close()
        self._notified.close()

    def gateway(self) -> Child:
        """Start one, and return it when it has said that it is ready, as `systemctl start` does with Type=notify."""
        fd = self._listener.fileno()
        child = self._start(
            "gateway of the holder", PYTHON, "-c", HAND_OVER, str(fd), *GUNICORN, env=self._env, pass_fds=[fd]
        )
        said, [(_, _, credentials)], _, _ = self._notified.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
        assert b"READY=1" in said.splitlines()
        assert struct.unpack("3i", credentials)[0] == child.process.pid  # systemd would not believe another process
        return child


@pytest.fixture
def holder(start: Start, chatkit: Upstream, tmp_path: Path) -> Iterator[Holder]:
    with contextlib.closing(Holder(start, tmp_path, settings(chatkit))) as held:
        yield held


def stop_then_start(holder: Holder, old: Child) -> Child:
    """Do what `systemctl restart` does."""
    assert old.stop() == 0
    return holder.gateway()


def start_then_stop(holder: Holder, old: Child) -> Child:
    """Do what a stand-in makes possible: the next one already takes connections."""
    new = holder.gateway()
    assert old.stop() == 0
    return new


@pytest.mark.alone
@pytest.mark.parametrize(("restart", "bound"), [(stop_then_start, 15), (start_then_stop, 5)])
def test_five_restarts_under_load_refuse_no_request_and_break_none(
    holder: Holder, restart: Callable[[Holder, Child], Child], bound: float
) -> None:
    load, gateway = Steady(holder.base), holder.gateway()
    with load.asking():
        for _ in range(RESTARTS):
            load.go_on()
            gateway = restart(holder, gateway)
    assert gateway.stop() == 0
    longest = max(load.waits)
    figures = (
        f"{restart.__name__}: {len(load.waits)} answers over {RESTARTS} restarts, the longest wait {longest:.2f} s"
    )
    print(f"\n{figures}", file=sys.stderr, flush=True)
    assert longest < bound
