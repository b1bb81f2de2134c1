"""HTTP towards upstreams, over real sockets where it matters: each way to fail becomes the error of its phase."""

import gzip
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
import responses

from gpt_oss_proxy.errors import (
    GatewayError,
    RateLimited,
    UpstreamConnectionError,
    UpstreamConnectTimeout,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamTooLarge,
    UpstreamUnavailable,
    UpstreamUnreachable,
)
from gpt_oss_proxy.net.client import connections
from gpt_oss_proxy.net.client.transport import HTTPStatusError, Transport, read_blocks
from gpt_oss_proxy.upstreams.status_error import error_from_status, read_status
from tests.upstreams.raw_server import CHUNKED, UNTIL_CLOSE, Answer, RawServer, chunk, close, reset, with_length

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=[True, False], ids=["fast", "standard"])
def transport(request) -> Iterator[Transport]:
    transport = Transport(connect_timeout_seconds=5, fast=request.param)
    yield transport
    transport.close()


class Servers:
    def __init__(self) -> None:
        self._started: list[RawServer] = []

    def __call__(self, *answers: Answer, listens: bool = True) -> RawServer:
        self._started.append(RawServer(*answers, listens=listens))
        return self._started[-1]

    def stop(self) -> None:
        for server in self._started:
            server.stop()


@pytest.fixture
def serve() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.stop()


def ask(transport: Transport, url: str) -> bytes:
    with transport.send("POST", f"{url}/say", headers={"X-Mine": "1"}, body=b"hello") as response:
        return b"".join(read_blocks(response))


def refusal(transport: Transport, url: str) -> type[Exception]:
    with pytest.raises((GatewayError, HTTPStatusError)) as raised:
        ask(transport, url)
    return raised.type


# Connecting


def test_a_refused_connection_is_unreachable(transport):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    assert refusal(transport, url) is UpstreamUnreachable


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_that_cannot_be_resolved_is_unreachable(transport, monkeypatch, error):
    def fail(*args: object, **rest: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert refusal(transport, "http://upstream.example") is UpstreamUnreachable


def test_a_connection_that_times_out_in_tcp_is_a_connect_timeout(transport, monkeypatch):
    def time_out(*args: object, **rest: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", time_out)
    assert refusal(transport, "http://127.0.0.1:9") is UpstreamConnectTimeout


# Before the answer's head is there


def read_on(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([reset], UpstreamConnectionError),
        ([close], UpstreamConnectionError),
        ([b"HTTP/1.1 200 OK\r\nContent-", reset], UpstreamConnectionError),
        ([b"HELLO\r\n\r\n", close], UpstreamProtocolError),
        ([b"HTTP/1.1 abc\r\n\r\n", close], UpstreamProtocolError),
        ([b"HTTP/1.1 000 Nothing\r\n\r\n", read_on], UpstreamProtocolError),
        ([b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, close], UpstreamProtocolError),
        ([b"HTTP/1.1 200 OK\r\n" + b"A: x\r\n" * 200 + b"\r\n", close], UpstreamProtocolError),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, close], UpstreamProtocolError),
    ],
    ids=[
        "reset",
        "closed",
        "reset in the head",
        "no HTTP",
        "no status",
        "status 000",
        "long line",
        "many headers",
        "100 for ever",
    ],
)
def test_what_happens_before_the_head_is_a_broken_connection_or_no_http(transport, serve, answer, error):
    assert refusal(transport, serve(answer).url) is error


@pytest.mark.parametrize("more", [[b"A: " + b"x" * 60_000], [b"A: x"] * 98], ids=["long line", "many headers"])
def test_a_head_may_be_as_large_as_http_client_takes_it(transport, serve, more):
    assert ask(transport, serve([with_length(b"Hi", *more)]).url) == b"Hi"


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Whatever"])
def test_an_interim_answer_is_passed_over_and_the_next_request_gets_its_own_answer(transport, serve, status):
    interim = b"HTTP/1.1 " + status + b"\r\nContent-Encoding: br\r\n\r\n"  # its headers are none of the answer's
    server = serve([interim, with_length(b"first")], [with_length(b"second")])
    assert [ask(transport, server.url), ask(transport, server.url)] == [b"first", b"second"]


