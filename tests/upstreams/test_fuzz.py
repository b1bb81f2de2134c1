"""Whatever an upstream sends, as it comes from real servers and then damaged: events or one of our errors, no third.

And it never matters how its bytes were cut on their way.
"""

import email.utils
import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt_oss_proxy import sse
from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.errors import GatewayError, UpstreamIncomplete, UpstreamProtocolError, UpstreamTooLarge
from gpt_oss_proxy.net.client.transport import _retry_after
from gpt_oss_proxy.quoting import quote
from gpt_oss_proxy.upstreams.ai_sdk import FirstLineDecoder
from gpt_oss_proxy.upstreams.ai_sdk.data_stream import DataStreamDecoder
from gpt_oss_proxy.upstreams.ai_sdk.ui_stream import UiStreamDecoder
from gpt_oss_proxy.upstreams.chatkit.decoder import ChatKitDecoder
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.openai.decoder import OpenAIDecoder
from gpt_oss_proxy.upstreams.status_error import StatusError, error_from_status, failure_in, read_error
from gpt_oss_proxy.upstreams.values import json_text, json_value, whole
from tests.upstreams import recorded
from tests.upstreams.decoding import TOOLS, ask, merged, sse_bytes

quick = settings(max_examples=70, deadline=None, derandomize=True, database=None)
LIMIT = 4000  # bytes of an event: some of the damage is above it

# The seeds: what real servers sent, in records


def seeds(end: bytes, *folders: str) -> list[list[bytes]]:
    """Return the recordings of these folders, each as a list of records; of long ones the beginning and the end."""
    bodies = [recorded.answer(name).body for folder in folders for name in recorded.names(folder)]
    found = [body.removesuffix(end).split(end) for body in bodies if end in body]
    return [records if len(records) <= 16 else records[:10] + records[-6:] for records in found]


def chunk(delta: Any = None, reason: str | None = None, **fields: Any) -> Any:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **fields}


USED = {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
OPENAI = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"reasoning_content": "Hm"}),
    chunk({"content": "Grüß"}),
    chunk({"tool_calls": [CALL]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
    chunk(reason="tool_calls"),
    {"id": "chatcmpl-1", "choices": [], "usage": USED},
    b"data: [DONE]\n\n",
]
CHATKIT = seeds(b"\n\n", "chatkit", "chatkit-gptoss-reconstructed")
DATA_STREAM = seeds(b"\n", "aisdk-v1")
UI_STREAM = seeds(b"\n\n", "aisdk-ui")
Case = tuple[Callable[[], Decoder], list[list[bytes]], bytes]
CASES: dict[str, Case] = {
    "chatkit": (lambda: ChatKitDecoder(LIMIT, tools_offered=True), CHATKIT, b"\n\n"),
    "data stream": (lambda: DataStreamDecoder(ask(**TOOLS), LIMIT), DATA_STREAM, b"\n"),
    "ui stream": (lambda: UiStreamDecoder(ask(**TOOLS), LIMIT), UI_STREAM, b"\n\n"),
    "ui stream, streamed on": (lambda: UiStreamDecoder(ask(stream=True), LIMIT), UI_STREAM, b"\n\n"),
    "first line, data": (lambda: FirstLineDecoder(ask(), LIMIT), DATA_STREAM, b"\n"),
    "first line, events": (lambda: FirstLineDecoder(ask(), LIMIT), UI_STREAM, b"\n\n"),
    "openai": (lambda: OpenAIDecoder(LIMIT), [sse_bytes(*OPENAI).removesuffix(b"\n\n").split(b"\n\n")], b"\n\n"),
}
every_decoder = pytest.mark.parametrize("name", CASES)

# The damage


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


ODD: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        2**64,
        10**400,
        1e308,
        float("nan"),
        float("-inf"),
        "",
        "a",
        "\ud83d",
        "\ude00x",
        "é" * 50,
    ),
    *([], {}, [None], [[1]], [{}], {"": None}, {"text": 1}, {"type": []}, [{"type": "text"}], nested(300), "x" * LIMIT),
]


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in it, its own included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in paths(inner, (*path, key)))]


