import os
import select
import signal
import subprocess
import sys
import threading

import pytest

from gpt_oss_proxy.demo.children import Children, Ended, Stopped

READY = [sys.executable, "-c", "import time; print('ready 4711', flush=True); time.sleep(60)"]
# Starts a child that would live for a minute, and says its process id.
PARENT = """
import sys, threading, time
from gpt_oss_proxy.demo.children import Children
child = Children(threading.Event()).start("The child", [sys.executable, "-c", "import time; time.sleep(60)"])
print(child.process.pid, flush=True)
time.sleep(60)
"""


def test_a_child_that_is_ready_tells_its_port_and_is_ended() -> None:
    children = Children(threading.Event())
    child = children.start("The child", READY, reads=True)
    assert children.ready_port(child, 10) == 4711
    children.stop()
    assert child.process.poll() == -signal.SIGTERM


def test_a_child_that_lingers_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_oss_proxy.demo.children._STOP_SECONDS", 0.1)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready 1', flush=True); signal.pause()"
    children = Children(threading.Event())
    child = children.start("The child", [sys.executable, "-c", deaf], reads=True)
    children.ready_port(child, 10)
    children.stop()
    assert child.process.poll() == -signal.SIGKILL


def test_a_child_that_dies_ends_the_demo_with_one_line() -> None:
    children = Children(threading.Event())
    children.start("The child", [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(Ended, match=r"^The child ended unexpectedly \(exit status 3\), so the demo stops\.$"):
        children.watch()
    children.stop()


def test_a_child_that_never_gets_ready_ends_the_demo() -> None:
    children = Children(threading.Event())
    child = children.start("The child", [sys.executable, "-c", "raise SystemExit(3)"], reads=True)
    with pytest.raises(Ended, match="exit status 3"):
        children.ready_port(child, 10)
    children.stop()


def test_waiting_ends_when_the_demo_is_to_stop_or_the_time_is_over() -> None:
    stopping = threading.Event()
    children = Children(stopping)
    with pytest.raises(Ended, match=r"^Waited 0 seconds for rain, in vain\.$"):
        children.wait_until(lambda: False, "rain", 0)
    stopping.set()
    with pytest.raises(Stopped):
        children.wait_until(lambda: False, "rain", 10)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_a_killed_demo_leaves_no_child() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        # A pidfd is readable when its process has ended.
        assert select.select([child], [], [], 2)[0] == [child]
    finally:
        os.close(child)
