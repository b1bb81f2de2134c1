"""What Prometheus is told."""

import errno
import os
import re
from pathlib import Path

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from gpt_oss_proxy import __version__
from gpt_oss_proxy.chat.events import Usage
from gpt_oss_proxy.errors import UpstreamIncomplete
from gpt_oss_proxy.gateway.limits import ConcurrencyLimit
from gpt_oss_proxy.gateway.observe import metrics as module
from gpt_oss_proxy.gateway.observe.metrics import Metrics, _Histogram
from gpt_oss_proxy.stores.shared_counters import SharedCounters
from tests.doubles import Scripted, gate, record

BUILT = {f'gpt_oss_proxy_build_info{{commit="",version="{__version__}"}}': 1}


def values(metrics: Metrics) -> dict[str, float]:
    """All values but those of buckets and of the time when counting began."""
    lines = [line for line in metrics.text().decode().splitlines() if not re.match(r"#|\w+_(bucket|created)\b", line)]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_requests_are_counted_by_how_they_ended_and_times_by_upstream() -> None:
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [], folder=None)
    for status, outcome, first in ((200, "ok", 1.5), (502, "upstream_incomplete", None)):
        one = record()
        one.model, one.upstream, one.asked, one.stream = "m", "chatkit", ["other", "chatkit"], True
        one.usage = Usage(3, 4, reasoning_tokens=1)
        one.status, one.outcome, one.first, one.ended = status, outcome, first, 3.0
        metrics.note(one)
    assert values(metrics) == {
        'gpt_oss_proxy_requests_total{model="m",outcome="ok",status="200",stream="true",upstream="chatkit"}': 1,
        'gpt_oss_proxy_requests_total{model="m",outcome="upstream_incomplete",status="502",stream="true",'
        'upstream="chatkit"}': 1,
        **{
            f'gpt_oss_proxy_tokens_total{{kind="{kind}",model="m",upstream="chatkit"}}': number
            for kind, number in (("prompt", 6), ("completion", 8), ("reasoning", 2), ("cached", 0))
        },
        'gpt_oss_proxy_upstream_tries_total{upstream="other"}': 2,
        'gpt_oss_proxy_upstream_tries_total{upstream="chatkit"}': 2,
        'gpt_oss_proxy_first_events_seconds_count{model="m",upstream="chatkit"}': 1,
        'gpt_oss_proxy_first_events_seconds_sum{model="m",upstream="chatkit"}': 1.5,
        'gpt_oss_proxy_request_seconds_count{upstream="chatkit"}': 2,
        'gpt_oss_proxy_request_seconds_sum{upstream="chatkit"}': 6,
        "gpt_oss_proxy_running": 0,
        **BUILT,
    }


@given(st.lists(st.floats(0, 4) | st.sampled_from([0.5, 1.0, 2.0])))
def test_many_values_are_observed_as_one_after_the_other(seconds: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    together = _Histogram("seconds", "?", buckets=(0.5, 1, 2), registry=ours)
    single = Histogram("seconds", "?", buckets=(0.5, 1, 2), registry=theirs)
    together.observe_all(seconds)
    for value in seconds:
        single.observe(value)
    for name, bound in [("seconds_bucket", {"le": le}) for le in ("0.5", "1.0", "2.0", "+Inf")] + [
        ("seconds_count", {})
    ]:
        assert ours.get_sample_value(name, bound) == theirs.get_sample_value(name, bound)
    assert ours.get_sample_value("seconds_sum") == pytest.approx(theirs.get_sample_value("seconds_sum"))


def test_requests_are_counted_after_a_while_and_at_once_if_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LATE_SECONDS", 0.01)
    monkeypatch.setattr(module, "_MOST_NOTED", 3)
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [], folder=None)

    def counted() -> float | None:
        labels = {"upstream": "", "model": "", "stream": "false", "status": "200", "outcome": "ok"}
        return metrics._registry.get_sample_value("gpt_oss_proxy_requests_total", labels)

    def note() -> None:
        one = record()
        one.status = 200
        metrics.note(one)

    seen = []
    for pause in (0, 0, 0, 0, 0.05, 0, 0.05):
        note()
        if pause:
            gevent.sleep(pause)
        seen.append(counted())
    assert seen == [None, None, 3, 3, 5, 5, 7]


