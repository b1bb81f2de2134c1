"""What the live tests say to a gateway and hear from it, byte by byte and with arrival times."""

import dataclasses
import json
import time
from typing import Any

import requests
import urllib3

SECONDS = 30  # longer than anything a test waits for, so that a hanging test ends

# The text that must arrive as it was typed: what software likes to trim, reflow, escape or split at.
AWKWARD = '  Grüße 👩‍👩‍👧 \r\n\u2028 line\u2029 a\ttab\x85 {"json": "\\u00e9"} [#1 user] data: x\n\n\u00a0 end \n '


class Upstream:
    """One of the upstream servers in tests/live/servers."""

    def __init__(self, address: str) -> None:
        self.address = address

    def connections(self) -> dict[str, Any]:
        """Return what the server knows of its connections: open, closed_early, served, last_closed_at."""
        return requests.get(f"{self.address}/connections", timeout=SECONDS).json()

    def last(self) -> dict[str, Any]:
        """Return headers and body of the last chat request."""
        return requests.get(f"{self.address}/last", timeout=SECONDS).json()


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def post(base: str, body: Any, headers: dict[str, str] | None = None) -> requests.Response:
    """POST a chat; a body of bytes goes out as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{base}/v1/chat/completions"
    return requests.post(url, data=data, headers=headers, timeout=SECONDS)


def chat(base: str, model: str, content: Any, **fields: Any) -> requests.Response:
    """Ask one user message."""
    return post(base, {"model": model, "messages": user(content), **fields})


def text_of(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def error_of(response: requests.Response) -> dict[str, Any]:
    """Return the status and OpenAI's error object, whose shape is checked."""
    assert response.headers["content-type"] == "application/json", response.text
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    return {"status": response.status_code, **body["error"]}


def failed(response: requests.Response) -> tuple[int, str, str]:
    error = error_of(response)
    return error["status"], error["type"], error["code"]


@dataclasses.dataclass
class Streamed:
    """A streamed answer: each piece with its time of arrival, in seconds since the request."""

    status: int
    headers: Any
    pieces: list[tuple[float, bytes]]
    broken: bool  # ended without the last chunk of its transfer coding

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    def chunks(self) -> list[dict[str, Any]]:
        """Return the chunks before [DONE], which must be the last; only `data: ` lines and blank lines are allowed."""
        *events, end = self.body.decode().split("\n\n")
        assert end == "", "a blank line ends the stream"
        assert all(event.startswith("data: ") and "\n" not in event and "\r" not in event for event in events), events
        assert events[-1] == "data: [DONE]"
        return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]

    def deltas(self) -> list[dict[str, Any]]:
        return [chunk["choices"][0]["delta"] for chunk in self.chunks() if chunk.get("choices")]

    def text(self) -> str:
        return "".join(delta.get("content") or "" for delta in self.deltas())

    def finishes(self) -> list[str]:
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in self.chunks() if chunk.get("choices")]
        return [reason for reason in reasons if reason]

    def errors(self) -> list[dict[str, Any]]:
        return [chunk["error"] for chunk in self.chunks() if "error" in chunk]

    def first_arrival(self, words: str) -> float:
        """Return when `words` were first there."""
        heard = b""
        for seconds, piece in self.pieces:
            heard += piece
            if words.encode() in heard:
                return seconds
        raise AssertionError(f"{words!r} never came: {heard!r}")


def stream(base: str, model: str, content: Any, headers: dict[str, str] | None = None, **fields: Any) -> Streamed:
    """Ask one user message, streamed, and read the answer as it comes."""
    body = json.dumps({"model": model, "messages": user(content), "stream": True, **fields})
    began = time.monotonic()
    pieces: list[tuple[float, bytes]] = []
    broken = False
    with requests.post(
        f"{base}/v1/chat/completions", data=body, headers=headers, stream=True, timeout=SECONDS
    ) as response:
        try:
            while piece := response.raw.read1(65536):
                pieces.append((time.monotonic() - began, piece))
        except urllib3.exceptions.HTTPError:
            broken = True
    return Streamed(response.status_code, response.headers, pieces, broken)
