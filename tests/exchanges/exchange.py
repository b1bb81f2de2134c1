"""One exchange: what a client asks, what the upstreams reply, what they were sent, and what the client gets.

Ids, times and ports, which differ each time, have fixed words in their place.
"""

import json
import re
from pathlib import Path

import msgspec

from gpt_oss_proxy.app import create_app
from gpt_oss_proxy.config.settings import Settings
from tests.upstreams.raw_server import RawServer, close

RECORDED = Path(__file__).parent / "recorded"
UPSTREAM = "http://upstream"  # in the environment: the address of the upstream of the exchange
_VARYING_HEADERS = ("Date", "x-request-id", "openai-processing-ms")
_RANDOM = (
    (re.compile(rb"127\.0\.0\.1:\d+"), b"upstream"),
    (re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"), b"UUID"),
    (re.compile(rb"\b(chatcmpl-|cmpl-|call_|req_)[0-9A-Za-z_-]{16,}"), rb"\1ID"),
    (re.compile(rb'"created":1[0-9]{9}'), b'"created":0'),
)


class Exchange(msgspec.Struct):
    """`replies` are given in order, the last one again and again; each is a whole HTTP answer, and closes.

    What is `sent` to upstreams has the names of each JSON object in alphabetical order, for their order says nothing.
    `unordered`: several calls run at the same time, so the order of what is sent and streamed is not fixed.
    """

    name: str
    path: str
    body: str
    replies: list[str]
    method: str = "POST"
    headers: dict[str, str] = {}
    environ: dict[str, str] = {}
    unordered: bool = False
    sent: list[str] = []
    answered: str = ""


def play(exchange: Exchange) -> tuple[list[str], str]:
    """Return what the upstreams were sent, and what the client gets."""
    server = RawServer(*([reply.encode(), close] for reply in exchange.replies or [""]))
    try:
        environ = {name: value.replace(UPSTREAM, server.url) for name, value in exchange.environ.items()}
        answer = (
            create_app(Settings.from_environ(environ))
            .test_client()
            .open(exchange.path, method=exchange.method, data=exchange.body.encode(), headers=exchange.headers)
        )
        body = answer.get_data()
        sent = [
            "\n".join(head).encode() + b"\n\n" + _in_order(body)
            for head, body in zip(server.heads, server.bodies, strict=True)
        ]
    finally:
        server.stop()
    headers = [f"{name}: {value}" for name, value in answer.headers if name not in _VARYING_HEADERS]
    answered = "\n".join([answer.status, *headers]).encode() + b"\n\n" + body
    if exchange.unordered:
        sent.sort(key=_fixed)
        answered = b"\n".join(sorted(answered.split(b"\n")))
    return [_fixed(one).decode() for one in sent], _fixed(answered).decode()


def _in_order(body: bytes) -> bytes:
    return json.dumps(json.loads(body), ensure_ascii=False, sort_keys=True).encode() if body else b""


def _fixed(data: bytes) -> bytes:
    for pattern, word in _RANDOM:
        data = pattern.sub(word, data)
    return data


def load(path: Path) -> list[Exchange]:
    """Return the exchanges of a file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Exchange])


def save(path: Path, exchanges: list[Exchange]) -> None:
    """Write the exchanges, so that a difference is one line of the file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(exchanges), indent=1) + b"\n")
