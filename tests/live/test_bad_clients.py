"""Clients that read or write slowly, send too much, speak HTTP oddly, or want to reach what is not theirs."""

import concurrent.futures
import contextlib
import gzip
import http.client
import io
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tests.live.children import free_port, wait_for
from tests.live.conftest import PYTHON, Start, StartGateway, answers
from tests.live.load import proc
from tests.live.load.running import Gateway, Upstream
from tests.live.load.script import Script
from tests.live.talk import SECONDS, error_of, post, text_of, user
from tests.live.wire import Answer, Connection
from tests.upstreams.raw_server import CHUNKED, RawServer, chunk

MEGABYTE = 1024 * 1024
MAX_BODY_BYTES = 32 * MEGABYTE
LONGEST_WAIT_SECONDS = 1.0  # of others, while one is costly; generous: other people's load is on the machine
CHAT = "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"


@pytest.fixture(scope="module")
def upstream(start: Start) -> Upstream:
    return Upstream(start)


StartHere = Callable[..., Gateway]


@pytest.fixture(scope="module")
def here(start_gateway: StartGateway, upstream: Upstream) -> StartHere:
    """Start a gateway of one worker in front of the load upstream."""

    def run(**settings: str) -> Gateway:
        return Gateway(*start_gateway(WEB_CONCURRENCY="1", **{**upstream.settings, **settings}))

    return run


@pytest.fixture(scope="module")
def gateway(here: StartHere) -> Gateway:
    return here()


@pytest.fixture
def base(gateway: Gateway) -> str:
    return gateway.base


class Client(Connection):
    """A connection over which one answer may come right behind another."""

    def __init__(self, base: str) -> None:
        super().__init__(base)
        self._file = _Open(socket.SocketIO(self.socket, "r"))

    def answer(self) -> Answer:
        response = http.client.HTTPResponse(SimpleNamespace(makefile=lambda _mode: self._file))
        response.begin()
        return Answer(response.status, response.headers, response.read())


class _Open(io.BufferedReader):
    def close(self) -> None:
        """An answer closes its file at its end; the next one is still to be read."""


@pytest.fixture
def client(base: str) -> Iterator[Client]:
    with contextlib.closing(Client(base)) as connection:
        yield connection


def asked(script: Script, *, streamed: bool = True) -> dict[str, Any]:
    return {"model": script.model, "messages": user(script.line()), "stream": streamed}


def request(body: Any, *headers: str) -> bytes:
    """Return the bytes of a chat."""
    data = json.dumps(body).encode()
    return "".join((CHAT, *(f"{line}\r\n" for line in headers), f"Content-Length: {len(data)}\r\n\r\n")).encode() + data


def read_all(connection: Connection) -> bytes:
    """Return what comes to the end of the connection."""
    heard = bytearray()
    with contextlib.suppress(ConnectionResetError):  # the gateway need not read what it has refused
        while piece := connection.socket.recv(65536):
            heard += piece
    return bytes(heard)


