"""Debian's nginx with the shipped deploy/nginx.conf in front of the gateway: none of its promises is lost."""

import contextlib
import datetime
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.live.children import Child, free_port, wait_for
from tests.live.conftest import REPOSITORY, Gateway, Start, StartGateway, answers, needs
from tests.live.load.proc import workers
from tests.live.load.steady import Steady
from tests.live.talk import SECONDS, Upstream, chat, error_of, failed, post, stream, text_of, user
from tests.live.test_hostile_http import NO_HTTP, refused, say
from tests.live.wire import Connection, Silent
from tests.upstreams.raw_server import CHUNKED, RawServer, chunk

RunNginx = Callable[..., str]
# All that a second nginx in front of the shipped one says: everything else is left to its defaults.
DEFAULTS = """\
pid /run/nginx.pid;
events {}
http {
    access_log /var/log/nginx/access.log;
    upstream gateway {
        server 127.0.0.1:3000;  # <-
    }
    server {
        listen 80;  # <-
        location / { proxy_pass http://gateway; }
    }
}
"""


SHIPPED = (REPOSITORY / "deploy/nginx.conf").read_text()
# The shipped one with its limits switched on, as its head says.
LIMITED, LIMIT_LINES = re.subn(r"^( *)#(?=\S)", r"\1", SHIPPED, flags=re.MULTILINE)


def render(folder: Path, config: str, port: int = 80, behind: str = "http://127.0.0.1:3000") -> Path:
    """Write the configuration with the two lines changed that are the user's, and all its files in `folder`."""
    config = put(config, "listen 80;  # <-", f"listen 127.0.0.1:{port};")
    config = put(config, "server 127.0.0.1:3000;  # <-", f"server {behind.removeprefix('http://')};")
    config = put(config, "pid /run/nginx.pid;", f"pid {folder}/nginx.pid;")
    # Without root, nginx needs places of its own to write to.
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    config = put(config, "http {", "http {" + "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds))
    config = config.replace("/var/log/nginx/access.log", f"{folder}/access.log")
    written = folder / "nginx.conf"
    written.write_text(config)
    return written


@pytest.fixture(scope="session")
def run_nginx(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunNginx:
    """Start nginx, with the shipped configuration or another one, in front of an address, and return its own."""
    nginx = needs("nginx")

    def run(behind: str, config: str = SHIPPED, folder: Path | None = None) -> str:
        port = free_port()
        written = render(folder or tmp_path_factory.mktemp("nginx"), config, port, behind)
        # As root, its workers would become nobody, who may not enter pytest's folders.
        told = "daemon off;" + (" user root;" if os.getuid() == 0 else "")
        child: Child = start("nginx", nginx, "-c", str(written), "-e", "stderr", "-g", told)
        address = f"http://127.0.0.1:{port}"
        child.wait_until_ready(lambda: listens(address))
        return address

    return run


def put(text: str, old: str, new: str) -> str:
    """Return the text with one directive in the place of another, with the comment behind it."""
    assert text.count(old) == 1
    return re.sub(f"{re.escape(old)}.*", new, text)


def listens(address: str) -> bool:
    """Say whether it takes connections; a request would count for a limit, and stand in the log."""
    try:
        Connection(address).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture(scope="session")
def nginx(run_nginx: RunNginx, base: str) -> str:
    address = run_nginx(base)
    assert answers(f"{address}/readyz")
    return address


@pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-4o"])
def test_a_stream_passes_without_buffering(nginx: str, model: str) -> None:
    answer = stream(nginx, model, "::echo words=4 gap=300::")
    assert answer.text().strip() == "w0 w1 w2 w3"
    assert answer.finishes() == ["stop"]
    assert answer.first_arrival("w3") - answer.first_arrival("w0") > 0.6


def test_each_event_passes_two_nginx_while_the_upstream_waits_for_it(
    run_nginx: RunNginx, start_gateway: StartGateway
) -> None:
    """The upstream says a word only when the client has the one before, so whatever holds one back stops it all."""
    arrived = threading.Semaphore(0)
    words = [f"w{number}" for number in range(5)]
    event = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'
    said: list[Any] = [CHUNKED + b"\r\n"]
    for word in words:
        said += [chunk(event % (word.encode(), b"null")), lambda _: arrived.acquire(timeout=SECONDS)]
    server = RawServer([*said, chunk(event % (b"", b'"stop"')), chunk(b"data: [DONE]\n\n"), chunk(b"")])
    gateway, base = start_gateway(OPENAI_BASE_URL=server.url, OPENAI_MODELS="m", KEEPALIVE_SECONDS=str(10 * SECONDS))
    address = run_nginx(run_nginx(base), DEFAULTS)
    with contextlib.closing(Connection(address)) as client:
        client.post({"model": "m", "stream": True, "messages": user("Hi")}, "Connection: close")
        heard = b""
        for word in words:
            heard += client.read_until(b'"%b"' % word.encode())
            arrived.release()
        heard += client.read_until(b"data: [DONE]\n\n")
    gateway.stop()
    server.stop()
    assert b"\r\nCache-Control: no-cache, no-transform\r\n" in heard
    assert error_of(chat(address, "m", "Hi"))["code"] == "gateway_unreachable"  # and an error keeps its shape


def test_keep_alive_chunks_pass_while_the_model_is_silent(run_nginx: RunNginx, gateway: Gateway) -> None:
    address = run_nginx(gateway(KEEPALIVE_SECONDS=0.2, REQUEST_TIMEOUT_SECONDS=1.3))
    answer = stream(address, "gpt-4o", "::stall after=0::")
    assert answer.deltas()[:3] == [{"role": "assistant", "content": ""}, {}, {}]
    assert answer.errors()[0]["code"] == "upstream_first_event_timeout"
    assert answer.pieces[0][0] < 1.2


@pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-4o"])
@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_ends_the_upstreams_work_within_a_second(
    nginx: str, chatkit: Upstream, ai_sdk: Upstream, model: str, streamed: bool
) -> None:
    upstream = chatkit if "oss" in model else ai_sdk
    body = {"model": model, "stream": streamed, "messages": user("::stall after=2::")}
    with requests.Session() as session:
        if streamed:
            answer = session.post(f"{nginx}/v1/chat/completions", json=body, stream=True, timeout=30)
            heard = b""
            while b"w1" not in heard:
                heard += answer.raw.read1(65536)
            left = time.time()
            answer.close()
        else:
            with pytest.raises(requests.Timeout):
                session.post(f"{nginx}/v1/chat/completions", json=body, timeout=(5, 0.5))
            left = time.time()
    wait_for("the upstream to be idle", lambda: upstream.connections()["open"] == 0)
    assert upstream.connections()["last_closed_at"] - left < 1


@pytest.mark.parametrize("model", ["gpt-oss-20b", "gpt-4o"])
def test_an_upstream_that_is_cut_reads_as_a_failure(nginx: str, model: str) -> None:
    answer = stream(nginx, model, "::drop after=2::")
    assert answer.finishes() == []
    assert [error["code"] for error in answer.errors()] == ["upstream_incomplete"]
    assert failed(chat(nginx, model, "::drop after=2::")) == (502, "upstream_error", "upstream_incomplete")


def test_a_gateway_process_that_is_killed_in_mid_stream_breaks_the_transfer(
    run_nginx: RunNginx, start_gateway: StartGateway, chatkit: Upstream
) -> None:
    gateway, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published")
    with contextlib.closing(Connection(run_nginx(base))) as client:
        client.post({"model": "gpt-oss-20b", "stream": True, "messages": user("::stall after=2::")})
        client.read_until(b"w1")
        gateway.kill()
        rest = b"".join(iter(lambda: client.socket.recv(65536), b""))
    assert b"[DONE]" not in rest
    assert not rest.endswith(b"0\r\n\r\n")  # the last chunk, which would say that all is well


def test_plain_text_that_fails_is_broken_off(nginx: str) -> None:
    answer = stream(nginx, "gpt-oss-20b", "::drop after=2::", headers={"Accept": "text/plain"})
    assert answer.broken
    assert re.fullmatch(rb"w0 w1\nerror: [^\n]+\n", answer.body)


def test_an_image_of_several_megabytes_passes(nginx: str) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 6_000_000}}
    assert text_of(chat(nginx, "gpt-4o", [{"type": "text", "text": "hello"}, image])) == "hello"


