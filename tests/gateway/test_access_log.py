"""One line a request."""

import io
import json
import time

import pytest

from gpt_oss_proxy.gateway import access_log
from gpt_oss_proxy.gateway.access_log import Record, log_to_stdout


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    output = io.StringIO()
    monkeypatch.setattr(access_log, "_output", output)
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
        "adopted": False,
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


def test_nobody_who_reads_it_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(access_log, "_output", closed)
    Record("req_1", "GET", "/", time.monotonic()).write()


def test_it_goes_to_standard_output_unless_it_goes_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for output, told in ((None, 1), (io.StringIO(), 0)):
        monkeypatch.setattr(access_log, "_output", output)
        log_to_stdout()
        log_to_stdout()
        Record("req_1", "GET", "/", time.monotonic()).write()
        assert capsys.readouterr().out.count("\n") == told
