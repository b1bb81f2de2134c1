"""What gunicorn's configuration does before it starts, and its hooks for a worker that ends."""

import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt_oss_proxy.app import build_upstreams
from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.net.output import STDERR, STDOUT

CONFIGURATION = Path(__file__).parent.parent / "gunicorn.conf.py"


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], dict[str, Any]]:
    monkeypatch.setattr("gevent.monkey.patch_all", lambda: None)  # the tests have done, or do without
    monkeypatch.setattr("atexit.register", lambda function: function)
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path / prefix))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    for name in ("stdout", "stderr"):  # it replaces them
        monkeypatch.setattr(sys, name, getattr(sys, name))
    return lambda: runpy.run_path(str(CONFIGURATION))


@pytest.fixture
def hooks(configure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return configure()


def worker(pid: int, seen: list[tuple[str, int]]) -> Any:
    def note(what: str) -> Callable[[int], None]:
        return lambda number: seen.append((what, number))

    application = SimpleNamespace(
        board=SimpleNamespace(clear=note("cleared")),
        dispatcher=SimpleNamespace(bury=note("buried")),
        metrics=SimpleNamespace(forget=note("forgotten")),
    )
    return SimpleNamespace(pid=pid, row=7, app=SimpleNamespace(wsgi=lambda: application))


def test_what_a_worker_leaves_is_removed_when_it_is_reaped(hooks: dict[str, Any]) -> None:
    seen: list[tuple[str, int]] = []
    hooks["child_exit"](None, worker(99, seen))
    assert seen == [("cleared", 7), ("buried", 99), ("forgotten", 99)]


def test_what_a_worker_leaves_is_removed_when_its_master_finds_it_gone(hooks: dict[str, Any]) -> None:
    # gunicorn calls no child_exit then, but worker_exit, in the master; and in each worker at its own end.
    seen: list[tuple[str, int]] = []
    hooks["worker_exit"](None, worker(os.getpid(), seen))
    assert not seen
    hooks["worker_exit"](None, worker(99, seen))
    assert seen == [("cleared", 7), ("buried", 99), ("forgotten", 99)]


def test_all_that_is_printed_or_logged_goes_where_no_reader_can_stop_it(configure: Callable[[], object]) -> None:
    configure()
    assert (sys.stdout.buffer, sys.stderr.buffer) == (STDOUT, STDERR)


def test_a_misspelt_variable_is_named_also_where_the_start_fails(
    configure: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "gpt_oss_proxy.net.output.text_of", lambda _: SimpleNamespace(write=written.append, flush=lambda: None)
    )
    monkeypatch.setenv("API_KEY", "sk-secret")
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SystemExit):
        configure()
    assert "".join(written) == "gpt_oss_proxy does not read API_KEY. Is API_KEYS meant?\n"


def test_an_output_that_was_closed_at_the_start_stays_closed(
    configure: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    configure()
    assert (sys.stdout, sys.stderr) == (None, None)


def test_all_that_a_worker_leaves_is_removed_whatever_one_removal_raises(hooks: dict[str, Any]) -> None:
    def fail(_number: int) -> None:
        raise LookupError("a bug")

    seen: list[tuple[str, int]] = []
    ended = worker(99, seen)
    ended.app.wsgi().dispatcher.bury = fail
    with pytest.raises(LookupError):
        hooks["child_exit"](None, ended)
    assert seen == [("cleared", 7), ("forgotten", 99)]


@pytest.mark.parametrize(
    ("name", "says", "curl"),
    [
        (("0.0.0.0", 3000), "http://localhost:3000", "http://localhost:3000"),
        (("127.0.0.1", 8080), "http://localhost:8080", "http://localhost:8080"),
        (("::", 3000, 0, 0), "http://localhost:3000", "http://localhost:3000"),
        (("192.0.2.7", 3000), "http://192.0.2.7:3000", "http://192.0.2.7:3000"),
        (("2001:db8::7", 3000, 0, 0), "http://[2001:db8::7]:3000", "http://[2001:db8::7]:3000"),
        ("/run/gateway.sock", "unix:/run/gateway.sock", "--unix-socket /run/gateway.sock http://localhost"),
    ],
)
def test_the_start_names_the_address_that_it_has_and_not_the_one_of_the_settings(
    hooks: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: Any, says: str, curl: str
) -> None:
    printed: list[str] = []
    monkeypatch.setitem(hooks["when_ready"].__globals__, "print", lambda text, flush: printed.append(text))
    application = SimpleNamespace(wsgi=lambda: SimpleNamespace(upstreams=build_upstreams(Settings())))
    hooks["when_ready"](SimpleNamespace(LISTENERS=[SimpleNamespace(getsockname=lambda: name)], app=application))
    assert f" answers on {says} with " in printed[0]
    assert f"curl {curl}/v1/chat/completions -d '" in printed[0]
