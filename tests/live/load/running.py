"""The programs of the load tests while they run: the upstream, a gateway in front of it, and clients."""

import json
from pathlib import Path
from typing import NamedTuple

import requests

from tests.live.children import Child
from tests.live.conftest import PYTHON, Start
from tests.live.load import proc
from tests.live.load.asking import Heard, Plan
from tests.live.load.script import PROTOCOLS
from tests.live.talk import SECONDS


class Upstream:
    """A load upstream. `settings` are those of a gateway in front of it, in all protocols."""

    def __init__(self, start: Start) -> None:
        child = start("load upstream", PYTHON, "-m", "tests.live.load.upstream", "--port", "0")
        self.address = f"http://127.0.0.1:{child.ready_port()}"
        self.settings = {
            "BASE_URL": self.address,
            "CHATKIT_DIALECT": "published",
            "VERCEL_MINIMAL_API_URL": f"{self.address}/ai",
            "OPENAI_BASE_URL": f"{self.address}/v1",
            "OPENAI_MODELS": PROTOCOLS["openai"].model,
            "RETRIES": "0",
            "BREAKER_FAILURES": "0",
            # On a busy machine, too, nothing that is meant to be silent or late must time out.
            "REQUEST_TIMEOUT_SECONDS": "200",
            "CONNECT_TIMEOUT_SECONDS": "60",
        }

    def seen(self) -> dict[str, float]:
        return requests.get(f"{self.address}/seen", timeout=SECONDS).json()

    def release(self) -> None:
        """Let all held answers come to their end."""
        requests.get(f"{self.address}/release", timeout=SECONDS)


class Gateway(NamedTuple):
    child: Child
    base: str

    def workers(self) -> list[int]:
        return proc.workers(self.child.process.pid)


class Clients:
    """A client process that asks."""

    def __init__(self, start: Start, path: Path, plan: Plan) -> None:
        plan.write(path)
        self.child = start("load clients", PYTHON, "-m", "tests.live.load.client", str(path))
        self._path = path

    def wait_until_begun(self) -> None:
        self.child.wait_until_ready(lambda: "begun" in self.child.text())

    def asking(self) -> bool:
        return self.child.process.poll() is None

    def heard(self) -> list[Heard]:
        """Wait for the end, and return it."""
        assert self.child.process.wait(240) == 0, self.child.text()
        return [Heard(*json.loads(line)) for line in self._path.with_suffix(".heard").read_text().splitlines()]
