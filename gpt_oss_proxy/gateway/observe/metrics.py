"""Prometheus metrics of all workers, from the access log's record of each request, and the state of the upstreams.

The library keeps the counts of several processes in files of the folder PROMETHEUS_MULTIPROC_DIR, which
gunicorn.conf.py creates; without it (in tests) the counts are those of this process. Requests are counted in groups,
at most a second late: one by one the library's locks and files would cost a request more than its client's socket.
Requests that a killed worker has not counted yet are lost.
"""

import collections
import contextlib
import logging
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path

import gevent
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from gpt_oss_proxy import __version__
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.gateway.limits import ConcurrencyLimit
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.upstreams.base import Upstream

_log = logging.getLogger(__name__)
_FILE_BYTES = 1024 * 1024  # prometheus_client's own first size
_UNFINISHED = ".new"  # suffix of files that the library does not read yet
_LATE_SECONDS = 1.0
_MOST_NOTED = 1024  # requests; counting them takes a millisecond
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counts requests, and renders all counts as Prometheus text."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(
        self, places: ConcurrencyLimit, gates: Sequence[UpstreamGate], *, folder: str | None, commit: str = ""
    ) -> None:
        self._registry = CollectorRegistry()
        self._folder = folder
        self._broken = False
        self._state = _State(places, gates, commit)
        self._gates = gates
        # The path is not a label, because a client can request any path; nor are models that do not exist.
        self._requests = Counter(
            "gpt_oss_proxy_requests",
            "Requests, by how they ended: ok, client_gone, or the error's code.",
            ["upstream", "model", "stream", "status", "outcome"],
            registry=self._registry,
        )
        self._tries = Counter(
            "gpt_oss_proxy_upstream_tries", "Attempts at upstreams.", ["upstream"], registry=self._registry
        )
        self._tokens = Counter(
            "gpt_oss_proxy_tokens",
            "Tokens of answers, those that were cut or left included.",
            ["upstream", "model", "kind"],
            registry=self._registry,
        )
        self._unknown_reasons = Counter(
            "gpt_oss_proxy_unknown_finish_reasons",
            "Answers with a finish reason that is not known.",
            ["upstream"],
            registry=self._registry,
        )
        self._first = _Histogram(
            "gpt_oss_proxy_first_events_seconds",
            "From the request to the first events of its answer: of a stream, its first token.",
            ["upstream", "model"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._total = _Histogram(
            "gpt_oss_proxy_request_seconds",
            "From the request to its end.",
            ["upstream"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._noted: list[Record] = []  # to be counted
        self._counted_reasons: collections.Counter[Upstream] = collections.Counter()
        self._is_due = False

    def reserve(self) -> None:
        """Allocate space for this process's counts: on a full disk the first write to a sparse file would kill it.

        Raises OSError if there is no space; then this process counts nothing.
        """
        try:
            for kind in ("counter", "histogram") if self._folder else ():
                name = f"{self._folder}/{kind}_{os.getpid()}"
                with open(name + _UNFINISHED, "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, _FILE_BYTES)
                os.rename(name + _UNFINISHED, name + ".db")  # an incomplete file would break all workers' sums
        except OSError:
            self._broken = True
            self.forget(os.getpid())
            raise

    def forget(self, pid: int) -> None:
        """Remove the file of a process that died while allocating it."""
        for path in Path(self._folder or "/nowhere").glob(f"*_{pid}{_UNFINISHED}"):
            with contextlib.suppress(OSError):
                path.unlink()

    def note(self, record: Record) -> None:
        """Queue a finished request; it is counted within a second."""
        if self._broken:
            return
        self._noted.append(record)
        if len(self._noted) >= _MOST_NOTED:
            self.count()
        elif not self._is_due:
            self._is_due = True
            gevent.spawn_later(_LATE_SECONDS, self._count_what_is_due)

    def count(self) -> None:
        """Count the queued requests now. If the folder is lost, this process counts nothing any more."""
        noted, self._noted = self._noted, []
        try:
            self._add(noted)
        except OSError as error:
            self._broken = True
            _log.error("No metrics of this worker any more: %s", error)

    def _add(self, noted: Sequence[Record]) -> None:
        ends = collections.Counter((one.upstream, _model(one), one.stream, one.status, one.outcome) for one in noted)
        for (upstream, model, stream, status, outcome), number in ends.items():
            self._requests.labels(upstream, model, str(stream).lower(), str(status), outcome).inc(number)
        for upstream, number in collections.Counter(name for one in noted for name in one.asked).items():
            self._tries.labels(upstream).inc(number)
        answers: dict[tuple[str, str], list[Record]] = {}  # there are few keys
        for one in noted:
            if one.upstream:
                answers.setdefault((one.upstream, one.model), []).append(one)
        for (upstream, model), there in answers.items():
            self._total.labels(upstream).observe_all([one.total_seconds for one in there])
            self._add_answers(upstream, model, there)
        for gate in self._gates:
            more = gate.upstream.unknown_reasons - self._counted_reasons[gate.upstream]
            if more:
                self._counted_reasons[gate.upstream] += more
                self._unknown_reasons.labels(gate.upstream.name).inc(more)

    def _add_answers(self, upstream: str, model: str, noted: Sequence[Record]) -> None:
        firsts = [one.first_seconds for one in noted]
        self._first.labels(upstream, model).observe_all([first for first in firsts if first is not None])
        used = [one.usage for one in noted if one.usage]
        for kind in ("prompt", "completion", "reasoning", "cached") if used else ():
            self._tokens.labels(upstream, model, kind).inc(sum([getattr(one, f"{kind}_tokens") for one in used]))

    def _count_what_is_due(self) -> None:
        self._is_due = False
        self.count()

    def text(self) -> bytes:
        """Return all metrics, summed over all workers, including those that have ended."""
        self.count()
        counted = self._registry
        if self._folder and Path(self._folder).is_dir():
            counted = CollectorRegistry()
            MultiProcessCollector(counted, self._folder)  # type: ignore[no-untyped-call] # the library's own lack
        states = CollectorRegistry()
        states.register(self._state)
        return generate_latest(counted) + generate_latest(states)


def _model(record: Record) -> str:
    """Return the model's id, or "other" if no upstream was found for it."""
    return record.model if record.upstream else "other" if record.model else ""


class _Histogram(Histogram):
    """A histogram that adds many values at once; the library adds one value at a time.

    It uses the library's private attributes; a test compares the results of both.
    """

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe all values."""
        self._sum.inc(sum(values))
        # A bucket holds values up to and including its bound; the last one has no bound.
        for bucket, number in collections.Counter(bisect_left(self._upper_bounds, value) for value in values).items():
            self._buckets[bucket].inc(number)


class _State(Collector):
    """The current state: the build, running requests, the upstreams and their circuits."""

    def __init__(self, limit: ConcurrencyLimit, gates: Sequence[UpstreamGate], commit: str) -> None:
        self._limit = limit
        self._gates = gates
        self._commit = commit

    def collect(self) -> Iterable[Metric]:
        build = GaugeMetricFamily("gpt_oss_proxy_build_info", "1; what was built.", labels=["version", "commit"])
        build.add_metric([__version__, self._commit], 1)
        yield build
        yield GaugeMetricFamily("gpt_oss_proxy_running", "Chats that run now.", value=self._limit.taken)
        running = GaugeMetricFamily("gpt_oss_proxy_upstream_running", "Chats at an upstream now.", labels=["upstream"])
        circuit = GaugeMetricFamily(
            "gpt_oss_proxy_upstream_circuit_open",
            "1 while the circuit of an upstream is open, 0.5 while it is half open, else 0.",
            labels=["upstream"],
        )
        up = GaugeMetricFamily(
            "gpt_oss_proxy_upstream_up", "1 unless the last answer of an upstream failed.", labels=["upstream"]
        )
        for gate in self._gates:
            up.add_metric([gate.upstream.name], float(gate.health.is_up))
            running.add_metric([gate.upstream.name], gate.limit.taken)
            circuit.add_metric([gate.upstream.name], {"closed": 0, "half_open": 0.5, "open": 1}[gate.breaker.state])
        yield from (running, circuit, up)
