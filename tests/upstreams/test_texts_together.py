"""Text that comes together is decoded together, and means what it means one by one, whatever stands between it."""

import itertools
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Event, Finish, Started, TextDelta
from gpt_oss_proxy.errors import GatewayError, UpstreamTooLarge
from gpt_oss_proxy.upstreams import decoder as module
from gpt_oss_proxy.upstreams.ai_sdk.data_stream import DataStreamDecoder
from gpt_oss_proxy.upstreams.ai_sdk.ui_stream import UiStreamDecoder
from gpt_oss_proxy.upstreams.chatkit.decoder import ChatKitDecoder
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.openai.decoder import OpenAIDecoder
from tests.doubles import measuring
from tests.upstreams import recorded
from tests.upstreams.decoding import TOOLS, ask, merged, run, sse_bytes
from tests.upstreams.test_recordings import EXPECTED, UPSTREAMS

VALUES: list[Any] = [None, "", "Hi", "text_delta", "\ud83d", "\ude00", "é", 7, True, [], {}, {"type": "text-delta"}]
KIND = "assistant_message.content_part.text_delta"


Choose = Callable[[str, list[Any]], Any]


def chooser(data: st.DataObject, usual: int) -> Choose:
    """Return what chooses the first of some values, which is the usual one, so many times of ten."""

    def choose(label: str, values: list[Any]) -> Any:
        if data.draw(st.integers(0, 9)) < usual:
            return values[0]
        return data.draw(st.sampled_from(values), label=label)

    return choose


def chatkit(choose: Choose) -> Any:
    """Return an event of a turn, mostly a text delta."""
    kind = choose("type", ["thread.item.updated", "thread.item_updated", "error", "notice", "thread.item.done"])
    update = {
        "type": choose("kind", [KIND, "assistant_message.content_part.done"]),
        choose("name of the index", ["content_index", "contentIndex"]): choose("index", [0, 1, None, -1, True]),
        "delta": choose("delta", ["Hi", *VALUES]),
    }
    item = {"type": "assistant_message", "id": choose("item", ["m", "n", ""]), "content": []}
    return {"type": kind, "item": item, choose("id", ["item_id", "itemId"]): item["id"], "update": update}


def ui_stream(choose: Choose) -> Any:
    """Return a part of a message, mostly a text delta."""
    kinds = ["text-delta", "start-step", "reset-step", "finish", "reasoning-delta", "error"]
    return {"type": choose("type", kinds), "delta": choose("delta", ["Hi", *VALUES]), "errorText": '"text-delta"'}


def openai(choose: Choose) -> Any:
    """Return a chunk, mostly of text."""
    delta = {"content": choose("content", ["Hi", *VALUES])}
    if name := choose("more", ["", "", "refusal", "reasoning", "reasoning_content", "tool_calls", "role"]):
        delta[name] = choose("its value", VALUES)
    choice = {
        "index": choose("index", [0, None, 1, "0"]),
        "delta": delta,
        "finish_reason": choose("reason", [None, "stop", "error", ""]),
    }
    chunk = {"id": choose("answer", ["a-1", "", "a 1"]), "choices": [choice] * choose("choices", [1, 1, 0, 2])}
    if name := choose("also", ["", "", "usage", "error"]):
        chunk[name] = choose("value", [None, {}, "no", {"prompt_tokens": 1, "completion_tokens": 2}])
    return chunk


def data_stream(choose: Choose) -> bytes:
    """Return a line, mostly of text."""
    code = choose("code", ["0", "0", "g", "d", "e", "f", "3", "2", "0 ", ""])
    value = choose("text", ["Hi", *VALUES, {"finishReason": "stop"}, {"finishReason": "stop", "isContinued": True}])
    return f"{code}:{json.dumps(value)}\n".encode()


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: ChatKitDecoder(10_000), chatkit),
        (lambda: UiStreamDecoder(ask(), 10_000), ui_stream),
        (lambda: OpenAIDecoder(10_000), openai),
    ],
    ids=["chatkit", "ui stream", "openai"],
)
@given(data=st.data())
def test_the_short_way_says_what_the_long_way_says(
    make: Callable[[], Decoder], say: Callable[[Choose], Any], data: st.DataObject
):
    usual = data.draw(st.integers(0, 9), label="of ten choices, how many are the usual one")

    choose = chooser(data, usual)
    records = [json.dumps(say(choose)).encode() for _ in range(data.draw(st.integers(1, 8)))]
    body = sse_bytes(*(b"data: %b\n\n" % record for record in records), b"data: [DONE]\n\n")
    for size in (1_000_000, 100, None):
        together, one_by_one = make(), make()
        one_by_one.TEXT_MARK = b""
        found, expected = run(together, body, size), run(one_by_one, body, size)
        assert merged(found[0]) == merged(expected[0])
        assert repr(found[1]) == repr(expected[1])