def test_a_status_needs_no_words(transport, serve):
    assert ask(transport, serve([b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nHi"]).url) == b"Hi"


def test_a_switch_of_protocols_that_nobody_asked_for_is_no_http(transport, serve):
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    assert refusal(transport, serve([switching, with_length(b"Hi")]).url) is UpstreamProtocolError


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, br", b"nonsense"])
def test_a_coding_that_cannot_be_undone_is_a_protocol_error(transport, serve, coding):
    assert refusal(transport, serve([with_length(b"Hi", b"Content-Encoding: " + coding)]).url) is UpstreamProtocolError


@pytest.mark.parametrize("size", [b"-1", b"-5", b"-0x5"])
def test_a_chunk_of_less_than_nothing_breaks_the_body(transport, serve, size):
    server = serve([CHUNKED + b"\r\n" + chunk(b"Hi") + size + b"\r\ndata: x\n\n", close])
    assert refusal(transport, server.url) is UpstreamIncomplete


def test_an_error_of_the_system_before_the_head_is_a_broken_connection(transport):
    with responses.RequestsMock() as upstream:
        upstream.post("http://upstream.example/say", body=OSError("no buffer space"))
        assert refusal(transport, "http://upstream.example") is UpstreamConnectionError


def test_what_requests_refuses_to_send_or_read_is_a_protocol_error(transport):
    with pytest.raises(UpstreamProtocolError):
        transport.send("GET", "http://upstream.example", headers={"A": "two\nlines"}, body=None)


@pytest.mark.parametrize("size", [1_000, 8_000_000])
def test_who_refuses_a_long_body_without_reading_it_is_heard_all_the_same(transport, serve, size):
    closed = threading.Event()
    refused = [read_on, with_length(b"{}", status=b"413 Content Too Large"), close, lambda _: closed.set()]
    server = serve(refused, [with_length(b"Hi")], listens=False)
    with pytest.raises(HTTPStatusError) as raised:
        transport.send("POST", server.url, headers={}, body=b"x" * size)
    assert raised.value.status == 413
    assert closed.wait(5)  # else the next request might just meet the end of this connection
    with transport.send("POST", server.url, headers={}, body=b"") as response:
        assert b"".join(read_blocks(response)) == b"Hi"
    assert server.connections == 2


def test_a_connection_that_breaks_under_a_long_body_is_a_broken_connection(transport, serve):
    server = serve([read_on, reset], listens=False)
    with pytest.raises(UpstreamConnectionError):
        transport.send("POST", server.url, headers={}, body=b"x" * 8_000_000)


# What is sent


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:9", "http://:9/say"])
def test_a_url_that_is_none_of_http_is_a_protocol_error(transport, url):
    assert refusal(transport, url) is UpstreamProtocolError


def test_exactly_our_headers_go_out(transport, serve):
    server = serve([with_length(b"Hi")])
    ask(transport, server.url)
    assert server.bodies == [b"hello"]
    assert (server.heads[0][0], sorted(server.heads[0][1:])) == (
        "POST /say HTTP/1.1",
        [
            "Accept-Encoding: identity",
            "Content-Length: 5",
            "Host: " + server.url.removeprefix("http://"),
            "User-Agent: gpt-oss-proxy",
            "X-Mine: 1",
        ],
    )


def test_the_name_and_password_in_a_url_are_sent_as_such_and_nowhere_else(transport, serve):
    server = serve([with_length(b"Hi")])
    host = server.url.removeprefix("http://")
    assert ask(transport, f"http://me:s%40cret@{host}") == b"Hi"
    assert "Authorization: Basic bWU6c0BjcmV0" in server.heads[0]
    assert f"Host: {host}" in server.heads[0]
    assert "POST /say HTTP/1.1" in server.heads[0]


def test_the_environment_neither_diverts_nor_adds_credentials(transport, serve, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server = serve([with_length(b"Hi")])
    assert ask(transport, server.url) == b"Hi"
    assert not [line for line in server.heads[0] if line.lower().startswith(("authorization", "proxy"))]


def test_cookies_are_not_kept_from_one_request_to_the_next(transport, serve):
    server = serve([with_length(b"Hi", b"Set-Cookie: user_id=1; Path=/")])
    ask(transport, server.url)
    ask(transport, server.url)
    assert [line for head in server.heads for line in head if line.lower().startswith("cookie")] == []


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"307 Temporary Redirect", b"308 Permanent Redirect"])
def test_a_redirect_is_not_followed(transport, serve, status):
    server = serve([with_length(b"", b"Location: /elsewhere", status=status)])
    with pytest.raises(HTTPStatusError) as refused:
        ask(transport, server.url)
    assert (refused.value.status, len(server.heads)) == (int(status[:3]), 1)
    assert type(error_from_status(read_status(refused.value))) is UpstreamFailed


# The body


@pytest.mark.parametrize("frame", [bytes, chunk], ids=["until close", "chunked"])
def test_each_part_of_a_body_comes_at_once(transport, serve, frame):
    seen = threading.Semaphore(0)
    head = UNTIL_CLOSE if frame is bytes else CHUNKED + b"\r\n"
    last = b"" if frame is bytes else chunk(b"")

    def wait(_connection: socket.socket) -> None:
        assert seen.acquire(timeout=5)

    server = serve([head, frame(b"one"), wait, frame(b"two"), wait, frame(b"three"), last, close])
    with transport.send("GET", server.url, headers={}, body=None) as response:
        got = []
        for block in read_blocks(response):
            got.append(block)
            seen.release()
    assert got == [b"one", b"two", b"three"]


TEXT = b"data: hello\n\n" * 1000


@pytest.mark.parametrize("coding", [b"gzip", b"x-gzip"])
def test_a_compressed_body_is_decompressed(transport, serve, coding):
    body = gzip.compress(TEXT, mtime=0)
    server = serve([with_length(body, b"Content-Encoding: " + coding)])
    assert ask(transport, server.url) == TEXT
    parts = chunk(body[:20]) + chunk(body[20:40]) + chunk(body[40:]) + chunk(b"")
    server = serve([CHUNKED + b"Content-Encoding: " + coding + b"\r\n\r\n" + parts])
    assert ask(transport, server.url) == TEXT


def test_a_compressed_body_is_decompressed_as_it_comes_and_in_pieces_of_limited_size(transport, serve):
    bomb = gzip.compress(bytes(10_000_000), mtime=0)
    server = serve([CHUNKED + b"Content-Encoding: gzip\r\n\r\n" + chunk(bomb) + chunk(b"")])
    with transport.send("GET", server.url, headers={}, body=None) as response:
        sizes = [len(block) for block in read_blocks(response)]
    assert (sum(sizes), max(sizes)) == (10_000_000, 65536)


def test_a_little_that_becomes_very_much_lets_others_run(transport, serve):
    server = serve([with_length(gzip.compress(b"\n" * 3_000_000, mtime=0), b"Content-Encoding: gzip")])
    turns = 0

    def run() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(1e-6)  # not 0: timers have their turn, too

    other = gevent.spawn(run)
    with transport.send("GET", server.url, headers={}, body=None) as response:
        turns = 0  # before, the others ran while this one waited for the head
        blocks = sum(1 for _ in read_blocks(response))
    other.kill()
    assert turns >= blocks / 2 > 20


def test_what_is_not_compressed_is_read_without_pauses(serve, monkeypatch):
    paused = []
    monkeypatch.setattr(gevent, "sleep", paused.append)
    transport = Transport(connect_timeout_seconds=5)
    assert ask(transport, serve([with_length(b"x" * 1_000_000)]).url) == b"x" * 1_000_000
    transport.close()
    assert paused == []


def test_blanks_behind_the_size_of_a_chunk_do_no_harm(transport, serve):
    assert ask(transport, serve([CHUNKED + b"\r\n2 \r\nHi\r\n0\r\n\r\n"]).url) == b"Hi"


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(TEXT, mtime=0)[:10] + b"\xff" * 20])
def test_a_badly_compressed_body_is_a_protocol_error(transport, serve, body):
    server = serve([with_length(body, b"Content-Encoding: gzip")])
    assert refusal(transport, server.url) is UpstreamProtocolError


