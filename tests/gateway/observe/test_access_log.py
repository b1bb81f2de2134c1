"""One line a request."""

import io
import json
import sys
import time
from datetime import UTC, datetime

import pytest

from gpt_oss_proxy.chat.events import Finish, TextDelta, Usage
from gpt_oss_proxy.errors import RateLimited, UpstreamTls
from gpt_oss_proxy.gateway.observe import access_log
from gpt_oss_proxy.gateway.observe.access_log import Record, log_to_stdout
from gpt_oss_proxy.net.output import STDOUT


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    output = io.BytesIO()
    monkeypatch.setattr(access_log, "_output", output)
    return output


def test_a_record_is_one_line_of_json(output: io.BytesIO) -> None:
    record = Record("req_1", "POST", "/v1/ü%s\n", time.monotonic() - 2)
    record.model, record.upstream, record.reference, record.stream = "m", "chatkit", "thread-1", True
    record.status, record.outcome = 200, "upstream_incomplete"
    record.first = record.started + 0.5
    record.client, record.upstream_host, record.upstream_status = "192.0.2.7", "api.example", 503
    record.tally.add([TextDelta("four"), Usage(3, 4), Finish("length")])
    record.count()
    record.write()
    line = json.loads(output.getvalue())
    assert output.getvalue().count(b"\n") == 1
    assert 2 <= line.pop("total_seconds") < 3
    ended = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - ended).total_seconds()) < 5
    assert line == {
        "id": "req_1",
        "method": "POST",
        "path": "/v1/ü%s\n",
        "model": "m",
        "client": "192.0.2.7",
        "upstream_host": "api.example",
        "upstream_status": 503,
        "finish": "length",
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "tries": 0,
        "adopted": False,
        "upstream": "chatkit",
        "reference": "thread-1",
        "stream": True,
        "status": 200,
        "outcome": "upstream_incomplete",
        "reason": "",
        "first_seconds": 0.5,
    }


def test_it_says_why_an_upstream_was_not_reached_even_if_another_one_was(output: io.BytesIO) -> None:
    reached, failed = (Record(name, "POST", "/", time.monotonic()) for name in ("reached", "failed"))
    reached.missed(UpstreamTls(reason="certificate has expired"))
    reached.missed(RateLimited())
    reached.write()
    failed.failed(UpstreamTls(reason="certificate has expired"))
    failed.write()
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [(line["outcome"], line["reason"]) for line in lines] == [
        ("ok", "certificate has expired"),
        ("upstream_tls", "certificate has expired"),
    ]


def test_a_request_without_events_has_no_first_time(output: io.BytesIO) -> None:
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


def test_a_text_of_others_that_no_line_can_hold_is_cut_and_made_text(output: io.BytesIO) -> None:
    for text, shown in (("x" * 100_000, "x" * 200), ("a\ud83d", "a?")):
        output.truncate(0)
        output.seek(0)
        Record("req_1", "GET", "/", time.monotonic(), reference=text, reason=text).write()
        line = json.loads(output.getvalue())
        assert (line["reference"], line["reason"]) == (shown, shown)


def test_it_goes_to_standard_output_once_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_output", None)
    Record("req_1", "GET", "/", time.monotonic()).write()
    log_to_stdout()
    assert access_log._output is STDOUT


def test_without_a_standard_output_it_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "_output", None)
    monkeypatch.setattr(sys, "stdout", None)
    log_to_stdout()
    assert access_log._output is None
