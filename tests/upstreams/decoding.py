"""Runs a decoder over the bytes of an answer, and tells what came of it as one value."""

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec

from gpt_oss_proxy import sse
from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text, ToolCall
from gpt_oss_proxy.errors import GatewayError, UpstreamFailed, UpstreamIncomplete, UpstreamProtocolError
from gpt_oss_proxy.upstreams.decoder import Decoder
from tests.doubles import collect, measuring
from tests.typed import typed

SIZES = (1, 7, 1_000_000)
TOOLS = {"tools": [{"type": "function", "function": {"name": "askUser"}}]}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as somebody sees it who waited for its end: with what was said before an error, if it failed."""

    reference: str = ""
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage | None = None
    finish: str | None = None
    error: type[GatewayError] | None = None


def decode(decoder: Decoder, body: bytes, size: int = 1_000_000, *, cut: bool = False) -> Outcome:
    """Feed `body` in pieces of `size` bytes, as Upstream.stream does. `cut`: the connection breaks after it."""
    events, error = run(decoder, body, size, cut=cut)
    completion = collect([events]).choices[0]
    return Outcome(
        reference="".join(event.reference for event in events if isinstance(event, Started)),
        text=completion.text,
        reasoning=completion.reasoning,
        tool_calls=completion.tool_calls,
        usage=next((event for event in events if isinstance(event, Usage)), None),
        finish="+".join(event.reason for event in events if isinstance(event, Finish)) or None,
        error=type(error) if error else None,
    )


def run(
    decoder: Decoder, body: bytes, size: int | None = None, *, cut: bool = False
) -> tuple[list[Event], GatewayError | None]:
    """Return all events and the error that ended them, if one did. Without `size` each line comes alone."""
    events: list[Event] = []
    reads = (
        body.splitlines(keepends=True)
        if size is None
        else [body[start : start + size] for start in range(0, len(body), size)]
    )
    try:
        for read in reads:
            events += decoder.feed(read) or []
            if decoder.failure:
                raise decoder.failure
            if decoder.ended:
                break
        if cut and not decoder.complete:
            raise UpstreamIncomplete
        events += decoder.close()
    except GatewayError as error:
        return events, error
    return events, None


def fail(decoder: Decoder, body: bytes) -> GatewayError:
    """Return the error that this body means."""
    error = run(decoder, body)[1]
    assert error is not None
    return error


def said(decoder: Decoder, body: bytes) -> list[str]:
    """Return the text deltas, each alone."""
    return [event.text for event in run(decoder, body)[0] if isinstance(event, TextDelta)]


def thought(decoder: Decoder, body: bytes) -> list[str]:
    """Return the reasoning deltas, each alone."""
    return [event.text for event in run(decoder, body)[0] if isinstance(event, ReasoningDelta)]


def sse_bytes(*events: Any) -> bytes:
    """Return the events as an event stream; bytes go as they are."""
    return b"".join(
        event if isinstance(event, bytes) else b"data: %b\n\n" % json.dumps(event, ensure_ascii=False).encode()
        for event in events
    )


def ask(*texts: str, model: str = "gpt-oss-20b", stream: bool = False, **options: Any) -> ChatRequest:
    """Return a request with these user messages."""
    messages = tuple(Message("user", (Text(text),)) for text in texts or ("Hi",))
    return ChatRequest(model, messages, stream=stream, **typed(options))


def merged(events: list[Event]) -> list[Event]:
    """Return the events with neighbouring deltas of a kind joined, so that the reads they came in do not show."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, TextDelta | ReasoningDelta) and type(last) is type(event):
            out[-1] = type(event)(last.text + event.text)  # type: ignore[union-attr]
        else:
            out.append(event)
    return out


def assert_reads_do_not_matter(make: Callable[[], Decoder], body: bytes) -> None:
    """Any bytes give events that can be told, or one of our errors, and the same ones wherever they are cut."""
    expected, error = run(make(), body)
    msgspec.json.encode(expected)  # no half characters, no number beyond 64 bits
    for size in (1, 7):
        events, found = run(make(), body, size)
        assert merged(events) == merged(expected)
        assert type(found) is type(error)


def assert_cost_is_linear(make_decoder: Callable[[], Decoder], make_body: Callable[[int], bytes]) -> None:
    """Eight times as much costs about eight times as much; where it is quadratic it is sixty-four times."""
    small, large = make_body(1000), make_body(8000)
    # Once is enough, unless something else has just kept the processor busy.
    assert any(_seconds(make_decoder, large) < 0.1 + 16 * _seconds(make_decoder, small) for _ in range(3))


def _seconds(make_decoder: Callable[[], Decoder], body: bytes) -> float:
    with measuring():
        begun = time.process_time()
        run(make_decoder(), body, 65536)
        return time.process_time() - begun


class Lines(Decoder):
    """Each line is text, but for some words; `done` is the terminal event, after which more may follow."""

    TEXT_MARK = b'"'

    def __init__(self) -> None:
        super().__init__(sse.LineDecoder(1000))

    def decode(self, record: bytes) -> None:
        match record:
            case b"{":
                raise UpstreamProtocolError
            case b"done":
                self.complete = True
            case b"END":
                self.complete = self.ended = True
            case b"fail":
                raise UpstreamFailed
            case b"":
                pass
            case _:
                self.say(json.loads(record))

    def more_text(self, record: bytes) -> str:
        return json.loads(record) if record.startswith(b'"') else ""

    def finish(self) -> None:
        if not self.complete:
            raise UpstreamIncomplete
        self.emit(Finish("stop"))