@pytest.mark.parametrize(
    "answer",
    [
        [CHUNKED + b"\r\n" + chunk(b"Hi"), reset],
        [CHUNKED + b"\r\n" + chunk(b"Hi"), close],
        [CHUNKED + b"\r\n" + b"10\r\nHi", close],
        [CHUNKED + b"\r\n" + chunk(b"Hi") + b"no size\r\n", close],
        [with_length(b"Hi there")[:-3], close],
        [UNTIL_CLOSE + b"Hi", reset],
    ],
    ids=["chunks, reset", "chunks, closed", "in a chunk", "no chunk", "short", "until close, reset"],
)
def test_a_body_that_breaks_is_incomplete(transport, serve, answer):
    assert refusal(transport, serve(answer).url) is UpstreamIncomplete


# The pool


def test_a_connection_whose_answer_was_read_to_its_end_is_used_again(transport, serve, monkeypatch):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    server = serve([CHUNKED + b"\r\n" + chunk(b"Hi") + chunk(b"")])
    assert [ask(transport, server.url) for _ in range(3)] == [b"Hi"] * 3
    assert server.connections == 1


def test_a_connection_whose_answer_was_not_read_to_its_end_is_closed(transport, serve):
    gone = threading.Event()

    def wait_for_close(connection: socket.socket) -> None:
        connection.settimeout(5)
        if not connection.recv(1):
            gone.set()

    server = serve([CHUNKED + b"\r\n" + chunk(b"Hi"), wait_for_close], [with_length(b"Ho")])
    with transport.send("GET", server.url, headers={}, body=None) as response:
        assert next(read_blocks(response)) == b"Hi"
    assert gone.wait(5)
    assert ask(transport, server.url) == b"Ho"
    assert server.connections == 2


