"""Asks the small model over OpenAI's API, streamed, and turns its chunks into events as they arrive.

Source: llama.cpp's server. A prompt that is longer than its context gets HTTP 400, type `exceed_context_size_error`;
the token counts come in a last chunk without choices, as `stream_options.include_usage` requests.
"""

from collections.abc import Iterator

import msgspec
import requests
from msgspec import Struct

from .conversation import Answer, Event, Failure, Finish, Question, TextDelta

_CONNECT_SECONDS = 5
# Waiting for one of the model's slots may take a while; a client that gives up closes, which ends the wait.
_SILENCE_SECONDS = 600


class _Delta(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _Usage(Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int


class _Chunk(Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Error(Struct, frozen=True):
    type: str = ""
    n_ctx: int = 0


class _ErrorBody(Struct, frozen=True):
    error: _Error


def ask_model(url: str) -> Answer:
    """Return the answer function of the model; `url` is the model server's root."""
    session = requests.Session()
    session.trust_env = False
    # llama.cpp closes an idle connection after 5 s; a POST at that moment would fail.
    session.headers["connection"] = "close"

    def answer(question: Question) -> Iterator[Event]:
        try:
            with session.post(
                f"{url}/v1/chat/completions",
                data=_body(question),
                headers={"content-type": "application/json"},
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS),
            ) as response:
                if response.status_code == 200:
                    yield from decode(response.iter_content(chunk_size=None))
                else:
                    yield failure(response.content)
        except requests.RequestException:
            yield Failure()

    return answer


def _body(question: Question) -> bytes:
    messages = [{"role": message.role, "content": message.text} for message in question.messages]
    return msgspec.json.encode({"messages": messages, "stream": True, "stream_options": {"include_usage": True}})


def decode(reads: Iterator[bytes]) -> Iterator[Event]:
    """Yield the events of a stream with status 200, however it is cut."""
    reason = None
    usage = _Usage(0, 0)
    try:
        for data in _data_lines(reads):
            if data == b"[DONE]":
                break
            chunk = msgspec.json.decode(data, type=_Chunk)
            usage = chunk.usage or usage
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    yield TextDelta(choice.delta.content)
    except msgspec.DecodeError:  # an error object in the stream has no choices
        reason = None
    yield Failure() if reason is None else Finish(reason, usage.prompt_tokens, usage.completion_tokens)


def _data_lines(reads: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for read in reads:
        *lines, rest = (rest + read).split(b"\n")
        yield from (line[6:].strip() for line in lines if line.startswith(b"data: "))


def failure(body: bytes) -> Failure:
    """Return the failure that the model server's error body reports."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.DecodeError:
        return Failure()
    if error.type != "exceed_context_size_error":
        return Failure()
    return Failure(f"This conversation is longer than the demonstration model can read ({error.n_ctx} tokens).")
