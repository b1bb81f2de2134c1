"""The process: how it starts, refuses to start, and ends."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.live.children import Child, free_port, wait_for
from tests.live.conftest import REPOSITORY, answers
from tests.live.load.proc import workers
from tests.live.load.steady import Steady
from tests.live.talk import Upstream, chat, stream, text_of
from tests.live.wire import Connection

StartGateway = Callable[..., tuple[Child, str]]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("PORT", "http", "PORT holds 'http'; allowed: a whole number from 1 to 65535"),
        (
            "BASE_URL",
            "gpt-oss.com",
            "BASE_URL holds 'gpt-oss.com'; allowed: a URL that begins with http:// or https://",
        ),
        ("DEFAULT_MODEL", "gpt-9", "DEFAULT_MODEL holds 'gpt-9'; allowed: one of gpt-oss-20b, gpt-oss-120b, gpt-4o"),
        (
            "OPENAI_API_KEY",
            "sk-geheim\u00e4",
            "OPENAI_API_KEY holds something unusable; allowed: text of visible ASCII",
        ),
        ("CA_FILE", "/nowhere", "CA_FILE holds '/nowhere'; allowed: a readable file with certificates in PEM form"),
        (
            "UPSTREAM_PROXY",
            "https://me:geheim@proxy:3128",
            "UPSTREAM_PROXY holds something unusable; allowed: http://host:port or http://name:password@host:port",
        ),
    ],
)
def test_an_unusable_setting_stops_the_start_with_one_line(name: str, value: str, says: str) -> None:
    gunicorn = Path(sys.executable).parent / "gunicorn"
    env = {"PATH": "/usr/bin:/bin", "PORT": str(free_port()), "HOST": "127.0.0.1", name: value}
    command = [str(gunicorn), "-c", "gunicorn.conf.py", "wsgi:app"]
    ended = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"gpt_oss_proxy cannot start: {says}")
    assert ended.stderr.count("\n") == 1
    assert "geheim" not in ended.stderr


def test_the_start_shows_what_to_try(base: str, children: list[Child]) -> None:
    port = base.rpartition(":")[2]
    assert any(f"curl http://localhost:{port}/v1/chat/completions -d '" in child.text() for child in children)


@pytest.mark.usefixtures("settled")
def test_sigterm_lets_streams_finish_and_ends_what_cannot_with_an_honest_error(
    start_gateway: StartGateway, chatkit: Upstream, ai_sdk: Upstream
) -> None:
    gateway, base = start_gateway(
        BASE_URL=chatkit.address,
        CHATKIT_DIALECT="published",
        VERCEL_MINIMAL_API_URL=f"{ai_sdk.address}/plain/api/chat",
        GRACEFUL_TIMEOUT_SECONDS="5",
    )

    with ThreadPoolExecutor() as at_once:
        asked = [
            at_once.submit(stream, base, "gpt-oss-20b", "::echo words=15 gap=100::"),
            at_once.submit(stream, base, "gpt-4o", "::stall after=2::"),
        ]
        wait_for("both answers to run", lambda: chatkit.connections()["open"] + ai_sdk.connections()["open"] == 2)
        gateway.process.send_signal(signal.SIGTERM)
        finishing, cut = (future.result() for future in asked)
    assert finishing.text() == " ".join(f"w{number}" for number in range(15))
    assert finishing.finishes() == ["stop"]
    assert cut.text().strip() == "w0 w1"
    assert cut.finishes() == []
    assert [error["code"] for error in cut.errors()] == ["shutting_down"]
    assert gateway.process.wait(timeout=20) == 0
    wait_for("the upstream to be left", lambda: ai_sdk.connections()["open"] == 0)


def test_idle_connections_do_not_hold_up_the_end(start_gateway: StartGateway) -> None:
    gateway, base = start_gateway(GRACEFUL_TIMEOUT_SECONDS="60")
    with contextlib.ExitStack() as stack:
        silent, used = (stack.enter_context(contextlib.closing(Connection(base))) for _ in range(2))
        used.head(start="GET /healthz HTTP/1.1")
        assert used.answer().status == 200
        gateway.process.send_signal(signal.SIGTERM)
        assert used.socket.recv(1) == b""
        assert silent.socket.recv(1) == b""
        assert gateway.process.wait(timeout=20) == 0


@pytest.mark.usefixtures("settled")
def test_ctrl_c_ends_at_once_with_a_word_to_the_clients_and_none_to_the_terminal(
    start_gateway: StartGateway, chatkit: Upstream
) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published")
    with ThreadPoolExecutor() as at_once:
        asked = at_once.submit(stream, base, "gpt-oss-20b", "::stall after=2::")
        wait_for("the answer to run", lambda: chatkit.connections()["open"] == 1)
        os.killpg(gateway.process.pid, signal.SIGINT)  # as a terminal does
        assert [error["code"] for error in asked.result().errors()] == ["shutting_down"]
    assert gateway.process.wait(timeout=20) == 0
    assert "Traceback" not in gateway.text()


@pytest.mark.usefixtures("settled")
def test_a_reload_cuts_no_stream_and_refuses_no_request(start_gateway: StartGateway, chatkit: Upstream) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", GRACEFUL_TIMEOUT_SECONDS="10")
    with ThreadPoolExecutor() as at_once:
        answer = at_once.submit(stream, base, "gpt-oss-20b", "::echo words=20 gap=100::")
        wait_for("the answer to run", lambda: chatkit.connections()["open"] == 1)
        gateway.process.send_signal(signal.SIGHUP)
        while not answer.done():
            assert text_of(chat(base, "gpt-oss-20b", "hello")) == "hello"
    assert answer.result().finishes() == ["stop"]
    assert gateway.stop() == 0


def test_an_upgrade_by_usr2_cuts_no_stream_and_refuses_no_request(
    start_gateway: StartGateway, chatkit: Upstream
) -> None:
    old, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published", GRACEFUL_TIMEOUT_SECONDS="10")
    before = set(workers(old.process.pid))
    load = Steady(base)
    with load.asking():
        load.go_on()
        old.process.send_signal(signal.SIGUSR2)
        new = wait_for("a second master", lambda: next(iter(set(workers(old.process.pid)) - before), 0))
        wait_for("its worker", lambda: workers(new))
        assert old.stop() == 0
        load.go_on()
    os.kill(new, signal.SIGTERM)
    wait_for("the second master to end", lambda: not answers(f"{base}/healthz"))