def error_in(answer: bytes) -> tuple[int, str]:
    """Return status and code of a failure that is the only answer in these bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1, answer
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def show(figures: str) -> None:
    print(f"\n{figures}", end="")


# Slow readers


FLOOD = Script("data", flood=1000)


def slow_reader(base: str) -> Connection:
    """Ask for a flood, with a receive buffer that does not grow."""
    connection = Connection(base)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.post(asked(FLOOD))
    connection.read_until(b'"content":"x')
    return connection


def sent_when_steady(upstream: Upstream) -> int:
    """Return how many bytes the flood has sent when it sends no more."""

    def look() -> int:
        before = upstream.seen()["sent"]
        time.sleep(0.5)
        return int(before) if upstream.seen()["sent"] == before else 0

    return wait_for("the flood to stand still", look, seconds=60)


def test_the_upstream_is_read_no_faster_than_its_client_reads(gateway: Gateway, upstream: Upstream) -> None:
    (worker,) = gateway.workers()
    text_of(post(gateway.base, asked(Script(), streamed=False)))
    memory, before = proc.memory_mb(worker), upstream.seen()["sent"]
    with contextlib.closing(slow_reader(gateway.base)) as client:
        first = sent_when_steady(upstream)
        read = 0
        while read < 20 * MEGABYTE:
            read += len(client.socket.recv(MEGABYTE))
        second = sent_when_steady(upstream)
        grown = proc.memory_mb(worker) - memory
        ahead, more = (first - before) / MEGABYTE, (second - first) / MEGABYTE
        show(
            f"{ahead:.1f} MB were sent to a client that reads nothing, {more:.1f} more when it read 20; {grown:.1f} MB"
        )
        assert ahead < 16  # what the kernel holds of two connections
        assert more < 30
        assert grown < 20
    wait_for("the upstream to be left", lambda: upstream.seen()["open"] == 0, seconds=5)


def test_a_client_that_never_reads_again_is_let_go_at_the_end_of_its_time(here: StartHere, upstream: Upstream) -> None:
    gateway = here(TOTAL_TIMEOUT_SECONDS="3", REQUEST_TIMEOUT_SECONDS="2")
    (worker,) = gateway.workers()
    began = time.monotonic()
    with contextlib.closing(slow_reader(gateway.base)) as client:
        port = client.socket.getsockname()[1]
        assert port in {link.there for link in proc.links(worker)}
        wait_for("the upstream to be left", lambda: upstream.seen()["open"] == 0, seconds=12)
        left = time.monotonic() - began
        wait_for("its own end", lambda: port not in {link.there for link in proc.links(worker)}, seconds=8)
        show(f"the upstream was left after {left:.1f} s, the client after {time.monotonic() - began:.1f} s")


# Slow writers


def test_a_head_that_trickles_is_ended_in_bounded_time(start: Start, upstream: Upstream) -> None:
    port = free_port()
    env = {**upstream.settings, "WEB_CONCURRENCY": "1", "HOST": "127.0.0.1", "PORT": str(port)}
    gunicorn = str(Path(PYTHON).parent / "gunicorn")
    # The time for a head is as long as that between two requests; the test cannot wait for 75 seconds.
    command = (gunicorn, "-c", "gunicorn.conf.py", "--keep-alive", "2", "wsgi:app")
    child = start("gateway that waits 2 s", *command, env=env)
    child.wait_until_ready(lambda: answers(f"http://127.0.0.1:{port}/readyz"))
    began = time.monotonic()
    with contextlib.closing(Connection(f"http://127.0.0.1:{port}")) as client:
        client.send(CHAT.encode())
        client.socket.settimeout(0.1)
        while time.monotonic() - began < 15:
            with contextlib.suppress(TimeoutError):
                client.send(b"x-slow: 1\r\n")
                assert client.socket.recv(100) == b""
                break
    assert 1.5 < time.monotonic() - began < 10


@pytest.mark.parametrize("coding", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("trickles", [False, True], ids=["silent", "trickling"])
def test_a_body_that_does_not_come_is_a_400_in_bounded_time(impatient: Gateway, coding: str, trickles: bool) -> None:
    began = time.monotonic()
    with contextlib.closing(Connection(impatient.base)) as client:
        client.head(coding)
        client.socket.settimeout(0.1)
        heard = b""
        while b"}}" not in heard and time.monotonic() - began < 15:
            if trickles:
                client.send(b"1\r\n \r\n" if "chunked" in coding else b" ")
            with contextlib.suppress(TimeoutError):
                heard += client.socket.recv(65536)
    assert (*error_in(heard), 0.5 < time.monotonic() - began < 10) == (400, "incomplete_body", True)


@pytest.fixture(scope="module")
def impatient(here: StartHere) -> Gateway:
    return here(REQUEST_TIMEOUT_SECONDS="1", TOTAL_TIMEOUT_SECONDS="4")


# Half-closed connections


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_client_that_half_closes_while_it_waits_counts_as_gone(
    client: Client, upstream: Upstream, streamed: bool
) -> None:
    client.send(request(asked(Script(words=20, stall=12), streamed=streamed)))
    begun = b""
    if streamed:
        begun = client.read_until(b'"content":"w')
    else:
        wait_for("the upstream's request", lambda: upstream.seen()["open"] == 1)
    client.socket.shutdown(socket.SHUT_WR)
    head, _, body = (begun + read_all(client)).partition(b"\r\n\r\n")
    assert head.split()[1] == (b"200" if streamed else b"499")
    assert b'"finish_reason":"' not in body
    assert b"[DONE]" not in body
    assert not body.endswith(b"\r\n0\r\n\r\n")
    wait_for("the upstream to be left", lambda: upstream.seen()["open"] == 0, seconds=2)


@pytest.mark.parametrize("begin", [b"", b"POST /v1/chat", HEALTHZ], ids=["nothing", "half a head", "an answer"])
def test_a_connection_that_half_closes_between_requests_is_closed(client: Client, begin: bytes) -> None:
    client.send(begin)
    client.socket.shutdown(socket.SHUT_WR)
    assert read_all(client).count(b"HTTP/1.1 200 OK") == (begin == HEALTHZ)


# Pipelining


def test_a_hundred_pipelined_requests_are_all_answered_in_order(client: Client) -> None:
    asks = [asked(Script(word=f"w{number}x"), streamed=number % 3 == 0) for number in range(100)]
    client.send(b"".join(map(request, asks)))
    for number in range(len(asks)):
        assert text_in(client.answer().body, streamed=asks[number]["stream"]) == Script(word=f"w{number}x").text()


def text_in(body: bytes, *, streamed: bool) -> str:
    if not streamed:
        return json.loads(body)["choices"][0]["message"]["content"]
    chunks = [json.loads(line[6:]) for line in body.decode().split("\n\n") if line.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_a_client_that_leaves_takes_its_pipelined_requests_with_it(base: str, upstream: Upstream) -> None:
    served = upstream.seen()["served"]
    with contextlib.closing(Connection(base)) as client:
        client.send(request(asked(Script(words=20, stall=12))) * 3)
        client.read_until(b'"content":"w')
        assert upstream.seen()["open"] == 1
    wait_for("the upstream to be left", lambda: upstream.seen()["open"] == 0, seconds=3)
    assert answers(f"{base}/healthz")
    assert upstream.seen()["served"] == served + 1


# Bodies that are too large


TOO_LARGE: dict[str, Callable[[], bytes]] = {  # made when they are sent: each process of pytest imports this file
    "by its length": ("Content-Length: 1000000000000000", b" " * MEGABYTE),
    "without an end": ("Transfer-Encoding: chunked", chunk(b" " * MEGABYTE)),
}


@pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, 10**15, 10**30])
def test_a_body_that_says_to_be_too_large_is_refused_before_it_comes(client: Client, length: int) -> None:
    client.head(f"Content-Length: {length}")
    answer = client.answer()
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "body_too_large")


@pytest.mark.alone
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/nowhere"])
@pytest.mark.parametrize("how", TOO_LARGE)
def test_who_goes_on_to_send_what_was_refused_is_cut_off_and_slows_nobody_down(
    gateway: Gateway, client: Client, how: str, path: str
) -> None:
    coding, block = TOO_LARGE[how]
    client.head(coding, start=f"POST {path} HTTP/1.1")
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as at_once:
        pushing = at_once.submit(push, client, block, seconds=6)
        longest = longest_wait(gateway, pushing.done)
    seconds = time.monotonic() - began
    show(f"{how}: {pushing.result()} MB went out in {seconds:.1f} s; healthz took at most {1000 * longest:.0f} ms")
    assert longest < LONGEST_WAIT_SECONDS
    assert seconds < 5, "the gateway still reads what it has refused"


def push(client: Client, block: bytes, seconds: float) -> int:
    """Send blocks for some seconds, or until the gateway has closed the connection; return their number."""
    number, ends = 0, time.monotonic() + seconds
    client.socket.settimeout(seconds)
    with contextlib.suppress(OSError):
        while time.monotonic() < ends:
            client.send(block)
            number += 1
    return number


def longest_wait(gateway: Gateway, done: Callable[[], bool]) -> float:
    """Ask for /healthz again and again until something is done; return the longest time it took."""
    longest = 0.0
    while not done():
        began = time.monotonic()
        assert requests.get(f"{gateway.base}/healthz", timeout=SECONDS).status_code == 200
        longest = max(longest, time.monotonic() - began)
    return longest


# Values


@pytest.mark.parametrize("depth", [50, 90, 110, 240, 260, 480, 500, 900, 980, 990, 1000, 1010, 5000])
@pytest.mark.parametrize("where", ["junk", "metadata", "tools", "content", "messages"])
def test_nested_values_are_passed_on_or_a_400(base: str, depth: int, where: str) -> None:
    nested: Any = "@"
    body = {**asked(Script("openai"), streamed=False), where: nested}
    if where == "content":
        body = {**body, "messages": user([{"type": "input_audio", "input_audio": nested}])}
        del body["content"]
    data = json.dumps(body).replace('"@"', '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2)).encode()
    answer = post(base, data)
    if answer.status_code != 200:
        assert error_of(answer)["type"] in ("invalid_request_error", "upstream_error")
        assert answer.status_code == 400 or where == "content", answer.text


BY_MODEL = {script.model: script for script in (Script("openai"), Script("data"), Script("chatkit"))}


@pytest.mark.parametrize("model", BY_MODEL)
@pytest.mark.parametrize("name", ["temperature", "top_p", "seed", "max_tokens", "n", "logit_bias", "presence_penalty"])
@pytest.mark.parametrize(
    "number",
    [
        "-0",
        "-0.0",
        "1e-400",
        "1e308",
        "1e400",
        "-1e400",
        "1" + "0" * 400,
        "9223372036854775808",
        "18446744073709551616",
    ],
)
def test_odd_numbers_are_passed_on_or_a_400(base: str, number: str, name: str, model: str) -> None:
    body = json.dumps({**asked(BY_MODEL[model], streamed=False), name: 1})
    answer = post(base, body.replace(f'"{name}": 1', f'"{name}": {number}').encode())
    assert answer.status_code in (200, 400), answer.text


SIZE = 30 * MEGABYTE
TEXT = b'{"messages": [{"role": "user", "content": "::load protocol=chatkit::%b"}]}'
LARGE: dict[str, Callable[[], bytes]] = {  # made when they are sent: each process of pytest imports this file
    "empty lists": lambda: b'{"messages": [' + b"[]," * (SIZE // 3) + b"[]]}",
    "empty objects": lambda: b'{"messages": [' + b"{}," * (SIZE // 3) + b"{}]}",
    "numbers": lambda: b'{"stop": [' + b"1," * (SIZE // 2) + b"1]}",
    "floats": lambda: b'{"stop": [' + b"1e5," * (SIZE // 4) + b"1]}",
    "empty texts": lambda: b'{"messages": [{"role": "user", "content": [' + b'"",' * (SIZE // 3) + b'""]}]}',
    "small messages": lambda: (
        b'{"messages": [' + b'{"role":"user","content":""},' * (SIZE // 29) + b'{"role":"user","content":""}]}'
    ),
    "names": lambda: b"{" + b",".join(b'"%07x":0' % number for number in range(SIZE // 12)) + b"}",
    "nested names": lambda: (
        b'{"metadata": {' + b",".join(b'"%07x":{}' % number for number in range(SIZE // 13)) + b"}}"
    ),
    "spaces": lambda: b'{"messages": [' + b" " * SIZE + b"]}",
    "digits": lambda: b'{"seed": ' + b"1" * SIZE + b"}",
    "fraction": lambda: b'{"seed": 0.' + b"1" * SIZE + b"}",
    "openings": lambda: b'{"messages": ' + b"[" * SIZE,
    "one long name": lambda: b'{"' + b"n" * SIZE + b'": 1}',
    "backslashes": lambda: TEXT % (b"\\\\" * (SIZE // 2)),
    "escapes": lambda: TEXT % (b"\\u0041" * (SIZE // 6)),
    "escaped pairs": lambda: TEXT % (b"\\ud83d\\ude00" * (SIZE // 12)),
    "one long text": lambda: TEXT % (b"word " * (SIZE // 5)),
    "one long word": lambda: TEXT % (b"a" * SIZE),
    "one long text, streamed": lambda: b'{"stream": true,' + (TEXT % (b"word " * (SIZE // 5)))[1:],
    "an image": lambda: (
        b'{"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": '
        b'{"url": "data:image/png;base64,' + b"iVBORw0KGgoA" * (SIZE // 12) + b'"}}]}]}'
    ),
}


@pytest.mark.alone
@pytest.mark.parametrize("what", LARGE)
def test_a_large_body_does_not_stop_the_others(gateway: Gateway, what: str) -> None:
    (worker,) = gateway.workers()
    body = LARGE[what]()
    with concurrent.futures.ThreadPoolExecutor() as at_once:
        answer = at_once.submit(post, gateway.base, body)
        longest = longest_wait(gateway, answer.done)
    status = answer.result().status_code
    show(f"{what}: {status}, healthz took at most {1000 * longest:.0f} ms; {proc.memory_mb(worker):.0f} MB")
    assert status in (200, 400)
    assert longest < LONGEST_WAIT_SECONDS


HELLO = b'{"messages": [{"role": "user", "content": "%b"}]}'


@pytest.mark.parametrize(
    "body",
    [
        HELLO % b"\xff",
        HELLO % b"\xc3",  # half a character
        HELLO % b"\xc0\xaf",  # longer than it need be
        HELLO % b"\xed\xa0\xbd\xed\xb8\x80",  # surrogates
        HELLO % b"\xf5\x80\x80\x80",  # beyond Unicode
        HELLO % b"\\ud83d",
        HELLO % b"a\x00b",
        HELLO % b"a\nb",
        b"\xef\xbb\xbf" + HELLO % b"hello",
        b'{"model": "\xff", "messages": []}',
        b'{"\xff": 1, "messages": []}',
    ],
)
def test_a_body_that_is_not_utf_8_json_is_a_400(base: str, body: bytes) -> None:
    error = error_of(post(base, body))
    assert (error["status"], error["code"]) == (400, "invalid_json")


# What reaches the upstream


OPENAI_ANSWER = (
    b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n' + b"data: [DONE]\n\n"
)
DATA_ANSWER = b'0:"hi"\nd:{"finishReason":"stop","usage":{"promptTokens":1,"completionTokens":1}}\n'
CHATKIT_ANSWER = (
    b'data: {"type":"thread.item.done","item":{"id":"m","type":"assistant_message",'
    b'"content":[{"type":"output_text","text":"hi","annotations":[]}]}}\n\n'
)
UPSTREAM_ANSWERS = {"fault-1": OPENAI_ANSWER, "gpt-4o": DATA_ANSWER, "gpt-oss-120b": CHATKIT_ANSWER}
EVIL = "x\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1\r\n\r\n\u010a\u010dX-Evil: 2\n X-Evil: 3\x00"


@pytest.fixture(scope="module")
def overheard(start_gateway: StartGateway) -> Iterator[tuple[str, dict[str, RawServer]]]:
    """A gateway, and the servers behind its models, which keep what they are asked."""
    servers = {}
    for model, answer in UPSTREAM_ANSWERS.items():
        head = (
            CHUNKED.replace(b"text/event-stream", b"text/plain\r\nX-Vercel-AI-Data-Stream: v1")
            if model == "gpt-4o"
            else CHUNKED
        )
        servers[model] = RawServer([head + b"\r\n", chunk(answer), chunk(b"")])
    _, base = start_gateway(
        BASE_URL=servers["gpt-oss-120b"].url,
        VERCEL_MINIMAL_API_URL=f"{servers['gpt-4o'].url}/ai",
        VERCEL_SESSION_PREFIX="session-",
        OPENAI_BASE_URL=f"{servers['fault-1'].url}/v1",
        OPENAI_MODELS="fault-1",
        RETRIES="0",
        BREAKER_FAILURES="0",
    )
    yield base, servers
    for server in servers.values():
        server.stop()


CALL = {"id": EVIL, "type": "function", "function": {"name": EVIL, "arguments": EVIL}}
INJECTIONS: dict[str, dict[str, Any]] = {
    "a message": {"messages": user(EVIL)},
    "a name": {"messages": [{"role": "user", "content": "hi", "name": EVIL}]},
    "a tool call": {
        "messages": [
            *user("hi"),
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": EVIL, "content": EVIL},
        ]
    },
    "the user": {"user": EVIL},
    "the metadata": {"metadata": {EVIL: EVIL}},
    "an unknown field": {EVIL: EVIL},
    "the tier": {"service_tier": EVIL},
    "the effort": {"reasoning_effort": EVIL},
    "the model": {"model": EVIL},
    "the known model and more": {"model": f"gpt-oss-120b\r\n{EVIL}"},
}


@pytest.mark.parametrize("model", UPSTREAM_ANSWERS)
@pytest.mark.parametrize("where", INJECTIONS)
def test_no_field_of_a_request_reaches_an_upstreams_head(
    overheard: tuple[str, dict[str, RawServer]], model: str, where: str
) -> None:
    base, servers = overheard
    server = servers[model]
    assert text_of(post(base, {"model": model, "messages": user("hi")})) == "hi"
    asked_before = len(server.heads)
    answer = post(base, {"model": model, "messages": user("hi"), **INJECTIONS[where]})
    assert answer.status_code in (200, 400, 404), answer.text
    assert "x-evil" not in answer.headers
    assert without_length(server.heads[-1]) == without_length(server.heads[asked_before - 1])
    assert len(server.heads) == asked_before + (answer.status_code == 200)


@pytest.mark.parametrize("model", UPSTREAM_ANSWERS)
@pytest.mark.parametrize(
    "header",
    [
        "X-Request-Id: evil",
        "X-Request-Id: \xff\x85",
        "X-Reasoning-Effort: evil",
        "X-Reasoning-Effort: high\x0bx-evil: 1",
        "Authorization: Bearer evil",
        "Cookie: user_id=evil",
        "X-Forwarded-For: 9.9.9.9",
        "X-Forwarded-Proto: https",
        "X-Vercel-Session: evil",
        "X-Selected-Model: evil",
        "Referer: http://evil",
        "Traceparent: evil",
        "Connection: Content-Type, Authorization",
        "OpenAI-Organization: evil",
        "Accept-Encoding: gzip",
    ],
)
def test_no_header_of_a_request_reaches_an_upstream(
    overheard: tuple[str, dict[str, RawServer]], model: str, header: str
) -> None:
    base, servers = overheard
    server = servers[model]
    body = {"model": model, "messages": user("hi")}
    assert text_of(post(base, body)) == "hi"
    asked_before = len(server.heads)
    with contextlib.closing(Connection(base)) as client:
        client.post(body, header)
        assert client.answer().status in (200, 400)
    assert without_id(server.heads[-1]) == without_id(server.heads[asked_before - 1])


def without_id(head: list[str]) -> list[str]:
    """Return the head without the request's id, which goes upstream if it is visible ASCII: a client may choose it."""
    return [line for line in head if not re.fullmatch(r"x-request-id: (req_[0-9a-f]{32}|evil)", line)]


