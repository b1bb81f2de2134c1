"""A program that tries the transport's limits of time over gevent's sockets, and prints what came of each.

Its argument names the adapter: fast or standard.
"""

from gevent import monkey

monkey.patch_all()

import contextlib  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402
from unittest.mock import patch  # noqa: E402

import gevent  # noqa: E402
import gevent.socket  # noqa: E402

from gpt_oss_proxy import sse  # noqa: E402
from gpt_oss_proxy.chat.events import Finish, TextDelta  # noqa: E402
from gpt_oss_proxy.chat.request import ChatRequest  # noqa: E402
from gpt_oss_proxy.errors import GatewayError, UpstreamIncomplete  # noqa: E402
from gpt_oss_proxy.net.client import connections, standard_adapter, transport  # noqa: E402
from gpt_oss_proxy.net.client.transport import HTTPStatusError, Transport, read_blocks  # noqa: E402
from gpt_oss_proxy.net.relay import Relay, TimeLimits  # noqa: E402
from gpt_oss_proxy.upstreams.base import Model, Upstream  # noqa: E402
from gpt_oss_proxy.upstreams.chatkit import ChatKit  # noqa: E402
from gpt_oss_proxy.upstreams.decoder import Decoder  # noqa: E402
from tests.upstreams.decoding import ask, sse_bytes  # noqa: E402
from tests.upstreams.raw_server import CHUNKED, UNTIL_CLOSE, RawServer, Step, chunk, close, with_length  # noqa: E402

Upstream.grace_seconds = transport._ERROR_BODY_SECONDS = 0.1
FAST = sys.argv[1] == "fast"
TRANSPORT = Transport(connect_timeout_seconds=0.1, fast=FAST)
REQUEST = ask("Hi")


class Said(Decoder):
    """The first event is the text, the second the terminal one."""

    def __init__(self) -> None:
        super().__init__(sse.Decoder(1000))

    def decode(self, record: bytes) -> None:
        if record == b"END":
            self.complete = self.ended = True
        else:
            self.say(record.decode())

    def finish(self) -> None:
        self.emit(Finish("stop"))


class Echo(Upstream):
    name = "echo"

    def __init__(self, url: str) -> None:
        super().__init__(TRANSPORT)
        self._url = url

    def models(self) -> tuple[Model, ...]:
        return ()

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        return self._url, {}, b""

    def decoder(self, headers: Mapping[str, str], request: ChatRequest) -> Decoder:
        return Said()


def chatkit(url: str) -> ChatKit:
    return ChatKit(TRANSPORT, base_url=url, dialect="older", effort_default="low", max_event_bytes=1000)


def told(upstream: Upstream) -> str:
    events = [event for events in upstream.stream(REQUEST) for event in events]
    return " ".join(event.text if isinstance(event, TextDelta) else type(event).__name__ for event in events)


def outcome(action: Callable[[], object]) -> str:
    try:
        with gevent.Timeout(5):
            return str(action())
    except (GatewayError, gevent.Timeout) as error:
        return type(error).__name__


def send(url: str) -> object:
    return TRANSPORT.send("GET", url, headers={}, body=None)


def fetch(*answer: Step) -> object:
    return TRANSPORT.fetch(RawServer(answer).url, headers={}, max_bytes=10**6, timeout_seconds=0.1)


def hang(_connection: socket.socket) -> None:
    gevent.sleep(20)


def trickle(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b"x")
        gevent.sleep(0.01)


# In another process, for only there it can send faster than this one reads.
FLOODER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.recv(65536)
connection.sendall(bytes.fromhex(sys.argv[1]))
more = bytes.fromhex(sys.argv[2]) * 100_000
try:
    while True:
        connection.sendall(more)
except OSError:
    print("closed", flush=True)