Read = list[Event] | GatewayError | None


def reads_of(decoder: Decoder, reads: list[bytes], *, fast: bool) -> list[Read]:
    """Return what each read brings, then what the end does. Unless it may be `fast`, each record is read on its own."""
    if not fast:
        decoder.TEXT_MARK = b""
        decoder.more_text = lambda record: ""  # type: ignore[method-assign]
    told: list[Read] = []
    try:
        for read in reads:
            told.append(decoder.feed(read))
            if decoder.failure:
                raise decoder.failure
            if decoder.ended:
                break
        told.append(decoder.close())
    except GatewayError as error:
        told.append(error)
    return told


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: ChatKitDecoder(10_000), chatkit),
        (lambda: UiStreamDecoder(ask(), 10_000), ui_stream),
        (lambda: UiStreamDecoder(ask(stream=True), 10_000), ui_stream),
        (lambda: OpenAIDecoder(10_000), openai),
        (lambda: DataStreamDecoder(ask(), 10_000), data_stream),
    ],
    ids=["chatkit", "ui stream", "ui stream, streamed on", "openai", "data stream"],
)
@given(data=st.data())
def test_a_text_that_comes_alone_says_what_it_says_the_long_way(
    make: Callable[[], Decoder], say: Callable[[Choose], Any], data: st.DataObject
):
    usual = data.draw(st.integers(5, 10), label="of ten choices, how many are the usual one")

    choose = chooser(data, usual)
    said = [say(choose) for _ in range(data.draw(st.integers(1, 8)))]
    # JavaScript writes half a character as an escape.
    reads = [event if isinstance(event, bytes) else b"data: %b\n\n" % json.dumps(event).encode() for event in said]
    if len(reads) > 2 and data.draw(st.booleans()):  # not all come alone
        reads[1:3] = [reads[1] + reads[2]]
    fast, slow = reads_of(make(), reads, fast=True), reads_of(make(), reads, fast=False)
    assert repr(fast) == repr(slow)


def words(make_event: Callable[[str], Any]) -> st.SearchStrategy[list[bytes]]:
    """Events that differ in their text, and now and then something else between them."""
    texts = st.text(max_size=4) | st.sampled_from(["a", '"', "\\", "text_delta", "\ud83d", "\ude00", "\n", ""])
    events = texts.map(make_event) | st.sampled_from([{"type": "progress"}, {}, b": ping\n\n", b"\n"])
    dumps = st.sampled_from(
        [lambda value: json.dumps(value, ensure_ascii=True), lambda value: json.dumps(value, ensure_ascii=False)]
    )
    return st.lists(
        st.tuples(events, dumps).map(
            lambda told: (
                told[0] if isinstance(told[0], bytes) else b"data: %b\n\n" % told[1](told[0]).encode(errors="replace")
            )
        ),
        min_size=3,
        max_size=12,
    )


@pytest.mark.parametrize(
    ("make", "make_event"),
    [
        (lambda: ChatKitDecoder(10_000), lambda text: delta("m", 0, text)),
        (lambda: UiStreamDecoder(ask(), 10_000), lambda text: {"type": "text-delta", "id": "0", "delta": text}),
        (lambda: OpenAIDecoder(10_000), lambda text: chunk(text)),
        (lambda: OpenAIDecoder(120), lambda text: chunk(text)),  # so that some are too long
        (lambda: DataStreamDecoder(ask(), 10_000), lambda text: f"0:{json.dumps(text)}\n".encode()),
    ],
    ids=["chatkit", "ui stream", "openai", "openai, short events", "data stream"],
)
@given(data=st.data())
def test_events_that_are_alike_say_what_they_say_one_by_one_wherever_they_are_cut(
    make: Callable[[], Decoder], make_event: Callable[[str], Any], data: st.DataObject
):
    body = b"".join(data.draw(words(make_event)))
    cuts = sorted({0, len(body), *data.draw(st.lists(st.integers(0, len(body)), max_size=4))})
    reads = [body[start:end] for start, end in itertools.pairwise(cuts)]
    fast, slow = reads_of(make(), reads, fast=True), reads_of(make(), reads, fast=False)
    assert repr(fast) == repr(slow)


