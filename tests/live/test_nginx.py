"""Debian's nginx with the shipped deploy/nginx.conf in front of the gateway: none of its promises is lost."""

import contextlib
import http.client
import os
import re
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
from tests.live.talk import SECONDS, Upstream, chat, error_of, failed, stream, text_of, user
from tests.live.test_hostile_http import NO_HTTP, refused, say
from tests.live.wire import Connection
from tests.upstreams.raw_server import CHUNKED, RawServer, chunk

RunNginx = Callable[..., str]
# All that a second nginx in front of the shipped one says: everything else is left to its defaults.
DEFAULTS = """\
pid /run/nginx.pid;
events {}
http {
    access_log off;
    upstream gateway {
        server 127.0.0.1:3000;  # <-
    }
    server {
        listen 80;  # <-
        location / { proxy_pass http://gateway; }
    }
}
"""


@pytest.fixture(scope="session")
def run_nginx(start: Start, tmp_path_factory: pytest.TempPathFactory) -> RunNginx:
    """Start nginx, with the shipped configuration or another one, in front of an address, and return its own."""
    nginx = needs("nginx")
    shipped = (REPOSITORY / "deploy/nginx.conf").read_text()

    def run(behind: str, config: str = shipped) -> str:
        folder = tmp_path_factory.mktemp("nginx")
        port = free_port()
        config = put(config, "listen 80;  # <-", f"listen 127.0.0.1:{port};")
        config = put(config, "server 127.0.0.1:3000;  # <-", f"server {behind.removeprefix('http://')};")
        config = put(config, "pid /run/nginx.pid;", f"pid {folder}/nginx.pid;")
        # Without root, nginx needs places of its own to write to.
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        config = put(config, "access_log off;", f"access_log off; {places}")
        (folder / "nginx.conf").write_text(config)
        # As root, its workers would become nobody, who may not enter pytest's folders.
        told = "daemon off;" + (" user root;" if os.getuid() == 0 else "")
        child: Child = start("nginx", nginx, "-c", str(folder / "nginx.conf"), "-e", "stderr", "-g", told)
        address = f"http://127.0.0.1:{port}"
        child.wait_until_ready(lambda: listens(address))
        return address

    return run


def put(text: str, old: str, new: str) -> str:
    """Return the text with one directive in the place of another, with the comment behind it."""
    assert text.count(old) == 1
    return re.sub(f"{re.escape(old)}.*", new, text)


def listens(address: str) -> bool:
    try:
        return bool(requests.get(address, timeout=5).status_code)
    except requests.ConnectionError:
        return False


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


def test_the_recipe_is_the_one_that_readme_names() -> None:
    assert "(deploy/nginx.conf)" in (REPOSITORY / "README.md").read_text()
    assert Path(REPOSITORY / "deploy/nginx.conf").is_file()
