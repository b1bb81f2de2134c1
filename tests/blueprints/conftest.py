"""The access log, as what it says."""

import io
import json
from typing import Any

import pytest

from gpt_oss_proxy.gateway.observe import access_log


class _Lines(io.BytesIO):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []

    def write(self, data: Any) -> int:
        self.told += map(json.loads, data.splitlines())
        return len(data)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    lines = _Lines()
    monkeypatch.setattr(access_log, "_output", lines)
    return lines.told