def test_what_nginx_refuses_itself_has_openais_shape(nginx: str) -> None:
    error = error_of(requests.post(f"{nginx}/v1/chat/completions", data=b"x" * (33 * 1024 * 1024), timeout=30))
    assert (error["status"], error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "request_bytes",
    [
        *NO_HTTP,
        b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /_error/400 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_in_openais_shape_by_nginx_too(nginx: str, request_bytes: bytes) -> None:
    assert refused(say(nginx, request_bytes)) in [
        (400, "invalid_http"),
        (404, "not_found"),
        (405, "method_not_allowed"),
    ]
    assert answers(f"{nginx}/healthz")


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics%2F", "/%6Detrics", "//metrics", "/x/../metrics"])
def test_metrics_stay_inside(nginx: str, path: str) -> None:
    url = urlsplit(nginx)
    stranger = http.client.HTTPConnection(str(url.hostname), url.port, timeout=SECONDS, source_address=("127.0.0.2", 0))
    with contextlib.closing(stranger):
        stranger.request("GET", path)
        answer = stranger.getresponse()
        assert (answer.status, b"gpt_oss_proxy_" in answer.read()) == (404, False)
    assert b"gpt_oss_proxy_running" in requests.get(f"{nginx}/metrics", timeout=SECONDS).content


def test_a_gateway_that_is_down_is_a_502_in_openais_shape(run_nginx: RunNginx) -> None:
    address = run_nginx(f"http://127.0.0.1:{free_port()}")
    error = error_of(chat(address, "gpt-4o", "hello"))
    assert (error["status"], error["code"]) == (502, "gateway_unreachable")


@pytest.mark.parametrize("config", [SHIPPED, LIMITED])
def test_nginx_has_nothing_to_say_against_it(config: str, tmp_path: Path) -> None:
    command = [needs("nginx"), "-t", "-c", str(render(tmp_path, config)), "-e", "stderr"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, "[" in checked.stderr) == (0, False), checked.stderr


def limited(response: requests.Response) -> bool:
    """Say whether it is the limit's answer, all of which is checked."""
    if response.status_code != 429:
        return False
    assert failed(response) == (429, "rate_limit_error", "rate_limit_exceeded")
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-accel-buffering"] == "no"
    return True


def test_more_requests_a_second_than_the_limit_allows_are_a_429_in_openais_shape_for_that_key_only(
    run_nginx: RunNginx,
) -> None:
    assert LIMIT_LINES == 10
    config = put(LIMITED, "rate=5r/s;", "rate=1r/m;")  # no time that a test takes lets another one in
    address = run_nginx(f"http://127.0.0.1:{free_port()}", config)
    for headers in ({"Authorization": "Bearer sk-1"}, {"api-key": "sk-1"}, {"x-api-key": "sk-2"}, {}):
        answers = [limited(post(address, {}, headers)) for _ in range(22)]
        assert answers == [False] * 21 + [True], headers


def test_more_requests_at_once_than_the_limit_allows_are_a_429_too(run_nginx: RunNginx, silent: Silent) -> None:
    address = run_nginx(silent.address, LIMITED)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            client = stack.enter_context(contextlib.closing(Connection(address)))
            client.post({"model": "m"})
            stack.enter_context(silent.accept())
        assert limited(post(address, {}))


def test_two_gateways_are_renewed_one_after_the_other_without_a_failed_request(
    run_nginx: RunNginx, start_gateway: StartGateway, chatkit: Upstream, tmp_path: Path
) -> None:
    def gateway() -> tuple[Child, str]:
        child, base = start_gateway(BASE_URL=chatkit.address, CHATKIT_DIALECT="published")
        return child, base.removeprefix("http://")

    def config(first: str, second: str) -> dict[str, str]:
        return {"behind": first, "config": SHIPPED.replace("keepalive 64;", f"server {second}; keepalive 64;")}

    (old, first), (older, second) = gateway(), gateway()
    address = run_nginx(folder=tmp_path, **config(first, second))
    nginx, port = int((tmp_path / "nginx.pid").read_text()), urlsplit(address).port or 0

    def reload(first: str, second: str) -> None:
        before = set(workers(nginx))
        render(tmp_path, port=port, **config(first, second))
        os.kill(nginx, signal.SIGHUP)
        wait_for("nginx' old workers to end", lambda: (now := set(workers(nginx))) and not now & before)

    load = Steady(address, asks_again=True)
    with load.asking():
        load.go_on()
        reload(f"{first} down", second)
        assert old.stop() == 0
        _, first = gateway()
        reload(first, f"{second} down")
        assert older.stop() == 0
        reload(first, gateway()[1])
        load.go_on()


def test_its_log_says_who_was_refused_and_holds_no_key(
    run_nginx: RunNginx, start_gateway: StartGateway, tmp_path: Path
) -> None:
    _, base = start_gateway(API_KEYS="sk-right")
    address = run_nginx(base, folder=tmp_path)
    url = f"{address}/v1/chat/completions?api_key=sk-secret"
    headers = {
        "Authorization": "Bearer sk-secret",
        "api-key": "sk-secret",
        "Referer": "sk-secret",
        "User-Agent": "sk-secret",
    }
    answer = requests.post(url, json={"messages": user("sk-secret")}, headers=headers, timeout=SECONDS)
    assert failed(answer) == (401, "authentication_error", "invalid_api_key")
    with contextlib.closing(Connection(address)) as client:
        client.head(start='GET /"odd\\path"?sk-secret HTTP/1.1')
        assert client.answer().status == 404
    log = tmp_path / "access.log"
    lines = wait_for(
        "two lines of the log", lambda: len(found := log.read_text().splitlines()) == 2 and found, seconds=10
    )
    assert "sk-secret" not in "".join(lines)
    said, odd = map(json.loads, lines)
    assert odd["path"] == '/"odd\\path"'
    assert datetime.datetime.fromisoformat(said.pop("time")).tzinfo
    assert all(said.pop(name) > 0 for name in ("request_bytes", "bytes"))
    assert said.pop("total_seconds") >= 0
    assert said == {
        "client": "127.0.0.1",
        "id": answer.headers["x-request-id"],
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 401,
        "upstream_status": "401",
    }


def test_the_recipe_is_the_one_that_readme_names() -> None:
    assert "(deploy/nginx.conf)" in (REPOSITORY / "README.md").read_text()
    assert Path(REPOSITORY / "deploy/nginx.conf").is_file()
