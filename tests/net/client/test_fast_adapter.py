"""The fast adapter where it differs from requests' own; what both must do is in test_transport.py."""

import contextlib
import errno
import gc
import gzip
import http.client
import itertools
import os
import threading
import time
import weakref
from collections.abc import Iterator

import gevent
import pytest
import requests

from gpt_oss_proxy.errors import GatewayError, UpstreamIncomplete, UpstreamProtocolError
from gpt_oss_proxy.net import turn
from gpt_oss_proxy.net.client import connections, fast_adapter
from gpt_oss_proxy.net.client.connections import Origin
from gpt_oss_proxy.net.client.fast_adapter import Body, FastAdapter
from gpt_oss_proxy.net.client.standard_adapter import StandardAdapter
from gpt_oss_proxy.net.client.transport import Transport, offer, read_blocks
from tests.upstreams.raw_server import CHUNKED, RawServer, chunk, close, with_length

HEAD = CHUNKED + b"\r\n"


@pytest.fixture
def adapter() -> Iterator[FastAdapter]:
    adapter = FastAdapter(5)
    yield adapter
    adapter.close()


def get(adapter: requests.adapters.HTTPAdapter, url: str, **options: object) -> requests.Response:
    return adapter.send(requests.Request("GET", url).prepare(), stream=True, **options)


def test_a_response_has_all_that_requests_gives_it_but_cookies_and_a_duration(adapter):
    server = RawServer([with_length(b"Hi", b"X-A: b")])
    with get(adapter, server.url) as response:
        assert set(vars(requests.Response())) - set(vars(response)) == {"cookies", "elapsed"}
        assert (response.status_code, response.reason, response.url) == (200, "OK", f"{server.url}/")
        assert (response.headers["x-a"], "X-a" in response.headers, "X-C" in response.headers) == ("b", True, False)
        assert (dict(response.cookies), b"".join(read_blocks(response))) == ({}, b"Hi")
    server.stop()


def test_a_read_of_the_socket_brings_all_its_chunks_at_once(adapter):
    parts = [b"%d" % number for number in range(100)]
    server = RawServer([CHUNKED + b"\r\n" + b"".join(map(chunk, parts)) + chunk(b"")])
    with get(adapter, server.url) as response:
        assert list(read_blocks(response)) == [b"".join(parts)]
    server.stop()


def test_a_short_answer_takes_one_read_each_time(adapter, monkeypatch):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    little, more = with_length(b"x"), with_length(b"x" * 20_000)
    server = RawServer([more], [little], [more])
    sizes = []
    real_read = os.read
    monkeypatch.setattr(turn.os, "read", lambda descriptor, size: sizes.append(size) or real_read(descriptor, size))
    for _ in range(3):
        with get(adapter, server.url) as response:
            b"".join(read_blocks(response))
    assert (sizes, server.connections) == ([turn.LARGE_READ] * 3, 1)
    server.stop()