def test_closing_closes_idle_connections(serve):
    transport = Transport(connect_timeout_seconds=5)
    closed = threading.Event()
    server = serve([with_length(b"Hi"), lambda connection: connection.recv(1) or closed.set()])
    assert ask(transport, server.url) == b"Hi"
    transport.close()
    assert closed.wait(5)


def test_a_refusal_leaves_its_connection_in_the_pool(transport, serve, monkeypatch):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    server = serve([with_length(b"no", status=b"429 Too Many Requests")], [with_length(b"Hi")])
    assert refusal(transport, server.url) is HTTPStatusError
    assert (ask(transport, server.url), server.connections) == (b"Hi", 1)


# Statuses


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 429, 500, 529, 599])
def test_a_status_that_is_no_answer_comes_with_what_its_body_says(transport, status):
    with responses.RequestsMock() as upstream:
        error = {"message": "boom", "code": "x", "param": "seed"}
        upstream.post("http://upstream.example/say", status=status, json={"error": error})
        with pytest.raises(HTTPStatusError) as refused:
            ask(transport, "http://upstream.example")
    found = read_status(refused.value)
    assert (found.status, found.text, found.code, found.param) == (status, "boom", "x", "seed")


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 299])
def test_any_status_of_success_is_an_answer(transport, status):
    with responses.RequestsMock() as upstream:
        upstream.post("http://upstream.example/say", status=status, body=b"Hi")
        assert ask(transport, "http://upstream.example") == b"Hi"


def test_of_a_long_error_body_only_the_beginning_is_read(transport):
    with responses.RequestsMock() as upstream:
        upstream.post("http://upstream.example/say", status=500, body=b"x" * 200_000)
        with pytest.raises(HTTPStatusError) as refused:
            ask(transport, "http://upstream.example")
    assert refused.value.body == b"x" * 65536


@pytest.mark.parametrize("depth", [500, 900, 930, 950, 960, 970, 980, 990, 1000, 100_000])
def test_a_bottomless_error_body_is_still_the_error_of_its_status(transport, depth):
    with responses.RequestsMock() as upstream:
        body = b'{"error":{"message":' + b"[" * depth + b"]" * depth + b"}}"
        upstream.post("http://upstream.example/say", status=400, body=body)
        assert refusal(transport, "http://upstream.example") is HTTPStatusError