@pytest.mark.parametrize(
    ("make", "make_event"),
    [
        (lambda: ChatKitDecoder(10_000), lambda text: delta("m", 0, text)),
        (lambda: UiStreamDecoder(ask(), 10_000), lambda text: {"type": "text-delta", "id": "0", "delta": text}),
        (lambda: OpenAIDecoder(10_000), lambda text: chunk(text)),
        (lambda: OpenAIDecoder(120), lambda text: chunk(text)),
        (lambda: DataStreamDecoder(ask(), 10_000), lambda text: f"0:{json.dumps(text)}\n".encode()),
    ],
    ids=["chatkit", "ui stream", "openai", "openai, short events", "data stream"],
)
@given(data=st.data())
def test_what_is_taken_and_what_is_fed_say_together_what_is_said_if_all_is_fed(
    make: Callable[[], Decoder], make_event: Callable[[str], Any], data: st.DataObject
):
    events = data.draw(words(make_event))
    body = b"".join(events)
    ends = list(itertools.accumulate(map(len, events)))  # mostly an event comes alone
    cuts = sorted(
        {0, *data.draw(st.sets(st.sampled_from(ends))), *data.draw(st.sets(st.integers(0, len(body))))} | {len(body)}
    )
    reads = [body[start:end] for start, end in itertools.pairwise(cuts)]
    opened = [data.draw(st.integers(0, 4)) > 0 for _ in reads]
    told: list[Event] = []

    def tell(text: str) -> bool:
        if is_open := opened[-1]:
            told.append(TextDelta(text))
        return is_open

    decoder = make()
    error: GatewayError | None = None
    try:
        for read in reads:
            opened.insert(0, opened.pop())
            if not decoder.take(tell, read):
                told += decoder.feed(read) or []
            if decoder.failure:
                raise decoder.failure
            if decoder.ended:
                break
        told += decoder.close()
    except GatewayError as failure:
        error = failure
    expected = reads_of(make(), reads, fast=False)
    failed = expected.pop() if isinstance(expected[-1], GatewayError) else None
    lists = [events for events in expected if isinstance(events, list)]
    assert merged(told) == merged([event for events in lists for event in events])
    assert repr(error) == repr(failed)


@pytest.mark.parametrize(
    "reads",
    [
        [b'0:"a"\n'],
        [b'f:{}\n0:"a"\n', b'0:"b"\n0:"c'],
        [b'f:{}\n0:"a', b'"\n0:"b"\n'],  # the rest of a text, and another one
        [b'f:{}\n0:"a"\n', b'2:[]\n0:"b"\n0:"c"\n'],
    ],
)
def test_after_a_read_that_ends_with_a_text_it_is_known_what_more_is_like(reads: list[bytes]) -> None:
    decoder = DataStreamDecoder(ask(), 100_000)
    for read in reads:
        decoder.feed(read)
    assert decoder.knows_more


def test_from_a_text_with_an_escape_nothing_is_learnt_and_nothing_is_forgotten() -> None:
    decoder = ChatKitDecoder(100_000)
    event = sse_bytes({"type": "thread.item.updated", "item_id": "m", "update": {"type": KIND, "delta": "a"}})
    assert decoder.feed(event) == [TextDelta("a")]
    assert decoder.feed(b": ping\n\n" + event.replace(b'"a"', b'"\\n"')) == [TextDelta("\n")]
    assert decoder.knows_more


def test_where_no_event_is_like_another_it_is_given_up_to_learn(monkeypatch: pytest.MonkeyPatch):
    learnt: list[bytes] = []
    monkeypatch.setattr(module, "learn", lambda record, *_: learnt.append(record))
    body = sse_bytes(*(chunk("a", created=number) for number in range(100)))
    for reads in (body.splitlines(keepends=True), [body]):
        learnt.clear()
        reads_of(OpenAIDecoder(100_000), reads, fast=True)
        assert len(learnt) == 8