@pytest.mark.parametrize("options", [{"verify": False}, {"verify": "a.pem"}, {"cert": "a.pem"}])
def test_what_it_cannot_do_is_left_to_requests(adapter, monkeypatch, options):
    asked = []
    monkeypatch.setattr(
        StandardAdapter, "get_connection_with_tls_context", lambda *args, **rest: asked.append(args) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        get(adapter, "https://localhost", **options)
    assert asked


def ask_twice(adapter, first):
    """Return what two requests are answered and the connections they needed, with `first` as the first answer."""
    server = RawServer([first], [with_length(b"b")])
    said = []
    for _ in range(2):
        with get(adapter, server.url) as response:
            said.append((response.status_code, b"".join(read_blocks(response))))
    server.stop()
    return said, server.connections


BOTH = [(200, b"a"), (200, b"b")]
ANSWER = with_length(b"a"), CHUNKED + b"\r\n" + chunk(b"a") + chunk(b"")
TRAILER = CHUNKED + b"\r\n" + chunk(b"a") + b"0\r\nContent-Length: 1\r\n\r\n"


@pytest.mark.parametrize("answer", [*ANSWER, TRAILER], ids=["length", "chunks", "trailer"])
def test_a_connection_is_reused_after_an_answer_that_was_read_to_its_end(adapter, monkeypatch, answer):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    assert ask_twice(adapter, answer) == (BOTH, 1)


@pytest.mark.parametrize("behind", [with_length(b"x", status=b"500 Oops"), with_length(b"x")[:-1], b"H", b"nonsense"])
@pytest.mark.parametrize("answer", ANSWER, ids=["length", "chunks"])
def test_a_connection_with_something_behind_its_answer_is_not_reused(adapter, monkeypatch, answer, behind):
    """Nor where idle connections need no rest: what came behind has been read, so they look quiet."""
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    assert ask_twice(adapter, answer + behind) == (BOTH, 2)


@pytest.mark.parametrize(
    "headers",
    [b"Content-Length: 1\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 1"],
)
def test_a_connection_is_not_reused_after_an_answer_with_both_length_and_chunks(adapter, monkeypatch, headers):
    """A proxy before the upstream may believe the length, and take the rest for the next answer."""
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    answer = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % headers + chunk(b"a") + chunk(b"")
    assert ask_twice(adapter, answer) == (BOTH, 2)


@pytest.mark.parametrize("name", ["X-A", "X-A: b\r\nX-C"])
def test_a_line_end_in_a_header_is_not_sent(name):
    transport = Transport(connect_timeout_seconds=5)
    with pytest.raises(UpstreamProtocolError):
        transport.send("GET", "http://127.0.0.1:9", headers={name: "1\r\nX-B: 2" if name == "X-A" else "1"}, body=None)


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://a.example", Origin("http", "a.example", 80, "a.example"), "/"),
        ("https://me:secret@A.example/b?c=d", Origin("https", "a.example", 443, "A.example"), "/b?c=d"),
        ("https://[::1]:8443/b", Origin("https", "::1", 8443, "[::1]:8443"), "/b"),
    ],
)
def test_a_url_names_a_server_and_a_path(adapter, url, origin, path):
    request = requests.Request("GET", url).prepare()
    request.url = url  # as it is: requests would write it in lower case
    found = adapter.get_connection_with_tls_context(request, verify=True)
    assert (found.origin, adapter.request_url(request, None)) == (origin, path)


@pytest.fixture
def cut(monkeypatch):
    """Return the error that cuts each request short, while the connection stays whole."""
    error = OSError(errno.ENOBUFS, "no room")

    def fail(_connection, _data):
        raise error

    monkeypatch.setattr(connections.Connection, "send", fail)
    return error


def test_a_connection_whose_request_was_cut_is_not_used_again_even_if_its_answer_is_there(adapter, cut):
    server = RawServer([with_length(b"a"), lambda connection: connection.recv(1)], listens=False)
    with get(adapter, server.url) as response:
        assert b"".join(read_blocks(response)) == b"a"
    assert not any(pool.idle for pool in adapter._pools.values())
    server.stop()


@pytest.mark.parametrize("answer", [[b"nonsense"], [close]])
def test_what_cut_a_request_is_the_error_unless_there_is_an_answer(adapter, cut, answer):
    server = RawServer(answer, listens=False)
    with pytest.raises(requests.ConnectionError) as raised:
        get(adapter, server.url)
    assert raised.value.args[0] is cut
    server.stop()


def test_that_a_body_is_over_is_known_when_all_of_it_was_handed_on(adapter):
    server = RawServer([with_length(b"a")])
    with get(adapter, server.url) as response:
        seen = [response.raw.at_end, response.raw.read1(), response.raw.at_end]
    assert seen == [False, b"a", True]
    server.stop()


@pytest.mark.parametrize(("number", "error"), [(8, None), (9, http.client.HTTPException)])
def test_interim_answers_are_passed_over_but_not_for_ever(adapter, number, error):
    server = RawServer([b"HTTP/1.1 102 Processing\r\n\r\n" * number + with_length(b"a")])
    with pytest.raises(error) if error else contextlib.nullcontext(), get(adapter, server.url) as response:
        assert b"".join(read_blocks(response)) == b"a"
    server.stop()


def test_an_answer_has_no_end_but_its_own(adapter):
    """Who closes the response in the middle of it closes the connection."""
    held = threading.Event()
    server = RawServer([CHUNKED + b"\r\n" + chunk(b"a"), lambda _connection: held.wait(5)])
    response = get(adapter, server.url)
    body = response.raw
    assert isinstance(body, Body)
    assert (body.read1(), body.at_end) == (b"a", False)
    response.close()
    held.set()
    assert not any(pool.idle for pool in adapter._pools.values())
    server.stop()


class Reads:
    """A connection that brings these bytes, each in a read of its own."""

    def __init__(self, *reads):
        self._reads = iter(reads)

    def receive(self, _size=0):
        return next(self._reads, b"")


