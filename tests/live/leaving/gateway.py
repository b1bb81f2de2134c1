"""A gateway in front of the test's upstream: what it holds at a moment, what it logs, connections to its workers."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tests.live.children import Child
from tests.live.leaving.address import greenlets_address
from tests.live.leaving.client import Client
from tests.live.leaving.upstream import Upstream
from tests.live.load import proc

SETTLED_SECONDS = 3.0
_LOOK_SECONDS = 0.02
_LOG_SECONDS = 3.0
_GAUGE = re.compile(r"^gpt_oss_proxy_((?:upstream_)?running|upstream_circuit_open)(\S*) (\S+)$", re.MULTILINE)
_OFFER = re.compile(r"[0-9a-f]{64}\.\d+")
_NUMBER = re.compile(r"\d+")
_METRICS = ("counter_.db", "histogram_.db")  # opened when the first requests are counted

Record = dict[str, Any]


class Held(NamedTuple):
    """What a gateway holds for requests, and how much of each.

    `gauges` are its own: running requests and circuits. Its descriptors are without those of idle connections to the
    upstream. `answers` are those that the upstream has not ended, `offers` those that workers have for others.
    """

    gauges: dict[str, float]
    circuits: dict[str, str]
    descriptors: dict[str, int]
    greenlets: dict[str, int]
    answers: dict[str, int]
    offers: dict[str, int]

    def changes(self, after: "Held") -> dict[str, Any]:
        """Return what differs: name → (then, now)."""
        kinds = [(was, now, sorted(was.keys() | now.keys())) for was, now in zip(self, after, strict=True)]
        found = [(name, was.get(name, 0), now.get(name, 0)) for was, now, names in kinds for name in names]
        return {name: (was, now) for name, was, now in found if was != now}


class Gateway:
    """`said` is what it has logged besides records."""

    def __init__(self, child: Child, base: str, upstream: Upstream) -> None:
        self.base = base
        self.upstream = upstream
        self.said: list[str] = []
        self._child = child
        child.shown = child.log.stat().st_size  # how it has begun is no matter
        (self._folder,) = child.log.parent.glob(f"gpt_oss_proxy-{child.process.pid}-*")
        self._workers = proc.workers(child.process.pid)
        self._connected: list[list[Client]] = [[] for _ in self._workers]
        self._records: dict[str, list[Record]] = {}

    # What it holds

    async def held(self) -> Held:
        descriptors: Counter[str] = sum(map(self._descriptors, self._workers), Counter())
        greenlets: Counter[str] = Counter()
        for pid in self._workers:
            reader, writer = await asyncio.open_unix_connection(greenlets_address(pid))
            greenlets.update(json.loads(await reader.read()))
            writer.close()
            await writer.wait_closed()
        client = await self.connect()
        gauges = _GAUGE.findall((await client.get("/metrics")).decode())
        circuits = json.loads(await client.get("/readyz"))["circuits"]
        await client.drop()
        return Held(
            {f"{name}{labels}": float(value) for name, labels, value in gauges},
            circuits,
            dict(descriptors),
            dict(greenlets),
            {"answers": self.upstream.open},
            {"offers": sum(bool(_OFFER.fullmatch(path.name)) for path in self._folder.iterdir())},
        )

    async def steady(self) -> Held:
        """Return what it holds as soon as that stays the same."""
        last, held = None, await self.held()
        while held != last:
            await asyncio.sleep(_LOOK_SECONDS)
            last, held = held, await self.held()
        return held

    async def settle(self, before: Held) -> dict[str, Any]:
        """Return what it holds otherwise than before, as soon as that is nothing, or after a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLED_SECONDS
        while (changes := before.changes(await self.held())) and loop.time() < deadline:
            await asyncio.sleep(_LOOK_SECONDS)
        return changes

    async def wait_for_circuit(self, upstream: str, state: str) -> None:
        while (await self.held()).circuits[upstream] != state:
            await asyncio.sleep(_LOOK_SECONDS)

    def _descriptors(self, pid: int) -> "Counter[str]":
        """Return how many there are of each kind."""
        pooled = sum(link.there == self.upstream.port for link in proc.links(pid))
        found = Counter({"socket:[]": -pooled})
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[_NUMBER.sub("", descriptor.readlink().name)] += 1
        for name in _METRICS:
            del found[name]
        return found

    # What it logs

    def records_of(self, request_id: str) -> list[Record]:
        """Return the access log's records of this request."""
        said = self._child.log.read_bytes()[self._child.shown :]
        said = said[: said.rfind(b"\n") + 1]
        self._child.shown += len(said)  # thousands of lines would hide a failed test's reason
        for line in said.decode(errors="replace").splitlines():
            if line.startswith('{"id":'):
                record = json.loads(line)
                self._records.setdefault(record["id"], []).append(record)
            else:
                self.said.append(line)
        return self._records.get(request_id, [])

    async def record_of(self, request_id: str) -> Record:
        """Return the first one, when it is there: the request is over."""
        while not (found := self.records_of(request_id)):
            await asyncio.sleep(_LOOK_SECONDS)
        return found[0]

    async def logged(self, request_ids: Iterable[str]) -> None:
        """Wait until each of these has a record. The log is written behind the requests; what is missing stays so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOG_SECONDS):
                for request_id in request_ids:
                    await self.record_of(request_id)

    # Connections

    async def connect(self, worker: int | None = None, *, buffers: bool = True) -> Client:
        """Return a connection to any worker, or one of those that are `connected` to this one."""
        return await Client.connect(self.base, buffers=buffers) if worker is None else self._connected[worker].pop()

    @contextlib.asynccontextmanager
    async def connected(self, *numbers: int) -> AsyncIterator[None]:
        """Have so many connections to each worker; those that are left are closed in the end.

        While clients connect to one worker the others stand still.
        """
        try:
            for pid, clients, number in zip(self._workers, self._connected, numbers, strict=True):
                async with _standing_still(other for other in self._workers if other != pid):
                    for _ in range(number):
                        clients.append(await Client.connect(self.base))
                        await clients[-1].get("/healthz")
            yield
        finally:
            for clients in self._connected:
                for client in clients:
                    await client.drop()
                clients.clear()


@contextlib.asynccontextmanager
async def _standing_still(pids: Iterable[int]) -> AsyncIterator[None]:
    stopped = list(pids)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        while any(_state(pid) != "T" for pid in stopped):
            await asyncio.sleep(0)
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