def test_an_error_body_that_breaks_does_not_hide_the_status(transport, serve):
    server = serve([b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\nToo lo", close])
    with pytest.raises(HTTPStatusError) as refused:
        ask(transport, server.url)
    assert (refused.value.status, refused.value.body) == (400, b"Too lo")


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        ("7", "7"),
        (DATE, DATE),
        (None, "5"),
        ("", "5"),
        ("soon", "5"),
        ("-1", "5"),
        ("1.5", "5"),
        ("²", "5"),
        ("9" * 100, "5"),
        ("Wed, 99 Oct 2026 07:28:00 GMT", "5"),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", "5"),
        (DATE + "x" * 100, "5"),
    ],
)
@pytest.mark.parametrize(("status", "error"), [(429, RateLimited), (503, UpstreamUnavailable)])
def test_a_retry_after_that_makes_sense_is_passed_on(transport, status, error, sent, passed_on):
    with responses.RequestsMock() as upstream:
        headers = {} if sent is None else {"Retry-After": sent}
        upstream.post("http://upstream.example/say", status=status, headers=headers)
        with pytest.raises(HTTPStatusError) as refused:
            ask(transport, "http://upstream.example")
    found = error_from_status(read_status(refused.value))
    assert (type(found), found.retry_after) == (error, passed_on)


def test_a_header_on_two_lines_is_read_as_one_or_refused(transport, serve):
    """HTTP/1.1 has given them up (RFC 9112, 5.2), and lets a gateway choose."""
    folded = b"Retry-After: Wed, 21 Oct\r\n 2026 07:28:00 GMT"
    server = serve([with_length(b"", folded, status=b"429 Too Many Requests")])
    with pytest.raises((HTTPStatusError, UpstreamProtocolError)) as refused:
        ask(transport, server.url)
    assert getattr(refused.value, "retry_after", None) in (DATE, None)


def test_no_error_of_the_network_names_the_host(transport):
    with pytest.raises(GatewayError) as raised:
        ask(transport, "http://secret-host.invalid:1")
    assert raised.value.message == UpstreamUnreachable.message


# Fetching a small document


def fetch(transport: Transport, url: str, max_bytes: int = 10) -> bytes:
    return transport.fetch(url, headers={"A": "b"}, max_bytes=max_bytes, timeout_seconds=5)


def test_fetch_returns_a_whole_body(transport, serve):
    server = serve([CHUNKED + b"\r\n" + chunk(b"01234") + chunk(b"56789") + chunk(b"")])
    assert fetch(transport, server.url) == b"0123456789"
    assert (server.heads[0][0], "A: b" in server.heads[0]) == ("GET / HTTP/1.1", True)


def test_fetch_refuses_a_body_above_its_limit(transport, serve):
    server = serve([with_length(b"0123456789a")])
    with pytest.raises(UpstreamTooLarge):
        fetch(transport, server.url)


def test_fetch_raises_a_status(transport, serve):
    with pytest.raises(HTTPStatusError, match="503"):
        fetch(transport, serve([with_length(b"", status=b"503 Service Unavailable")]).url)


# Limits of time, which need gevent's sockets


@pytest.mark.parametrize("adapter", ["fast", "standard"])
def test_time_limits_hold_over_gevent_s_sockets(adapter):
    """One process of its own: gevent's patches would change all other tests of this one."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.net.client.time_limits", adapter],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stderr == ""
    assert json.loads(ran.stdout) == {
        "connect: nobody accepts": "UpstreamConnectTimeout",
        "connect: name look-up hangs": "UpstreamConnectTimeout",
        "connect: killed meanwhile": "0 more descriptors",
        "connect: TLS hangs": "UpstreamConnectTimeout",
        "connect: TLS hung": "0 more descriptors",
        "connect: the proxy hangs": "UpstreamConnectTimeout",
        "connect: TLS hangs behind the proxy": "UpstreamConnectTimeout",
        "connect: TLS hung behind the proxy": "0 more descriptors",
        "connect: the proxy is slow, and TLS": "UpstreamConnectTimeout",
        "fetch: no answer": "UpstreamFirstEventTimeout",
        "fetch: trickling body": "UpstreamFirstEventTimeout",
        "a caller's own time limit": "Timeout",
        "terminal event, then silence": "Hi Finish",
        "last message done, then silence": "Hi Finish",
        "last message done, then comments without end": "Hi Finish, closed",
        "comments without end": "others run, closed",
        "trailers without end": "others run, closed",
        "compressed nothing without end": "others run, closed",
        "a refusal with a body that hangs": "429, retry after 7",
        "connections that are idle": "Hi Hi a, 1 then 2 connections, closed True",
        "a redirect with a body that hangs": "302",
        "a server that is slow to read the request": "Hi",
        "terminal event, then comments without end": "Hi Finish, closed",
    }
