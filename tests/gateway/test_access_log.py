"""One line a request."""

import io
import json
import logging
import sys
import time

import pytest

from gpt_oss_proxy.gateway import access_log
from gpt_oss_proxy.gateway.access_log import Record, log_to_stdout


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(access_log._log, "handlers", [])
    log_to_stdout()
    return output


def test_a_record_is_one_line_of_json(output: io.StringIO) -> None:
    record = Record("req_1", "POST", "/v1/ü%s\n", time.monotonic() - 2)
    record.model, record.upstream, record.reference, record.stream = "m", "chatkit", "thread-1", True
    record.status, record.outcome = 200, "upstream_incomplete"
    record.first = record.started + 0.5
    record.write()
    line = json.loads(output.getvalue())
    assert output.getvalue().count("\n") == 1
    assert 2 <= line.pop("total_seconds") < 3
    assert line == {
        "id": "req_1",
        "method": "POST",
        "path": "/v1/ü%s\n",
        "model": "m",
        "tries": 0,
        "joined": False,
        "upstream": "chatkit",
        "reference": "thread-1",
        "stream": True,
        "status": 200,
        "outcome": "upstream_incomplete",
        "first_seconds": 0.5,
    }


def test_a_request_without_events_has_no_first_time(output: io.StringIO) -> None:
    Record("req_1", "GET", "/", time.monotonic(), status=200).write()
    line = json.loads(output.getvalue())
    assert (line["first_seconds"], line["outcome"], line["model"]) == (None, "ok", "")


def test_only_the_first_events_set_the_first_time() -> None:
    record = Record("req_1", "GET", "/", time.monotonic())
    record.heard()
    first = record.first
    assert first is not None
    record.heard()
    assert record.first is first


def test_the_log_is_set_up_once_and_says_nothing_twice(output: io.StringIO) -> None:
    log_to_stdout()
    log_to_stdout()
    root = io.StringIO()
    handler = logging.StreamHandler(root)
    logging.getLogger().addHandler(handler)
    Record("req_1", "GET", "/", time.monotonic()).write()
    logging.getLogger().removeHandler(handler)
    assert (output.getvalue().count("\n"), root.getvalue()) == (1, "")