@pytest.mark.parametrize(("size", "error"), [(64 * 1024, None), (64 * 1024 + 1, http.client.HTTPException)])
def test_a_head_that_comes_in_parts_may_be_long_but_has_its_bound(size, error):
    begin = b"HTTP/1.1 200 OK\r\nX: ".ljust(size, b"x")
    body = Body(Reads(begin, b"\r\n\r\n"), lambda _connection: None)
    with pytest.raises(error) if error else contextlib.nullcontext():
        body.read_head()
    assert body.status == (0 if error else 200)


@pytest.mark.parametrize(("size", "error"), [(64 * 1024, None), (64 * 1024 + 1, ValueError)])
def test_trailers_that_come_in_parts_may_be_long_but_have_their_bound(size, error):
    given_back = []
    body = Body(Reads(HEAD + chunk(b"a") + b"0\r\nX: ", b"x" * size, b"\r\n\r\n"), given_back.append)
    body.read_head()
    assert body.read1() == b"a"
    with pytest.raises(error) if error else contextlib.nullcontext():
        assert body.read1() == b""
    assert len(given_back) == (0 if error else 1)


@pytest.mark.parametrize("more", [b"X: " + b"x" * 200_000, b"X: x\r\n" * 40_000], ids=["one line", "many"])
def test_trailers_without_end_are_not_read_for_ever(adapter, more):
    server = RawServer([CHUNKED + b"\r\n" + chunk(b"a") + b"0\r\n" + more, lambda connection: connection.recv(1)])
    with get(adapter, server.url) as response, pytest.raises(UpstreamIncomplete):
        list(read_blocks(response))
    server.stop()


def test_a_body_whose_end_nobody_knows_is_refused(adapter):
    server = RawServer([with_length(b"Hi", b"Transfer-Encoding: identity")])
    with pytest.raises(http.client.HTTPException):
        get(adapter, server.url)
    server.stop()