def test_a_request_that_reached_no_upstream_has_no_times() -> None:
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [], folder=None)
    one = record()
    one.model, one.status = "whatever a client asks for", 404
    metrics.note(one)
    assert values(metrics) == {
        'gpt_oss_proxy_requests_total{model="other",outcome="ok",status="404",stream="false",upstream=""}': 1,
        "gpt_oss_proxy_running": 0,
        **BUILT,
    }


def test_what_runs_and_the_circuits_are_told_as_they_are_now() -> None:
    places, door = ConcurrencyLimit(SharedCounters(), 5), gate(Scripted(), failures=1)
    metrics = Metrics(places, [door], folder=None)
    places.take()
    door.limit.take()
    door.breaker.failed()
    assert values(metrics) == {
        "gpt_oss_proxy_running": 1,
        'gpt_oss_proxy_upstream_up{upstream="scripted"}': 1,
        **BUILT,
        'gpt_oss_proxy_upstream_running{upstream="scripted"}': 1,
        'gpt_oss_proxy_upstream_circuit_open{upstream="scripted"}': 1,
    }


def test_what_was_built_and_which_upstreams_answer_is_told() -> None:
    door = gate(Scripted())
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [door], folder=None, commit="abc")
    assert values(metrics)[f'gpt_oss_proxy_build_info{{commit="abc",version="{__version__}"}}'] == 1
    for error, up in ((UpstreamIncomplete(), 0), (None, 1)):
        door.upstream.report(error)
        assert values(metrics)['gpt_oss_proxy_upstream_up{upstream="scripted"}'] == up


def test_unknown_finish_reasons_are_counted_once_each() -> None:
    door = gate(Scripted())
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [door], folder=None)
    for number in (2, 2, 3):
        door.upstream.unknown_reasons = number
        found = values(metrics)
        assert found['gpt_oss_proxy_unknown_finish_reasons_total{upstream="scripted"}'] == number


def test_room_for_counts_is_made_before_they_are_written_and_half_a_file_is_removed(tmp_path: Path) -> None:
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [], folder=str(tmp_path))
    metrics.reserve()
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [1024 * 1024] * 2
    (tmp_path / "counter_99.new").touch()
    metrics.forget(99)
    metrics.forget(os.getpid())
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".db", ".db"]


def test_where_the_folder_is_lost_nothing_is_counted_any_more_and_nothing_breaks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lost(*_arguments: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "counter_1.db")

    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [], folder=None)
    monkeypatch.setattr(metrics._requests, "labels", lost)
    for _ in range(2):
        metrics.note(record())
        metrics.count()
    assert caplog.text.count("No metrics of this worker any more") == caplog.text.count("counter_1.db") == 1


def test_half_a_file_is_none_that_others_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_arguments: int) -> None:
        seen.append([path.suffix for path in tmp_path.iterdir()])
        raise OSError(errno.ENOSPC, "disk full")

    seen: list[list[str]] = []
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [], folder=str(tmp_path))
    monkeypatch.setattr(os, "posix_fallocate", look)
    with pytest.raises(OSError, match="disk full"):
        metrics.reserve()
    assert (seen, list(tmp_path.iterdir())) == ([[".new"]], [])


def test_without_room_nothing_is_counted_and_nothing_breaks(tmp_path: Path) -> None:
    metrics = Metrics(ConcurrencyLimit(SharedCounters(), 5), [], folder=str(tmp_path / "gone"))
    with pytest.raises(OSError, match="No such file"):
        metrics.reserve()
    metrics.note(record())
    assert values(metrics) == {"gpt_oss_proxy_running": 0, **BUILT}
