"""A tool that is missing is told by name; under CI=true it is a failure."""

import pytest

from tests.live.conftest import needs


def test_a_missing_tool_skips_the_test_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is missing"):
        needs("no-such-tool")


def test_under_ci_a_missing_tool_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is missing"):
        needs("no-such-tool")
