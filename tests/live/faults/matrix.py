"""The gateways in front of the fault upstream, and all cases asked of them at once, as far as that may be.

The light cases run many at once, a gateway for each protocol, and so does what sends without a pause; one by one what
is too much for short limits of time: two gateways with patience take them.
"""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from tests.live.children import Child, free_port
from tests.live.conftest import PYTHON, Start, answers
from tests.live.faults.answers import OPENAI, PROTOCOLS, Protocol
from tests.live.faults.asking import Client, chat_text, new_word
from tests.live.faults.outcomes import Case, Load
from tests.live.talk import stream

AT_ONCE = 12  # light cases of one gateway
QUICK = {"REQUEST_TIMEOUT_SECONDS": "3", "TOTAL_TIMEOUT_SECONDS": "8"}
PATIENT = {"REQUEST_TIMEOUT_SECONDS": "20", "TOTAL_TIMEOUT_SECONDS": "80"}
SHORT = {"REQUEST_TIMEOUT_SECONDS": "1"}

Key = tuple[Any, Protocol, bool]  # a case or the name of a damage, and whether it is streamed


class Gateway:
    """A gateway, watched: how large it grows, and how long others wait for it. `secret` no answer may hold."""

    def __init__(self, child: Child, base: str, secret: str) -> None:
        self.child = child
        self.base = base
        self.clients = {protocol: Client(base, protocol, (secret,)) for protocol in PROTOCOLS}
        for client in self.clients.values():
            client.healthy(streamed=False)  # what is loaded once is no growth
        self._at_first = self._memory_mb("VmRSS")
        self.slowest_health = 0.0
        self._watched = True
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def grown_mb(self) -> tuple[int, int]:
        """Return by how much its worker is larger than at first: now, and when it was largest."""
        return self._memory_mb("VmRSS") - self._at_first, self._memory_mb("VmHWM") - self._at_first

    def stop_watching(self) -> None:
        self._watched = False
        self._watcher.join()

    def _memory_mb(self, name: str) -> int:
        pid = self.child.process.pid
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        lines = Path(f"/proc/{worker}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) // 1024

    def _watch(self) -> None:
        """Ask how it is, all the time: no fault may keep it from answering others."""
        while self._watched:
            began = time.monotonic()
            healthy = answers(f"{self.base}/healthz")
            seconds = time.monotonic() - began if healthy else float("inf")
            self.slowest_health = max(self.slowest_health, seconds)
            time.sleep(0.5)


class Gateways:
    """A quick one for each protocol, two with patience, and one with less of it than the end of an answer may take."""

    def __init__(self, start: Start, upstream: str) -> None:
        self.upstream = upstream
        limits = {
            **{protocol.slug: QUICK for protocol in PROTOCOLS},
            "first": PATIENT,
            "second": PATIENT,
            "short": SHORT,
        }
        settings = {name: {**own, **addresses(upstream)} for name, own in limits.items()}
        port = upstream.rpartition(":")[2]
        self._gateways = {
            name: Gateway(child, base, port) for name, (child, base) in start_gateways(start, settings).items()
        }
        self.short = self._gateways["short"]

    def __iter__(self) -> Iterator[Gateway]:
        return iter(self._gateways.values())

    def quick(self, protocol: Protocol) -> Gateway:
        return self._gateways[protocol.slug]

    def patient(self, protocol: Protocol) -> Gateway:
        return self._gateways["first" if PROTOCOLS.index(protocol) % 2 else "second"]

    def stop_watching(self) -> None:
        for gateway in self:
            gateway.stop_watching()


class Matrix:
    """What came of all that the selected tests want to know: asked together, each load when the first test wants it."""

    def __init__(self, gateways: Gateways, wanted: list[Key]) -> None:
        self._gateways = gateways
        self._wanted = wanted
        self._runs: dict[Key, Future[Any]] = {}

    def __getitem__(self, key: Key) -> Any:
        if key not in self._runs:
            self._ask(load_of(key))
        return self._runs[key].result()

    def _ask(self, load: Load) -> None:
        with contextlib.ExitStack() as stack:
            # By gateway. The pools are left when all of their runs are done.
            pools: dict[Gateway, ThreadPoolExecutor] = {}
            for key in self._wanted:
                _, protocol, _ = key
                if load_of(key) == load:
                    gateway = self._gateways.patient(protocol) if load == "heavy" else self._gateways.quick(protocol)
                    if gateway not in pools:
                        at_once = 1 if load == "heavy" else AT_ONCE
                        pools[gateway] = stack.enter_context(ThreadPoolExecutor(at_once))
                    self._runs[key] = self._submit(pools[gateway], gateway, key)

    def _submit(self, pool: ThreadPoolExecutor, gateway: Gateway, key: Key) -> Future[Any]:
        fault, protocol, streamed = key
        client = gateway.clients[protocol]
        if isinstance(fault, Case):
            return pool.submit(client.run, fault, streamed)
        if fault.startswith("live "):  # with times of arrival
            text = chat_text(fault.removeprefix("live "), new_word(), protocol)
            return pool.submit(stream, gateway.base, protocol.model, text)
        return pool.submit(client.ask, fault, new_word(), streamed)


def load_of(key: Key) -> Load:
    fault, _, _ = key
    return fault.load if isinstance(fault, Case) else "light"


def addresses(upstream: str) -> dict[str, str]:
    """Return the settings of a gateway all of whose upstreams are at one address."""
    return {"BASE_URL": upstream, "VERCEL_MINIMAL_API_URL": f"{upstream}/api/chat", "OPENAI_BASE_URL": f"{upstream}/v1"}


def start_gateways(start: Start, settings: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[Child, str]]:
    """Start gateways side by side, and return them with their addresses when all are ready.

    What the faults are told as is the gateway's alone to decide, so it neither retries nor breaks circuits here.
    """
    gunicorn = str(Path(PYTHON).parent / "gunicorn")
    plain = {"CHATKIT_DIALECT": "published", "WEB_CONCURRENCY": "1", "RETRIES": "0", "BREAKER_FAILURES": "0"}
    started = {}
    for name, own in settings.items():
        port = str(free_port())
        env = {**plain, **own, "OPENAI_MODELS": OPENAI.model, "HOST": "127.0.0.1", "PORT": port}
        child = start(f"gateway {name}", gunicorn, "-c", "gunicorn.conf.py", "wsgi:app", env=env)
        started[name] = child, f"http://127.0.0.1:{port}"
    for child, base in started.values():
        child.wait_until_ready(lambda base=base: answers(f"{base}/readyz"))
    return started


def seen_by(upstream: str) -> dict[str, Any]:
    """Return what the fault upstream was asked."""
    return requests.get(f"{upstream}/seen", timeout=30).json()