def replaced(value: Any, path: Sequence[Any], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@st.composite
def changed(draw: st.DrawFn, record: bytes) -> bytes:
    """The record with one of its values replaced by one of another kind."""
    head, value = re.fullmatch(rb"(data: |.:|)(.*)", record, re.DOTALL).groups()  # type: ignore[union-attr] # fits all
    try:
        parsed = json.loads(value)
    except ValueError:
        return record[: len(record) // 2]
    new = replaced(parsed, draw(st.sampled_from(paths(parsed))), draw(st.sampled_from(ODD)))
    return head + json.dumps(new, ensure_ascii=True).encode()


@st.composite
def bodies(draw: st.DrawFn, recordings: list[list[bytes]], end: bytes) -> bytes:
    """A recording with records dropped, doubled, swapped, spliced in, changed or broken, and perhaps cut short."""
    records = list(draw(st.sampled_from(recordings)))
    for damage in draw(
        st.lists(st.sampled_from(["drop", "double", "swap", "splice", "change", "change", "break"]), max_size=5)
    ):
        at = draw(st.integers(0, max(len(records) - 1, 0)))
        match damage:
            case "splice":
                other = draw(st.sampled_from(recordings))
                start = draw(st.integers(0, len(other)))
                records[at:at] = other[start : start + draw(st.integers(1, 4))]
            case _ if not records:
                pass
            case "drop":
                del records[at]
            case "double":
                records.insert(at, records[at])
            case "swap":
                records[at], records[-1] = records[-1], records[at]
            case "change":
                records[at] = draw(changed(records[at]))
            case "break":
                position = draw(st.integers(0, len(records[at])))
                records[at] = records[at][:position] + draw(st.binary(max_size=3)) + records[at][position + 1 :]
    body = end.join([*records, b""])
    if draw(st.booleans()):
        body = body.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r"])))
    return body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body


def in_pieces(body: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [body[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(body)])]


# What comes of it


def told(decoder: Decoder, pieces: Sequence[bytes], *, cut: bool) -> tuple[list[Event], GatewayError | None]:
    """Return all events and the error that ended them, if one did, as Upstream.stream would."""
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece) or []
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


def assert_is_an_answer(events: list[Event], error: GatewayError | None) -> None:
    msgspec.json.encode(events)  # no half characters, no number beyond 64 bits
    finishes = [event for event in events if isinstance(event, Finish)]
    assert len(finishes) == (0 if error else 1)
    assert finishes == events[-1:] or error
    assert all(event.text for event in events if isinstance(event, TextDelta | ReasoningDelta))
    for kind in (Started, Usage):
        assert sum(isinstance(event, kind) for event in events) <= 1
    known: set[int] = set()
    for call in (event for event in events if isinstance(event, ToolCallDelta)):
        assert call.index in known or call.index == len(known), "calls are counted without gaps"
        known.add(call.index)
    if error:
        assert len(error_body(error)) < 2000


def assert_any_cut_is_the_same(make: Callable[[], Decoder], body: bytes, cuts: Sequence[int], *, cut: bool) -> None:
    expected, error = told(make(), [body], cut=cut)
    assert_is_an_answer(expected, error)
    for places in (
        cuts,
        range(1, len(body)),
        [position for position in cuts for _ in range(2)],
    ):  # the last: empty reads
        events, found = told(make(), in_pieces(body, places), cut=cut)
        assert merged(events) == merged(expected)
        assert type(found) is type(error)
        assert str(found) == str(error)


@every_decoder
@quick
@given(data=st.data())
def test_a_damaged_answer_is_events_or_one_of_our_errors_wherever_it_is_cut(name: str, data: st.DataObject) -> None:
    make, recordings, end = CASES[name]
    body = data.draw(bodies(recordings, end))
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=5))
    assert_any_cut_is_the_same(make, body, cuts, cut=data.draw(st.booleans()))


PIECES = [
    *(
        b"data: ",
        b"data:",
        b"data: {}",
        b"data: [DONE]",
        b"event: x",
        b": ping",
        b"id: 1",
        b"\n",
        b"\r",
        b"\n\n",
        b"\r\n",
    ),
    *(
        b'0:"a"',
        b"d:{}",
        b'e:{"finishReason":"stop"}',
        b"3:1",
        b"\xef\xbb\xbf",
        b"\xff",
        b'{"type":"error"}',
        b"null",
        b"[",
    ),
]


@every_decoder
@quick
@given(st.lists(st.binary(max_size=9) | st.sampled_from(PIECES), max_size=12), st.lists(st.integers(0, 60), max_size=5))
def test_any_bytes_are_events_or_one_of_our_errors_wherever_they_are_cut(
    name: str, pieces: list[bytes], cuts: list[int]
) -> None:
    body = b"".join(pieces)
    assert_any_cut_is_the_same(CASES[name][0], body, [min(position, len(body)) for position in cuts], cut=False)


# Framing