@pytest.mark.parametrize("between", [b"2:[{}]\n", b"\n", b'0: "b"\n', b'8:["text"]\n'])
@pytest.mark.parametrize("alike", [1, 2, 3])
def test_what_changes_all_the_time_is_not_looked_at_again_and_again(between: bytes, alike: int):
    def seconds(size: int) -> float:
        unit = b'0:"a"\n' * alike + between
        decoder = DataStreamDecoder(ask(), 10_000_000)
        decoder.feed(unit)
        data = unit * (size // len(unit))
        with measuring():
            began = time.process_time()
            decoder.feed(data)
            return time.process_time() - began

    small, large = (min(seconds(size) for _ in range(3)) for size in (20_000, 320_000))
    assert large < 60 * small  # 16 times as much; square, it would be 256 times


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recorded_answer_whose_events_come_one_by_one_says_the_same_in_the_fast_lane(name: str):
    answer = recorded.answer(name)
    end = b"\n" if name.startswith("aisdk-v1") else b"\r\n\r\n" if b"\r\n\r\n" in answer.body else b"\n\n"
    events = [event + end for event in answer.body.removesuffix(end).split(end)]
    for reads in (events, answer.body.splitlines(keepends=True), [b"".join(events[:2]), *events[2:]]):
        fast, slow = (
            reads_of(UPSTREAMS[name.split("/")[0]].decoder(answer.headers, ask(**TOOLS)), reads, fast=fast)
            for fast in (True, False)
        )
        assert repr(fast) == repr(slow)


def chunk(text: str, reason: str | None = None, **more: Any) -> Any:
    return {"id": "a-1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}], **more}


def delta(item: str, index: int, text: str) -> Any:
    update = {"type": KIND, "content_index": index, "delta": text}
    return {"type": "thread.item.updated", "item_id": item, "update": update}


def done(item: str, text: str) -> Any:
    return {"type": "thread.item.done", "item": {"type": "assistant_message", "id": item, "content": [{"text": text}]}}


@pytest.mark.parametrize(
    ("make", "events"),
    [
        (lambda: OpenAIDecoder(10_000), [chunk("a"), chunk("b"), chunk("c", "stop")]),
        (lambda: OpenAIDecoder(10_000), [chunk("a"), chunk("b", usage={"prompt_tokens": 1, "completion_tokens": 2})]),
        (lambda: OpenAIDecoder(10_000), [chunk("a"), chunk("b", error={"message": "no"})]),
        (lambda: OpenAIDecoder(10_000), [chunk("a"), chunk("\ud83d"), chunk("\ude00"), chunk("b", "length")]),
        (lambda: ChatKitDecoder(10_000), [delta("m", 0, "a"), delta("m", 0, "b"), delta("m", 1, "c")]),
        (lambda: ChatKitDecoder(10_000), [delta("m", 0, "a"), delta("n", 0, "b"), delta("m", 0, "c")]),
        (lambda: ChatKitDecoder(10_000), [delta("m", 0, "a"), delta("m", 1, ""), delta("m", 1, "b")]),
        (lambda: ChatKitDecoder(10_000), [delta("m", 0, ""), delta("m", 0, "a"), delta("m", 1, "b")]),
        (
            lambda: ChatKitDecoder(10_000),
            [delta("m", 0, "a"), delta("n", 0, "b"), delta("m", 0, ""), delta("m", 0, "c")],
        ),
        (lambda: ChatKitDecoder(10_000), [delta("m", 0, "a"), delta("m", 0, "b"), done("m", "abc")]),
        (lambda: ChatKitDecoder(10_000), [delta("m", 0, "a"), delta("m", 0, "b"), done("m", "axc")]),
        (
            lambda: UiStreamDecoder(ask(), 10_000),
            [{"type": "text-delta", "delta": "a"}, {"type": "finish"}, {"type": "text-delta", "delta": "b"}],
        ),
        (lambda: DataStreamDecoder(ask(), 10_000), [b'0:"a"\n', b'd:{"finishReason":"stop"}\n', b'0:"b"\n']),
    ],
)
def test_what_is_more_than_the_next_text_says_the_same_in_the_fast_lane(make: Callable[[], Decoder], events: list[Any]):
    reads = [
        event if isinstance(event, bytes) else b"data: %b\n\n" % json.dumps(event, ensure_ascii=True).encode()
        for event in events
    ]
    assert repr(reads_of(make(), reads, fast=True)) == repr(reads_of(make(), reads, fast=False))


@pytest.mark.parametrize(
    ("make", "first", "text"),
    [
        (lambda: ChatKitDecoder(10_000), delta("m", 0, "a"), delta("m", 0, "b")),
        (lambda: UiStreamDecoder(ask(), 10_000), {"type": "start"}, {"type": "text-delta", "id": "0", "delta": "b"}),
        (lambda: OpenAIDecoder(10_000), chunk("a"), chunk("b")),
        (lambda: DataStreamDecoder(ask(), 10_000), b'0:"a"\n', b'0:"b"\n'),
    ],
    ids=["chatkit", "ui stream", "openai", "data stream"],
)
def test_a_text_that_comes_alone_does_go_the_fast_lane(make: Callable[[], Decoder], first: Any, text: Any):
    decoder = make()
    decoder.feed(sse_bytes(first))
    decoder.decode_texts = decoder.decode = None  # type: ignore[method-assign,assignment]
    assert decoder.feed(sse_bytes(text)) == [TextDelta("b")]
    told: list[str] = []
    assert decoder.take(lambda text: not told.append(text), sse_bytes(text, text))
    assert not decoder.take(lambda _text: False, sse_bytes(text))
    assert told == ["bb"]


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "fed"])
@pytest.mark.parametrize(
    ("make", "make_event"),
    [
        (lambda: ChatKitDecoder(1_000_000), lambda text: delta("m", 0, text)),
        (lambda: UiStreamDecoder(ask(), 10_000), lambda text: {"type": "text-delta", "id": "0", "delta": text}),
        (lambda: OpenAIDecoder(10_000), chunk),
        (lambda: DataStreamDecoder(ask(), 10_000), lambda text: f"0:{json.dumps(text)}\n".encode()),
    ],
    ids=["chatkit", "ui stream", "openai", "data stream"],
)
def test_a_long_answer_is_not_kept(make: Callable[[], Decoder], make_event: Callable[[str], Any], taken: bool):
    decoder, told = make(), 0

    def tell(text: str) -> bool:
        nonlocal told
        told += len(text) if taken else 0
        return taken

    tracemalloc.start()
    try:
        for number in range(1500):
            data = sse_bytes(make_event(f"{number:04} {'word' * 249}"))
            if not decoder.take(tell, data):
                told += sum(len(event.text) for event in decoder.feed(data) or [] if isinstance(event, TextDelta))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told == 1500 * 1001
    assert kept < 50_000


