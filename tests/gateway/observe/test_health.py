"""One warning when an upstream begins to fail, and one line when it answers again."""

import pytest

from gpt_oss_proxy.errors import (
    GatewayError,
    InvalidRequest,
    Overloaded,
    RateLimited,
    UpstreamIdleTimeout,
    UpstreamIncomplete,
    UpstreamRejected,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gpt_oss_proxy.gateway.observe import health as module
from gpt_oss_proxy.gateway.observe.health import Health
from gpt_oss_proxy.stores.shared_counters import SharedCounters

FAILURES = [UpstreamUnreachable(reason="Connection refused"), UpstreamIncomplete(), UpstreamUnavailable()]


def test_many_failures_are_one_warning_and_a_recovery_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(SharedCounters(), "openai", "llm.example:8000")
    for error in (None, *FAILURES, *FAILURES, None, None):
        health.note(error)
    assert caplog.messages == [
        "openai (llm.example:8000) fails: upstream_unreachable (Connection refused); "
        "the next line about it comes when it answers",
        "openai (llm.example:8000) answers again, after 0 s",
    ]


def test_all_workers_share_what_is_known(caplog: pytest.LogCaptureFixture) -> None:
    health = Health(SharedCounters(), "chatkit", "")
    health.note(UpstreamIdleTimeout())
    assert not health.is_up
    health.note(UpstreamIncomplete())
    health.note(None)
    assert health.is_up
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("error", [InvalidRequest(), UpstreamRejected(), RateLimited(), Overloaded(), GatewayError()])
def test_what_a_request_or_the_gateway_is_to_blame_for_says_nothing_of_the_upstream(
    error: GatewayError, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health(SharedCounters(), "chatkit", "")
    health.note(error)
    assert health.is_up
    health.note(UpstreamIncomplete())
    health.note(error)
    assert (health.is_up, len(caplog.messages)) == (False, 1)


def test_an_upstream_that_fails_now_and_then_is_named_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    health = Health(SharedCounters(), "chatkit", "")
    for _ in range(10):
        health.note(UpstreamIncomplete())
        health.note(None)
        assert health.is_up
    assert len(caplog.messages) == 2
    now[0] += 60
    health.note(UpstreamIncomplete())
    assert len(caplog.messages) == 3