@pytest.mark.parametrize("framer", [sse.LineDecoder, sse.Decoder])
@quick
@given(
    st.lists(st.sampled_from([*PIECES, b"x" * 7]) | st.binary(max_size=4)),
    st.integers(1, 12),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_a_limit_holds_wherever_bytes_are_cut(
    framer: type[sse.LineDecoder] | type[sse.Decoder], pieces: list[bytes], limit: int, cuts: list[int]
) -> None:
    body = b"".join(pieces)

    def records(places: Sequence[int]) -> list[bytes | type[UpstreamTooLarge]]:
        decoder = framer(limit)
        found: list[bytes | type[UpstreamTooLarge]] = []
        try:
            for piece in in_pieces(body, places):
                for record in decoder.feed(piece):
                    found.append(record)
        except UpstreamTooLarge:
            found.append(UpstreamTooLarge)
        return found

    expected = records([])
    assert all(len(record) <= limit for record in expected if isinstance(record, bytes))
    assert records(range(1, len(body))) == expected
    assert records([min(position, len(body)) for position in cuts]) == expected


# The border of JSON and of foreign text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=6,
)
RECORDS = (
    st.binary()
    | st.text('{}[]",:\\ud83dE-+.0123 tfnNaI', max_size=30).map(str.encode)
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.integers(900, 3000).map(lambda depth: b"[" * depth + b"]" * depth)
)


@quick
@given(RECORDS)
def test_any_record_is_a_value_that_can_be_told_or_a_protocol_error(record: bytes) -> None:
    try:
        text = json_text(json_value(record))
    except UpstreamProtocolError:
        return
    msgspec.json.decode(whole(text).encode())  # whatever is passed on as arguments of a call is JSON


@quick
@given(st.text(st.characters() | st.sampled_from("\ud83d\ude00")))
def test_any_text_is_made_whole_and_what_is_whole_stays(text: str) -> None:
    made = whole(text)
    made.encode()
    assert made == text or "\ufffd" in made or any("\ud800" <= character <= "\udfff" for character in text)
    assert whole(made) == made


@quick
@given(
    RECORDS | JSON.map(lambda value: json.dumps({"error": {"message": value, "code": value, "param": value}}).encode())
)
def test_any_error_body_has_a_text_that_can_be_quoted(body: bytes) -> None:
    said = read_error(body)
    assert [type(value) for value in msgspec.structs.astuple(said)] == [str, str, str, int]
    for error in (error_from_status(StatusError(400, said)), error_from_status(StatusError(404, said), "m")):
        assert len(error_body(error)) < 2000
    quoted = quote(said.text)
    assert len(quoted.encode()) <= 4 * 201
    assert quoted.splitlines() in ([], [quoted])


@quick
@given(st.dictionaries(st.sampled_from(["error", "errors", "detail", "message", "msg", "code", "status"]), JSON))
def test_any_failure_within_an_answer_is_one_of_our_errors_or_none(record: dict[str, Any]) -> None:
    error = failure_in(record)
    assert error is None or len(error_body(error)) < 2000


DATES = st.lists(
    st.sampled_from(
        ["Fri,", "1", "31", "99", "Jan", "Feb", "2027", "99999999", "07:28:00", "99:99", "GMT", "+9999", "-", ":", ""]
    ),
    max_size=7,
).map(" ".join)


@example("Mon, 99 Jan 99999999 99:99:99 GMT")
@example("1 Jan 2027 07:28:00 +99999999999999")
@quick
@given(st.none() | st.text(max_size=80) | DATES | st.integers(-1, 10**70).map(str))
def test_any_retry_after_is_one_that_every_client_can_read_or_none(value: str | None) -> None:
    found = _retry_after(value)
    if found is not None:
        assert found == value
        assert found.isascii()
        assert found.isprintable()
        if not found.isdigit():
            email.utils.parsedate_to_datetime(found)


SECRETS = [
    *("https://user:pass@internal.example:8443/v1?key=1", "http://10.1.2.3:8080/chat", "10.1.2.3", "10.1.2.3:8080"),
    *(
        "db.internal",
        "db-1.corp.example:5432",
        "localhost:11434",
        "/srv/app/main.py",
        "fe80::1",
        "sk-proj-abcdef123456",
    ),
    *("hf_abcdefgh", "Bearer abcdef", "redis://:pw@cache/0"),
]
WORDS = st.lists(
    st.sampled_from(["error", "in", "(", ")", '"', "'", ",", "ä", "\n", "key=", "at:", "x" * 60]), max_size=20
)


@quick
@given(WORDS, st.sampled_from(SECRETS), WORDS)
def test_no_secret_is_quoted_whatever_stands_around_it(before: list[str], secret: str, after: list[str]) -> None:
    quoted = quote(" ".join([*before, secret, *after]))
    assert secret not in quoted
    assert not set(re.split(r"[^\w]+", secret)) & set(re.split(r"[^\w]+", quoted)) - {"", "error", "at", "key", "x"}