@pytest.mark.parametrize(
    "records",
    [
        [b'{"type":"text-delta","delta":"a"},{"type":"text-delta","delta":"b"}'],
        [b'{"type":"text-delta",', b'"delta":"a"}'],
        [b'{"type":"text-delta","delta":"a', b'b"}'],
        [b'{"type":"text-delta","delta":"a"}{"type":"text-delta","delta":"b"}', b'{"type":"text-delta"', b"}"],
    ],
)
def test_a_record_is_never_completed_by_the_next(records: list[bytes]):
    marked = [record if b"text-delta" in record else record + b' "text-delta"' for record in records]
    assert UiStreamDecoder(ask(), 10_000).decode_texts(marked) == 0


@pytest.mark.parametrize("size", [None, 1_000_000], ids=["alone", "together"])
def test_too_much_text_behind_the_end_does_no_harm_however_it_comes(monkeypatch, size):
    monkeypatch.setattr(module, "_LONGEST_ANSWER", 5)
    chunks = [
        {"id": "a-1", "choices": [{"delta": {"content": text}, "finish_reason": reason}]}
        for text, reason in [("a", None), ("bc", None), ("", "stop"), ("def", None)]
    ]
    events, error = run(OpenAIDecoder(10_000), sse_bytes(*chunks), size)
    assert (merged(events), error) == ([Started("a-1"), TextDelta("abc"), Finish("stop")], None)


@pytest.mark.parametrize("size", [None, 1_000_000], ids=["alone", "together"])
def test_too_much_text_before_the_end_is_a_failure_however_it_comes(monkeypatch, size):
    monkeypatch.setattr(module, "_LONGEST_ANSWER", 5)
    chunks = [{"id": "a-1", "choices": [{"delta": {"content": text}}]} for text in ("a", "bcd", "éf")]
    events, error = run(OpenAIDecoder(10_000), sse_bytes(*chunks), size)
    assert (events[0], type(error)) == (Started("a-1"), UpstreamTooLarge)