def test_a_body_in_a_coding_that_is_not_chunked_ends_with_its_connection(adapter):
    server = RawServer([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\nHi", close])
    with get(adapter, server.url) as response:
        assert b"".join(read_blocks(response)) == b"Hi"
    server.stop()


def test_an_answer_that_is_over_needs_no_garbage_collector(adapter):
    server = RawServer([with_length(b"Hi")])
    gc.disable()
    try:
        with get(adapter, server.url) as response:
            body = weakref.ref(response.raw)
            list(read_blocks(response))
        del response
        assert body() is None
    finally:
        gc.enable()
    server.stop()


@pytest.fixture
def one_by_one(monkeypatch):
    """Return what makes steps of bytes each come in a read of its own: the next is sent when the one before is read."""
    read = 0
    original = os.read

    def count(descriptor, size):
        nonlocal read
        data = original(descriptor, size)
        read += len(data)
        return data

    monkeypatch.setattr(turn.os, "read", count)

    def until(size):
        def wait(_connection):
            while read < size:
                time.sleep(0.001)

        return wait

    def steps(*given):
        sizes = itertools.accumulate(len(step) if isinstance(step, bytes) else 0 for step in given)
        return list(itertools.chain(*((step, until(size)) for step, size in zip(given, sizes, strict=True))))

    return steps


def split(adapter, steps, takes=lambda _block: True):
    """Return what was taken and what was left for the reader of a body that comes in these steps, and its error."""
    server = RawServer(steps)
    taken, left, error = [], [], None

    def take(block):
        if takes(block):
            taken.append(block)
            return True
        return False

    with get(adapter, server.url) as response:
        offer(response, take)
        try:
            left.extend(read_blocks(response))
        except GatewayError as failure:
            error = type(failure)
    server.stop()
    return taken, left, error


def test_a_taker_gets_what_each_read_brings_but_never_the_end(adapter, one_by_one):
    steps = one_by_one(HEAD, chunk(b"a"), chunk(b"b") + chunk(b"c"), chunk(b"d") + chunk(b""))
    assert split(adapter, steps) == ([b"a", b"bc"], [b"d"], None)


def test_what_a_taker_leaves_comes_as_ever_and_once(adapter, one_by_one):
    steps = one_by_one(HEAD, chunk(b"a"), chunk(b"b") + chunk(b"c"), chunk(b"d"), chunk(b""))
    taken, left, error = split(adapter, steps, takes=lambda block: block != b"bc")
    assert (taken, left, error) == ([b"a", b"d"], [b"bc"], None)


def test_a_taker_meets_chunks_that_are_cut_anywhere(adapter, one_by_one):
    body = chunk(b"abc") + chunk(b"de")
    steps = one_by_one(HEAD, *(body[place : place + 1] for place in range(len(body))), chunk(b""))
    taken, left, error = split(adapter, steps)
    assert (b"".join(taken), left, error) == (b"abcde", [], None)


def test_who_closes_the_adapter_closes_its_idle_connections(monkeypatch):
    closed = threading.Event()
    server = RawServer([with_length(b"a"), lambda connection: connection.recv(1) or closed.set()])
    adapter = FastAdapter(5)
    with get(adapter, server.url) as response:
        list(read_blocks(response))
    also = []
    monkeypatch.setattr(StandardAdapter, "close", lambda adapter: also.append(adapter))
    adapter.close()
    assert closed.wait(5)
    assert also == [adapter]
    server.stop()


@pytest.fixture
def errors(monkeypatch):
    """Return a list of what failed in the hub."""
    failed = []
    monkeypatch.setattr(gevent.get_hub(), "handle_error", lambda _context, kind, *_rest: failed.append(kind))
    return failed


@pytest.mark.parametrize(("end", "left"), [(chunk(b"b") + b"no chunk", [b"b"]), (close, [])])
def test_a_taker_is_not_given_what_comes_with_a_break(adapter, one_by_one, errors, end, left):
    steps = [*one_by_one(HEAD, chunk(b"a")), end]
    assert (*split(adapter, steps), errors) == ([b"a"], left, UpstreamIncomplete, [])


def test_what_a_taker_fails_at_comes_as_ever_and_once_and_what_follows_too(adapter, one_by_one, errors):
    steps = one_by_one(HEAD, chunk(b"a"), chunk(b"b"), chunk(b"c"), chunk(b""))
    taken, left, error = split(adapter, steps, takes=lambda block: block == b"a" or 1 / 0)
    assert (taken, left, error, errors) == ([b"a"], [b"b", b"c"], None, [ZeroDivisionError])


def test_the_next_answer_of_a_connection_knows_nothing_of_a_taker(adapter, monkeypatch, one_by_one, errors):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    answer = HEAD, chunk(b"a"), chunk(b"b"), chunk(b"")
    steps = one_by_one(*answer, *answer)
    server = RawServer(steps[:8], steps[8:])
    taken = []
    with get(adapter, server.url) as response:
        offer(response, lambda block: not taken.append(block))
        assert list(read_blocks(response)) == []
    with get(adapter, server.url) as response:
        assert list(read_blocks(response)) == [b"a", b"b"]
    assert (taken, server.connections, errors) == ([b"a", b"b"], 1, [])
    server.stop()


def test_who_cannot_offer_offers_nothing(adapter):
    offered = []
    body = gzip.compress(b"abc")
    head = CHUNKED + b"Content-Encoding: gzip\r\n\r\n"
    for kind in (adapter, StandardAdapter(5)):
        pause = lambda _connection: time.sleep(0.01)  # noqa: E731 - a step
        server = RawServer([head, pause, chunk(body[:5]), pause, chunk(body[5:]), pause, chunk(b"")])
        with get(kind, server.url) as response:
            offer(response, offered.append)
            assert b"".join(read_blocks(response)) == b"abc"
        server.stop()
        kind.close()
    assert offered == []


@pytest.mark.parametrize("takes", [True, False])
def test_chunk_heads_that_come_alone_may_be_many_in_a_long_answer(adapter, monkeypatch, one_by_one, takes):
    steps = one_by_one(HEAD, *[step for _ in range(50) for step in (b"5\r\n", b"hello\r\n")], chunk(b""))
    monkeypatch.setattr(fast_adapter, "_MOST_HEAD_BYTES", len(HEAD))
    taken, left, error = split(adapter, steps, takes=lambda _block: takes)
    assert (taken + left, error) == ([b"hello"] * 50, None)
    assert taken == [] or left == []


def test_a_body_that_was_read_to_its_end_offers_nothing(adapter):
    server = RawServer([CHUNKED + b"\r\n" + chunk(b"a") + chunk(b"")])
    with get(adapter, server.url) as response:
        assert next(read_blocks(response)) == b"a"
        offer(response, lambda _block: True)
        (connection,) = adapter._pools.popitem()[1].idle
        assert connection._reader.on_bytes is None
    server.stop()