"""


class Flood:
    """A server that answers with these bytes, and then with others for ever."""

    def __init__(self, answer: bytes, more: bytes = b": ping\n\n") -> None:
        command = [sys.executable, "-c", FLOODER, answer.hex(), more.hex()]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self._line()}"

    def end(self) -> str:
        """Return what it says when its connection has been closed."""
        try:
            return self._line()
        finally:
            self._process.wait()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


def nobody_accepts() -> object:
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        return send(f"http://127.0.0.1:{listener.getsockname()[1]}")


def killed_while_connecting() -> str:
    """Descriptors come back at once, without the garbage collector, which seldom comes to an idle worker."""
    gc.disable()
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        upstream = chatkit(f"http://127.0.0.1:{listener.getsockname()[1]}")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            relay = Relay(upstream.stream(REQUEST), TimeLimits(20, 20, 20))
            gevent.sleep(0.01)
            relay.close()
        gevent.sleep(0.01)
        after = len(os.listdir("/proc/self/fd"))
    gc.enable()
    return f"{after - before} more descriptors"


def name_lookup_hangs() -> object:
    def look_up(*args: object, **rest: object) -> None:
        gevent.sleep(20)

    with patch.object(socket, "getaddrinfo", look_up), patch.object(gevent.socket, "getaddrinfo", look_up):
        return send("http://upstream.example")


def over_tls(*steps: Step) -> Callable[[], object]:
    """Return what asks a server over TLS that does this."""
    url = RawServer(steps).url.replace("http:", "https:")
    return lambda: send(url)


def what_is_left(fail: Callable[[], object]) -> str:
    gc.disable()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        outcome(fail)
    left = len(os.listdir("/proc/self/fd")) - before - 3  # the server's own
    gc.enable()
    return f"{left} more descriptors"


ACCEPTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def behind(*steps: Step) -> Callable[[], object]:
    """Return what asks an https upstream behind a proxy that does this."""
    transport = Transport(connect_timeout_seconds=0.1, fast=FAST, proxy=RawServer(steps).url)
    return lambda: transport.send("GET", "https://upstream.test", headers={}, body=None)


# Neither takes as long as is allowed, but together they do.
SLOW = (lambda _: gevent.sleep(0.07), ACCEPTED, lambda _: gevent.sleep(0.07), close)


def own_limit() -> object:
    with gevent.Timeout(0.02):
        return fetch(hang)


def endless(answer: bytes, more: bytes = b": ping\n\n") -> str:
    flood = Flood(answer, more)

    def hear() -> None:
        with contextlib.suppress(UpstreamIncomplete):  # where such things have a limit
            told(Echo(flood.url))

    call = gevent.spawn(hear)
    for _ in range(20):
        gevent.sleep(0.01)
    call.kill()
    return f"others run, {flood.end()}"


def endless_after_done() -> str:
    flood = Flood(UNTIL_CLOSE + DONE)
    return f"{told(chatkit(flood.url))}, {flood.end()}"


def endless_after_the_end() -> str:
    flood = Flood(UNTIL_CLOSE + sse_bytes(b"data: Hi\n\n", b"data: END\n\n"))
    return f"{told(Echo(flood.url))}, {flood.end()}"


def stalled_refusal() -> str:
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n{"
    try:
        send(RawServer([head, hang]).url)
    except HTTPStatusError as error:
        return f"{error.status}, retry after {error.retry_after}"
    return "an answer"


def stalled_redirect() -> str:
    """Its body is nobody's business."""
    head = b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 100\r\n\r\n"
    try:
        send(RawServer([head, hang]).url)
    except HTTPStatusError as error:
        return str(error.status)
    return "an answer"


def slow_reader_of_the_request() -> str:
    """The limit of the connection is none of sending."""

    def dawdle(connection: socket.socket) -> None:
        gevent.sleep(0.3)
        end = b""  # it may come in two reads
        while end != b"END" and (data := connection.recv(1024 * 1024)):
            end = (end + data)[-3:]

    server = RawServer([dawdle, with_length(b"Hi")], listens=False)
    answer = TRANSPORT.send("POST", server.url, headers={}, body=b"x" * 20_000_000 + b"END")
    return b"".join(read_blocks(answer)).decode()


