"""A client that asks for faults, and what it must have seen in the end."""

import json
import time
import uuid
import zlib
from typing import NamedTuple

import urllib3

from tests.live.faults.answers import FIRST, Protocol, texts
from tests.live.faults.cases import GOOD_CASE
from tests.live.faults.outcomes import Case, Outcome
from tests.live.talk import Streamed

_SECONDS = 90  # longer than any case may take

_LONGEST = 1000  # characters


class Seen(NamedTuple):
    """An answer as a client sees it, streamed or not. An error is (status or 0 in a stream, type, code)."""

    status: int
    text: str = ""
    finishes: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    retry_after: str | None = None


class Run(NamedTuple):
    """What came of one case: what was seen, in how many seconds, and what a healthy request saw after it."""

    seen: Seen
    expected: Seen
    seconds: float
    healthy: Seen
    expected_healthy: Seen


class Client:
    """Asks one gateway in one protocol. `secrets` are words that no answer may hold."""

    def __init__(self, base: str, protocol: Protocol, secrets: tuple[str, ...] = ()) -> None:
        self.base = base
        self.protocol = protocol
        self._secrets = ("127.0.0.1", "localhost", "http:", "Traceback", "urllib3", *secrets)
        self._http = urllib3.PoolManager(maxsize=64, retries=False, timeout=_SECONDS)

    def run(self, case: Case, streamed: bool) -> Run:
        word = new_word()
        began = time.monotonic()
        seen = self.ask(case.slug, word, streamed)
        seconds = time.monotonic() - began
        expected = expect(case, case.of(self.protocol), word, streamed)
        if case.of(self.protocol).said == "some" and seen.text.startswith(FIRST):
            seen = seen._replace(text="")
        return Run(seen, expected, seconds, *self.healthy(not streamed))

    def healthy(self, streamed: bool) -> tuple[Seen, Seen]:
        """Return what a good answer looks like now, and what it must look like."""
        word = new_word()
        return self.ask(GOOD_CASE.slug, word, streamed), expect(GOOD_CASE, GOOD_CASE.outcome, word, streamed)

    def ask(self, fault: str, word: str, streamed: bool) -> Seen:
        message = {"role": "user", "content": chat_text(fault, word, self.protocol)}
        body = json.dumps({"model": self.protocol.model, "messages": [message], "stream": streamed})
        url = f"{self.base}/v1/chat/completions"
        response = self._http.request("POST", url, body=body, headers={"Content-Type": "application/json"})
        assert "set-cookie" not in response.headers
        if response.status != 200:
            return self._refused(response)
        if streamed:
            return self._streamed(response)
        choice = response.json()["choices"][0]
        return Seen(200, short(choice["message"]["content"]), (choice["finish_reason"],))

    def _refused(self, response: urllib3.BaseHTTPResponse) -> Seen:
        assert response.headers["content-type"] == "application/json"
        error = response.json()["error"]
        self._check(error)
        kind = (error["type"], error["code"])
        return Seen(response.status, errors=(kind,), retry_after=response.headers.get("retry-after"))

    def _streamed(self, response: urllib3.BaseHTTPResponse) -> Seen:
        answer = Streamed(response.status, response.headers, [(0, response.data)], broken=False)
        chunks = answer.chunks()
        for error in answer.errors():
            self._check(error)
        assert not any("error" in chunk for chunk in chunks[:-1]), "an error event is the last"
        errors = tuple((error["type"], error["code"]) for error in answer.errors())
        return Seen(200, short(answer.text()), tuple(answer.finishes()), errors)

    def _check(self, error: dict[str, str]) -> None:
        assert list(error) == ["message", "type", "param", "code"]
        told = [secret for secret in self._secrets if secret in error["message"]]
        assert not told, error["message"]


def chat_text(fault: str, word: str, protocol: Protocol) -> str:
    """Return the message that asks for a fault."""
    return f"::fault {fault} {word} {protocol.slug}::"


def short(text: str) -> str:
    """Return a text that can be shown: megabytes by their beginning, length and sum."""
    return text if len(text) < _LONGEST else f"{text[:40]} … {len(text)} {zlib.crc32(text.encode())}"


def new_word() -> str:
    return uuid.uuid4().hex[:8]


def expect(case: Case, outcome: Outcome, word: str, streamed: bool) -> Seen:
    """Return what must be seen."""
    pieces = case.texts or texts(word)
    text = short(case.heard or "".join(pieces))
    if not outcome.code:
        return Seen(200, text, ("stop",))
    error = (outcome.type, outcome.code)
    if outcome.said == "nothing" or not streamed:
        return Seen(outcome.status, errors=(error,), retry_after=outcome.retry_after)
    said = {"half": short(pieces[0]), "all": text, "some": ""}[outcome.said]
    return Seen(200, said, errors=(error,))
