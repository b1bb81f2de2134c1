"""A row of the table of quirks, and what its answers are written with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent / "cases"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TOOLS = {"tools": [WEATHER]}
OSLO = ("get_weather", '{"city": "Oslo"}')
ROME = ("get_weather", '{"city": "Rome"}')


@dataclass(frozen=True)
class Right:
    """What a client must see. A failure has a code, its message holds `says`, and a stream has the text before it.

    `message`, `answer` and `calls_have` are further fields of the message, of the answer, and of the calls.
    """

    text: str = ""
    reasoning: str = ""
    calls: Sequence[tuple[str, str]] = ()
    finish: str | None = "stop"
    code: str = ""
    says: str = ""
    message: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)
    calls_have: Mapping[str, Any] = field(default_factory=dict)
    usage: tuple[int, int] | None = None


HELLO = Right("Hello")


@dataclass(frozen=True)
class Quirk:
    """A row: what a server does, what becomes of that, how it is played, and what is right.

    `sends` are the HTTP answers that the server gives in turn, as bytes; a number is a pause in seconds. `asked` are
    further fields of the request, `settings` those of the gateway. `sent` must be in the last body that the server got,
    `not_sent` not.
    """

    does: str
    becomes: str
    sends: Sequence[Sequence[bytes | float]]
    right: Right = HELLO
    asked: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    sent: Sequence[str] = ()
    not_sent: Sequence[str] = ()
    name: str = ""

    @property
    def slug(self) -> str:
        """Return its name in tests."""
        return self.name or self.does.lower().replace("`", "").replace(" ", "-")[:60]


def http(body: bytes, kind: bytes = b"text/event-stream", status: bytes = b"200 OK") -> bytes:
    """Return an HTTP answer that ends with its connection."""
    return b"HTTP/1.1 %b\r\nContent-Type: %b\r\nConnection: close\r\n\r\n%b" % (status, kind, body)


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())


def chunk(delta: Mapping[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk; `more` are further fields of its choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **more}
    return {"id": "cmpl-7", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def stream(*events: Any, done: bool = True) -> list[list[bytes | float]]:
    """Return the one answer of a server that streams these events, and [DONE] unless told otherwise."""
    return [[http(b"".join(map(event, events)) + (event(b"[DONE]") if done else b""))]]


def refuses(status: bytes, error: Any, *then: list[bytes | float]) -> list[list[bytes | float]]:
    """Return the answers of a server that refuses the first request, and then gives these."""
    return [[http(json.dumps(error).encode(), b"application/json", status)], *then]


def whole(message: Any, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """Return a whole chat completion."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more}


def document(value: Any, kind: bytes = b"application/json", status: bytes = b"200 OK") -> list[list[bytes | float]]:
    """Return the one answer of a server that sends a JSON document."""
    return [[http(value if isinstance(value, bytes) else json.dumps(value).encode(), kind, status)]]


@cache
def case(name: str) -> dict[str, Any]:
    """Return a case's file."""
    return json.loads((CASES / f"{name}.json").read_text())  # type: ignore[no-any-return]


def reported(name: str, becomes: str, right: Right = HELLO, **more: Any) -> Quirk:
    """Return the row of a case."""
    found = case(name)
    pieces = found["upstream_bytes"]
    answers = list(pieces.values()) if isinstance(pieces, dict) else [pieces]
    sends = [_with_pauses(text) for text in answers]
    asked = {key: value for key, value in found["request"].items() if key != "model"}
    return Quirk(found["kind"], becomes, sends, right, asked=asked, name=name, **more)


def _with_pauses(text: str) -> list[bytes | float]:
    before, pause, rest = text.partition("<pause of 2.5 s>")
    return [before.encode(), 2.5, rest.encode()] if pause else [text.encode()]


def call(function: Any = None, **more: Any) -> dict[str, Any]:
    """Return an element of tool_calls."""
    return {**more, **({} if function is None else {"function": function})}


def calling(*deltas: Any, finish: str = "tool_calls") -> list[list[bytes | float]]:
    """Return the one answer of a server whose model calls tools: each delta is a list of elements of tool_calls."""
    return stream(*(chunk({"tool_calls": elements}) for elements in deltas), chunk({}, finish))


HE, LLO = {"content": "Hel"}, {"content": "lo"}
STOP = chunk({}, "stop")
DETAILS = [{"type": "reasoning.encrypted", "data": "ZW5j", "id": "r1", "format": "openai-responses-v1", "index": 0}]
CITED = [
    {
        "type": "url_citation",
        "url_citation": {"url": "https://example.org/", "title": "t", "start_index": 0, "end_index": 5},
    }
]
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
