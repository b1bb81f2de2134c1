"""The access log, as what it says."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from gpt_oss_proxy.gateway import access_log


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(json.loads(record.getMessage()))


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    lines = _Lines()
    access_log._log.addHandler(lines)
    yield lines.told
    access_log._log.removeHandler(lines)
