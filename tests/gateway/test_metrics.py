"""What Prometheus is told."""

import os
import re
from pathlib import Path

import pytest

from gpt_oss_proxy.gateway.board import Board
from gpt_oss_proxy.gateway.metrics import Metrics
from gpt_oss_proxy.gateway.places import Places
from tests.doubles import Scripted, guard, record


def values(metrics: Metrics) -> dict[str, float]:
    """All values but those of buckets and of the time when counting began."""
    lines = [line for line in metrics.text().decode().splitlines() if not re.match(r"#|\w+_(bucket|created)\b", line)]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_requests_are_counted_by_how_they_ended_and_times_by_upstream() -> None:
    metrics = Metrics(Places(Board(), 5), [], folder=None)
    for status, outcome, first in ((200, "ok", 1.5), (502, "upstream_incomplete", None)):
        one = record()
        one.upstream, one.asked, one.stream = "chatkit", ["other", "chatkit"], True
        one.status, one.outcome, one.first, one.ended = status, outcome, first, 3.0
        metrics.observe(one)
    assert values(metrics) == {
        'gpt_oss_proxy_requests_total{outcome="ok",status="200",stream="true",upstream="chatkit"}': 1,
        'gpt_oss_proxy_requests_total{outcome="upstream_incomplete",status="502",stream="true",upstream="chatkit"}': 1,
        'gpt_oss_proxy_upstream_tries_total{upstream="other"}': 2,
        'gpt_oss_proxy_upstream_tries_total{upstream="chatkit"}': 2,
        'gpt_oss_proxy_first_events_seconds_count{upstream="chatkit"}': 1,
        'gpt_oss_proxy_first_events_seconds_sum{upstream="chatkit"}': 1.5,
        'gpt_oss_proxy_request_seconds_count{upstream="chatkit"}': 2,
        'gpt_oss_proxy_request_seconds_sum{upstream="chatkit"}': 6,
        "gpt_oss_proxy_running": 0,
    }


def test_a_request_that_reached_no_upstream_has_no_times() -> None:
    metrics = Metrics(Places(Board(), 5), [], folder=None)
    one = record()
    one.status = 404
    metrics.observe(one)
    assert values(metrics) == {
        'gpt_oss_proxy_requests_total{outcome="ok",status="404",stream="false",upstream=""}': 1,
        "gpt_oss_proxy_running": 0,
    }


def test_what_runs_and_the_circuits_are_told_as_they_are_now() -> None:
    places, door = Places(Board(), 5), guard(Scripted(), failures=1)
    metrics = Metrics(places, [door], folder=None)
    places.take()
    door.places.take()
    door.breaker.failed()
    assert values(metrics) == {
        "gpt_oss_proxy_running": 1,
        'gpt_oss_proxy_upstream_running{upstream="scripted"}': 1,
        'gpt_oss_proxy_upstream_circuit_open{upstream="scripted"}': 1,
    }


def test_room_for_counts_is_made_before_they_are_written_and_half_a_file_is_removed(tmp_path: Path) -> None:
    metrics = Metrics(Places(Board(), 5), [], folder=str(tmp_path))
    metrics.reserve()
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [1024 * 1024] * 2
    (tmp_path / "counter_99.db").touch()
    metrics.forget(99)
    metrics.forget(os.getpid())
    assert len(list(tmp_path.iterdir())) == 2


def test_without_room_nothing_is_counted_and_nothing_breaks(tmp_path: Path) -> None:
    metrics = Metrics(Places(Board(), 5), [], folder=str(tmp_path / "gone"))
    with pytest.raises(OSError, match="No such file"):
        metrics.reserve()
    metrics.observe(record())
    assert values(metrics) == {"gpt_oss_proxy_running": 0}