def without_length(head: list[str]) -> list[str]:
    return [line for line in without_id(head) if not line.lower().startswith("content-length:")]


# Smuggling: what two servers could read differently. Nothing behind it may be taken for a request.


BODY = json.dumps(asked(Script(), streamed=False)).encode()
CHUNKS = chunk(BODY) + chunk(b"")
SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"
LENGTH = f"Content-Length: {len(BODY)}"
AMBIGUOUS_HEADS = {
    "length and chunked": (f"{LENGTH}\r\nTransfer-Encoding: chunked", CHUNKS),
    "chunked and length": (f"Transfer-Encoding: chunked\r\n{LENGTH}", CHUNKS),
    "the same length twice": (f"{LENGTH}\r\n{LENGTH}", BODY),
    "the same length in a list": (f"{LENGTH}, {len(BODY)}", BODY),
    "a length with plus": (f"Content-Length: +{len(BODY)}", BODY),
    "a length in hex": (f"Content-Length: {len(BODY):#x}", BODY),
    "a length with underscore": (f"Content-Length: {str(len(BODY))[0]}_{str(len(BODY))[1:]}", BODY),
    "a length with fraction": (f"{LENGTH}.0", BODY),
    "a length in other digits": ("Content-Length: \xb2", BODY),
    "a negative length": ("Content-Length: -0", BODY),
    "an empty length": ("Content-Length:", BODY),
    "a length with letters": (f"{LENGTH}x", BODY),
    "a length on two lines": (f"Content-Length:\r\n {len(BODY)}", BODY),
    "a folded header": (f"x-folded: a\r\n b\r\n{LENGTH}", BODY),
    "xchunked": ("Transfer-Encoding: xchunked", CHUNKS),
    "chunked in quotes": ('Transfer-Encoding: "chunked"', CHUNKS),
    "chunked twice": ("Transfer-Encoding: chunked, chunked", CHUNKS),
    "chunked in two headers": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CHUNKS),
    "chunked, then identity": ("Transfer-Encoding: chunked, identity", CHUNKS),
    "chunked, then another": ("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", CHUNKS),
    "chunked with a parameter": ("Transfer-Encoding: chunked;q=1", CHUNKS),
    "chunked behind a control character": ("Transfer-Encoding: \x0bchunked", CHUNKS),
    "an empty coding": (f"Transfer-Encoding:\r\n{LENGTH}", BODY),
    "a space before the colon": (f"Content-Length : {len(BODY)}", BODY),
    "a tab before the colon": ("Transfer-Encoding\t: chunked", CHUNKS),
    "a space before the name": (f" {LENGTH}", BODY),
    "a name with a control character": (f"Content\x00-Length: {len(BODY)}", BODY),
    "no name": (f": x\r\n{LENGTH}", BODY),
    "a bare LF": (f"x-bare: a\n{LENGTH}", BODY),
    "a bare CR": (f"x-bare: a\rb\r\n{LENGTH}", BODY),
    "a NUL": (f"x-nul: a\x00b\r\n{LENGTH}", BODY),
}


