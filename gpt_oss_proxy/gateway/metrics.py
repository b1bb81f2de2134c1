"""Prometheus metrics of all workers, from what the access log knows of each request, and the state of the upstreams.

The library keeps counts of several processes in files of the folder PROMETHEUS_MULTIPROC_DIR, which gunicorn.conf.py
makes; without it (in tests) they are those of this process.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gpt_oss_proxy.gateway.access_log import Record
from gpt_oss_proxy.gateway.guard import Guard
from gpt_oss_proxy.gateway.places import Places

_FILE_BYTES = 1024 * 1024  # prometheus_client's own first size
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


_process_number = os.getpid()


def _note_process() -> None:
    global _process_number
    _process_number = os.getpid()


os.register_at_fork(after_in_child=_note_process)


def _process() -> int:
    """Return this process's number. The library wants it at each count, and to ask the system costs more than that."""
    return _process_number


if values.ValueClass is not values.MutexValue:  # it counts for several processes
    values.ValueClass = values.MultiProcessValue(_process)  # type: ignore[no-untyped-call] # as its documentation has it


class Metrics:
    """Counts requests, and tells all counts as Prometheus text."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, places: Places, guards: Sequence[Guard], *, folder: str | None) -> None:
        self._registry = CollectorRegistry()
        self._folder = folder
        self._broken = False
        self._state = _State(places, guards)
        # The path is not a label: anybody can ask for any.
        self._requests = Counter(
            "gpt_oss_proxy_requests",
            "Requests, by how they ended: ok, client_gone, or the error's code.",
            ["upstream", "stream", "status", "outcome"],
            registry=self._registry,
        )
        self._tries = Counter(
            "gpt_oss_proxy_upstream_tries", "How often upstreams were asked.", ["upstream"], registry=self._registry
        )
        self._first = Histogram(
            "gpt_oss_proxy_first_events_seconds",
            "From the request to the first events of its answer.",
            ["upstream"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._total = Histogram(
            "gpt_oss_proxy_request_seconds",
            "From the request to its end.",
            ["upstream"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        # A look-up by labels costs the library more than the counting.
        self._requests_of = lru_cache(1024)(self._requests.labels)
        self._tries_of = lru_cache(64)(self._tries.labels)
        self._first_of = lru_cache(64)(self._first.labels)
        self._total_of = lru_cache(64)(self._total.labels)

    def reserve(self) -> None:
        """Make room for this process's counts: on a full disk the first write into a sparse file would kill it.

        Raises OSError if there is none; then nothing is counted here.
        """
        try:
            for kind in ("counter", "histogram") if self._folder else ():
                with open(f"{self._folder}/{kind}_{os.getpid()}.db", "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
        except OSError:
            self._broken = True
            self.forget(os.getpid())
            raise

    def forget(self, pid: int) -> None:
        """Remove what a process has left that died while it made room; half a file would break all others' sums."""
        for path in Path(self._folder or "/nowhere").glob(f"*_{pid}.db"):
            with contextlib.suppress(OSError):
                if path.stat().st_size < _FILE_BYTES:
                    path.unlink()

    def observe(self, record: Record) -> None:
        """Count a request that is over."""
        if self._broken:
            return
        self._requests_of(record.upstream, str(record.stream).lower(), str(record.status), record.outcome).inc()
        for upstream in record.asked:
            self._tries_of(upstream).inc()
        if record.upstream:
            self._total_of(record.upstream).observe(record.total_seconds)
            first = record.first_seconds
            if first is not None:
                self._first_of(record.upstream).observe(first)

    def text(self) -> bytes:
        """Return everything, summed over all workers, those that have ended included."""
        counted = self._registry
        if self._folder and Path(self._folder).is_dir():
            counted = CollectorRegistry()
            MultiProcessCollector(counted, self._folder)  # type: ignore[no-untyped-call] # the library's own lack
        states = CollectorRegistry()
        states.register(self._state)
        return generate_latest(counted) + generate_latest(states)


class _State(Collector):
    """What is now: requests that run, and circuits."""

    def __init__(self, places: Places, guards: Sequence[Guard]) -> None:
        self._places = places
        self._guards = guards

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("gpt_oss_proxy_running", "Chats that run now.", value=self._places.taken)
        running = GaugeMetricFamily("gpt_oss_proxy_upstream_running", "Chats at an upstream now.", labels=["upstream"])
        circuit = GaugeMetricFamily(
            "gpt_oss_proxy_upstream_circuit_open",
            "1 while an upstream is left alone, 0.5 while it is tried, else 0.",
            labels=["upstream"],
        )
        for guard in self._guards:
            running.add_metric([guard.upstream.name], guard.places.taken)
            circuit.add_metric([guard.upstream.name], {"closed": 0, "half_open": 0.5, "open": 1}[guard.breaker.state])
        yield from (running, circuit)