def idle_connections() -> str:
    """What is idle is closed, and the next request gets a new connection; what is in use is not."""
    server = RawServer([with_length(b"Hi")], [with_length(b"Hi")], [CHUNKED + b"\r\n" + chunk(b"a"), hang])
    connections.IDLE_SECONDS = standard_adapter.IDLE_SECONDS = 0.1
    connections.REST_SECONDS = 0
    own = Transport(connect_timeout_seconds=1, fast=FAST)

    def ask() -> str:
        with own.send("GET", server.url, headers={}, body=None) as answer:
            return next(read_blocks(answer)).decode()

    said = [ask(), ask()]
    before = server.connections
    gevent.sleep(0.3)
    if FAST:
        closed = not any(pool.idle for pool in own._adapter._pools.values())
    else:
        (pool,) = own._adapter.poolmanager.pools._container.values()
        closed = all(conn is None or conn.sock is None for conn in pool.pool.queue)
    answer = own.send("GET", server.url, headers={}, body=None)
    blocks = read_blocks(answer)
    said.append(next(blocks).decode())
    gevent.sleep(0.3)
    return f"{' '.join(said)}, {before} then {server.connections} connections, closed {closed}"


DONE = sse_bytes(
    {"type": "thread.item.done", "item": {"id": "m", "type": "assistant_message", "content": [{"text": "Hi"}]}}
)

print(
    json.dumps(
        {
            "connect: nobody accepts": outcome(nobody_accepts),
            "connect: name look-up hangs": outcome(name_lookup_hangs),
            "connect: killed meanwhile": outcome(killed_while_connecting),
            "connect: TLS hangs": outcome(over_tls(hang)),
            # What requests' own adapter leaves, the garbage collector closes some time.
            "connect: TLS hung": what_is_left(over_tls(hang)) if FAST else "0 more descriptors",
            "connect: the proxy hangs": outcome(behind(hang)),
            "connect: TLS hangs behind the proxy": outcome(behind(ACCEPTED, hang)),
            "connect: TLS hung behind the proxy": (
                what_is_left(behind(ACCEPTED, hang)) if FAST else "0 more descriptors"
            ),
            "connect: the proxy is slow, and TLS": outcome(behind(*SLOW)),
            "fetch: no answer": outcome(lambda: fetch(hang)),
            "fetch: trickling body": outcome(lambda: fetch(UNTIL_CLOSE, trickle)),
            "a caller's own time limit": outcome(own_limit),
            "terminal event, then silence": outcome(
                lambda: told(
                    Echo(RawServer([CHUNKED + b"\r\n", chunk(b"data: Hi\n\n"), chunk(b"data: END\n\n"), hang]).url)
                )
            ),
            "last message done, then silence": outcome(
                lambda: told(chatkit(RawServer([CHUNKED + b"\r\n", chunk(DONE), hang]).url))
            ),
            "last message done, then comments without end": outcome(endless_after_done),
            "comments without end": outcome(lambda: endless(UNTIL_CLOSE)),
            "trailers without end": outcome(lambda: endless(CHUNKED + b"\r\n" + b"0\r\n", b"A: b\r\n")),
            "compressed nothing without end": outcome(
                lambda: endless(UNTIL_CLOSE[:-2] + b"Content-Encoding: deflate\r\n\r\n", b"\x00\x00\x00\xff\xff")
            ),
            "a refusal with a body that hangs": outcome(stalled_refusal),
            "connections that are idle": outcome(idle_connections),
            "a redirect with a body that hangs": outcome(stalled_redirect),
            "a server that is slow to read the request": outcome(slow_reader_of_the_request),
            "terminal event, then comments without end": outcome(endless_after_the_end),
        }
    )
)