@pytest.mark.parametrize("what", AMBIGUOUS_HEADS)
def test_an_ambiguous_head_is_a_400_and_the_end_of_its_connection(client: Client, what: str) -> None:
    headers, body = AMBIGUOUS_HEADS[what]
    client.send(f"{CHAT}{headers}\r\n\r\n".encode("latin-1") + body + SMUGGLED)
    assert error_in(read_all(client)) == (400, "invalid_http")


@pytest.mark.parametrize(
    "line", ["GET /healthz  HTTP/1.1", "GET\t/healthz HTTP/1.1", "GET /healthz", "GET /a b HTTP/1.1"]
)
def test_an_ambiguous_request_line_is_a_400_and_the_end_of_its_connection(client: Client, line: str) -> None:
    client.send(f"{line}\r\nHost: gateway\r\n\r\n".encode() + SMUGGLED)
    assert error_in(read_all(client)) == (400, "invalid_http")


def test_lines_that_end_in_bare_lf_are_a_400_and_the_end_of_their_connection(client: Client) -> None:
    client.send(f"{CHAT}{LENGTH}\r\n\r\n".replace("\r", "").encode() + BODY + SMUGGLED)
    assert error_in(read_all(client)) == (400, "invalid_http")


SIZED = b"%x" % len(BODY)
AMBIGUOUS_CHUNKS = {
    "a size with plus": b"+" + SIZED + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size with 0x": b"0x" + SIZED + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size with underscore": b"0_" + SIZED + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size behind a space": b" " + SIZED + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "no size": b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size before a bare LF": SIZED + b"\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk that ends in a bare LF": SIZED + b"\r\n" + BODY + b"\n0\r\n\r\n",
    "a chunk that is too long": SIZED + b"\r\n" + BODY + b"xx\r\n0\r\n\r\n",
    "an extension with a bare LF": SIZED + b";a=b\nc\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an extension with a bare CR": SIZED + b";a=b\rc\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an extension without a name": SIZED + b";=\x00\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an endless extension": SIZED + b";" + b"a" * 100_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size that nobody sends": b"ffffff\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size beyond all": b"f" * 1000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a trailer that is no header": chunk(BODY) + b"0\r\nno colon\r\n\r\n",
    "a trailer with a bare LF": chunk(BODY) + b"0\r\na: b\nc: d\r\n\r\n",
    "a trailer with a length": chunk(BODY) + b"0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("what", AMBIGUOUS_CHUNKS)
def test_ambiguous_chunks_are_a_400_and_the_end_of_their_connection(impatient: Gateway, what: str) -> None:
    with contextlib.closing(Client(impatient.base)) as client:
        client.socket.settimeout(6)
        client.send(f"{CHAT}Transfer-Encoding: chunked\r\n\r\n".encode() + AMBIGUOUS_CHUNKS[what] + SMUGGLED)
        status, code = error_in(read_all(client))
    assert (status, code) in [(400, "incomplete_body"), (400, "invalid_http"), (413, "body_too_large")]


@pytest.mark.parametrize("length", ["Transfer-Encoding: chunked\r\n\r\nffffff", "Content-Length: 5000\r\n"])
def test_the_rest_of_a_body_that_was_given_up_is_never_a_request(impatient: Gateway, length: str) -> None:
    with contextlib.closing(Client(impatient.base)) as client:
        client.socket.settimeout(6)
        client.send(f"{CHAT}{length}\r\n{{".encode())
        assert client.answer().status == 400
        with contextlib.suppress(OSError):
            client.send(SMUGGLED)
        assert read_all(client) == b""


@pytest.mark.parametrize(
    ("body", "heads"),
    [
        (SIZED + b';a="b;c"\r\n' + BODY + b"\r\n0;d\r\n\r\n", "Transfer-Encoding: chunked"),
        (chunk(BODY) + b"0\r\nx-trailer: a\r\n\r\n", "Transfer-Encoding: chunked"),
        (CHUNKS, "Transfer-Encoding: Chunked"),
        (b"00" + SIZED.upper() + b"\r\n" + BODY + b"\r\n000\r\n\r\n", "Transfer-Encoding: chunked"),
        (BODY, f"Content-Length: 00{len(BODY)}"),
        (BODY, f"{LENGTH}\r\nContent_Length: 5"),
        (BODY, f"{LENGTH}\r\nTransfer_Encoding: chunked"),
    ],
)
def test_what_only_looks_odd_is_read_and_the_next_request_too(client: Client, body: bytes, heads: str) -> None:
    client.send(f"{CHAT}{heads}\r\n\r\n".encode() + body + SMUGGLED)
    assert text_in(client.answer().body, streamed=False) == Script().text()
    assert client.answer().status == 200


@pytest.mark.parametrize(
    "coding", ["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked\r\nContent-Encoding: gzip"]
)
def test_a_compressed_body_is_a_400(client: Client, coding: str) -> None:
    client.head(coding)
    client.send(chunk(gzip.compress(BODY)) + chunk(b""))
    assert client.answer().status == 400


# HTTP's odds and ends


def test_a_stream_over_http_1_0_has_no_chunks_and_ends_with_its_connection(client: Client) -> None:
    client.send(request(asked(Script()), "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"))
    head, _, body = read_all(client).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")
    assert text_in(body, streamed=True) == Script().text()


def test_a_cut_stream_over_http_1_0_does_not_read_as_a_success(client: Client) -> None:
    client.send(request(asked(Script(cut=400))).replace(b"HTTP/1.1", b"HTTP/1.0"))
    heard = read_all(client)
    assert b'"error"' in heard
    assert b'"finish_reason":"' not in heard


def test_head_and_options_of_the_chat_are_a_405(client: Client) -> None:
    client.send(CHAT.replace("POST", "OPTIONS").encode() + b"Origin: https://evil.example\r\n\r\n")
    answer = client.answer()
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert "access-control-allow-origin" not in answer.headers
    client.send(CHAT.replace("POST", "HEAD").encode() + b"\r\n")
    response = http.client.HTTPResponse(client.socket, method="HEAD")
    response.begin()
    assert (response.status, response.read()) == (405, b"")


def test_a_client_that_expects_100_continue_is_told_so_before_it_sends_its_body(client: Client) -> None:
    client.head(LENGTH, "Expect: 100-continue")
    assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(BODY)
    assert text_in(client.answer().body, streamed=False) == Script().text()


def test_an_expectation_that_nobody_knows_is_refused(client: Client) -> None:
    client.head("Content-Length: 2", "Expect: the-unexpected")
    status, _ = error_in(read_all(client))
    assert status in (400, 417)


# Images


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


def with_image(url: str) -> dict[str, Any]:
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
    return {"model": "gpt-4o", "messages": user(content)}


def test_an_image_by_url_is_passed_on_and_never_fetched(overheard: tuple[str, dict[str, RawServer]]) -> None:
    base, servers = overheard
    images = RawServer([b""])
    for url in (f"{images.url}/a.png", "http://169.254.169.254/latest/meta-data/", f"{base}/v1/models"):
        assert text_of(post(base, with_image(url))) == "hi"
        assert json.dumps(url).encode() in servers["gpt-4o"].bodies[-1]
    images.stop()
    assert images.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:,",
        "data:image/png;base64,",
        "data:image/png;base64",
        "data:image/png;base64,%%%%",
        "data:image/png;base64,iVBOR",  # no number of bytes has five letters
        f"data:image/png;base64,{PIXEL[:40]} \n{PIXEL[40:]}\x00",
        f"data:image/png,{PIXEL}",
        f"data:text/html;base64,{PIXEL}",
        f"data:;base64,{PIXEL}",
        f"data:application/octet-stream;base64,{PIXEL}",
        "data:text/html,<script>alert(1)</script>",
    ],
)
def test_a_data_uri_that_is_no_base64_image_is_a_400(overheard: tuple[str, dict[str, RawServer]], url: str) -> None:
    base, servers = overheard
    asked_before = len(servers["gpt-4o"].heads)
    error = error_of(post(base, with_image(url)))
    assert (error["status"], error["code"]) == (400, "invalid_image")
    assert error["param"] == "messages[0].content[1].image_url.url"
    assert len(servers["gpt-4o"].heads) == asked_before


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "IMAGE/PNG", "image/webp", "image/svg+xml"])
def test_a_data_uri_of_an_image_is_passed_on(overheard: tuple[str, dict[str, RawServer]], kind: str) -> None:
    base, servers = overheard
    url = f"data:{kind};base64,{PIXEL}"
    assert text_of(post(base, with_image(url))) == "hi"
    assert json.dumps(url).encode() in servers["gpt-4o"].bodies[-1]
