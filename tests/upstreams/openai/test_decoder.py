"""Chunks of a completion → events: what is usual, and what is odd; the table of quirks has more of that."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Extra, Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ToolCall
from gpt_oss_proxy.errors import (
    UpstreamEmpty,
    UpstreamFailed,
    UpstreamIncomplete,
    UpstreamProtocolError,
    UpstreamTooLarge,
)
from gpt_oss_proxy.upstreams.openai.decoder import OpenAIDecoder
from tests.upstreams.decoding import (
    SIZES,
    Outcome,
    assert_cost_is_linear,
    assert_reads_do_not_matter,
    decode,
    fail,
    run,
    sse_bytes,
)
from tests.upstreams.openai.chunks import DONE, STOP, chunk, delta, stopped

# The stream


def tool(index: Any = 0, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    return delta(tool_calls=[{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}])


USED = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "completion_tokens_details": {"reasoning_tokens": 2},
    "prompt_tokens_details": {"cached_tokens": 1},
}


def decoder(limit: int = 2**24) -> OpenAIDecoder:
    return OpenAIDecoder(limit)


def answer(*events: Any, cut: bool = False) -> Outcome:
    return decode(decoder(), sse_bytes(*events), cut=cut)


def test_an_answer_is_told_as_it_comes():
    events = [
        delta(role="assistant", content=""),
        delta(reasoning_content="Hm"),
        delta(reasoning="."),
        delta(content="Hi"),
        delta(content="!"),
        STOP,
        chunk(usage=USED),
        DONE,
    ]
    assert run(decoder(), sse_bytes(*events))[0] == [
        Started("chatcmpl-1"),
        ReasoningDelta("Hm"),
        ReasoningDelta("."),
        TextDelta("Hi"),
        TextDelta("!"),
        Usage(3, 4, reasoning_tokens=2, cached_tokens=1),
        Finish("stop"),
    ]


def test_reasoning_under_two_names_is_told_once():
    assert answer(delta(reasoning_content="Hm", reasoning="Hm"), STOP) == stopped(reasoning="Hm")
    assert answer(delta(reasoning_content="", reasoning="Hm"), STOP) == stopped(reasoning="Hm")


def test_a_refusal_is_text():
    assert answer(delta(refusal="No."), STOP) == stopped("No.")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
        ("tool_calls", "stop"),
        ("function_call", "stop"),
        ("eos", "stop"),
        ("MAX_TOKENS", "length"),
        ("something new", "stop"),
    ],
)
def test_reasons_are_openais_and_without_a_call_tool_calls_is_none(reason, finish):
    assert answer(delta(content="Hi"), delta(reason), DONE) == stopped("Hi", finish=finish)


def test_the_reason_error_is_an_error():
    assert answer(delta(content="Hi"), delta("error"), DONE) == stopped("Hi", finish=None, error=UpstreamFailed)


def test_tool_calls_keep_the_order_of_their_coming_without_gaps():
    events = [
        tool(5, "a", "look", ""),
        tool(5, None, None, '{"x"'),
        tool(-1, "b", "see", "{}"),
        tool(5, "a", "look", ":1}"),
        tool(10**18, None, "say"),
        delta("tool_calls"),
    ]
    reader = OpenAIDecoder(2**24, new_id=lambda: "call_new")
    assert run(reader, sse_bytes(*events))[0] == [
        Started("chatcmpl-1"),
        ToolCallDelta(0, "a", "look"),
        ToolCallDelta(0, arguments='{"x"'),
        ToolCallDelta(1, "b", "see"),
        ToolCallDelta(1, arguments="{}"),
        ToolCallDelta(0, arguments=":1}"),
        ToolCallDelta(2, "call_new", "say"),
        ToolCallDelta(2, arguments="{}"),
        Finish("tool_calls"),
    ]


def test_calls_without_an_index_are_told_apart_and_what_is_no_call_is_an_error():
    calls = [{"id": "a", "function": {"name": "x"}}, {"id": "b", "function": {"name": "y"}}]
    found = answer(delta(tool_calls=calls), STOP)
    assert (found.tool_calls, found.finish) == ((ToolCall("a", "x", "{}"), ToolCall("b", "y", "{}")), "tool_calls")
    assert answer(delta(tool_calls=[*calls, "no call"]), STOP).error is UpstreamProtocolError


def test_a_second_choice_is_none_of_ours():
    both = chunk({"index": 1, "delta": {"content": "x"}}, {"delta": {"content": "Hi"}})
    assert answer(both, STOP) == stopped("Hi")
    assert answer(chunk({"delta": {"content": "Hi"}}, 7), STOP).error is UpstreamProtocolError


@pytest.mark.parametrize("number", [None, "7", 7.5, -1, True, 10**30])
def test_usage_that_is_no_sensible_number_is_as_if_absent(number):
    used = {"prompt_tokens": 1, "completion_tokens": number}
    assert answer(delta(content="Hi"), STOP, chunk(usage=used)) == stopped("Hi")


def test_without_done_or_a_reason_there_is_no_answer_nor_without_any_output():
    assert answer(delta(content="Hi")) == stopped("Hi", finish=None, error=UpstreamIncomplete)
    assert answer(delta(content="Hi"), DONE) == stopped("Hi")
    assert answer() == Outcome(error=UpstreamIncomplete)
    assert answer(STOP, DONE) == stopped(finish=None, error=UpstreamEmpty)
    assert answer(DONE) == Outcome(error=UpstreamEmpty)
    assert answer(delta("length"), DONE) == stopped(finish="length")


def test_a_break_after_the_reason_does_no_harm_and_one_before_it_does():
    assert answer(delta(content="Hi"), STOP, cut=True) == stopped("Hi")
    assert answer(delta(content="Hi"), cut=True).error is UpstreamIncomplete


def test_only_done_makes_the_end_of_the_body_needless():
    reader = decoder()
    reader.feed(sse_bytes(delta(content="Hi"), STOP))
    assert (reader.complete, reader.ended) == (True, False)
    reader.feed(DONE)
    assert reader.ended


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"message": "Overloaded"}, "The model's server reports an error: Overloaded"),
        ("Overloaded", "The model's server reports an error: Overloaded"),
        ({"message": "at http://10.0.0.1"}, "The model's server reports an error: at […]"),
        ({"message": 7}, "The model's server reports an error: 7"),
        (7, UpstreamFailed.message),
    ],
)
def test_an_error_in_the_stream_is_an_error(error, message):
    found = fail(decoder(), sse_bytes(delta(content="Hi"), {"error": error}, STOP, DONE))
    assert (type(found), found.message) == (UpstreamFailed, message)


@pytest.mark.parametrize("size", SIZES)
def test_line_ends_comments_and_cut_characters_do_not_matter(size):
    text = "line\u2028sep \x85 café 👍🏽 data: [DONE]\n\n"
    body = b": ping\r\n\r\n" + sse_bytes(delta(content=text), STOP, DONE).replace(b"\n", b"\r\n")
    assert decode(decoder(), body, size) == stopped(text)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "data",
    [b"x", b"{", b"\xff", b'{"a":' * 5000, b'{"choices":7}', b'{"choices":[{"delta":7}]}', b'{"id":7}',
     b'{"choices":[{"delta":{"content":7}}]}', b'{"choices":[{"message":7}]}', b'{"choices":[7]}',
     b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{}}}]},"finish_reason":"stop"}]}'],
)  # fmt: skip
def test_what_is_not_the_protocol_is_a_protocol_error(data, size):
    assert decode(decoder(), b"data: %b\n\n" % data, size).error is UpstreamProtocolError


@pytest.mark.parametrize("size", SIZES)
def test_an_event_above_the_limit_is_too_large(size):
    assert decode(decoder(1000), sse_bytes(delta(content="x" * 1000)), size) == Outcome(error=UpstreamTooLarge)


def numbered(number: int, make: Callable[[int], dict[str, Any]]) -> bytes:
    return b"".join(sse_bytes(make(index)) for index in range(number))


COSTLY: dict[str, Callable[[int], bytes]] = {
    "deltas": lambda n: numbered(n, lambda index: delta(content="x")),
    "calls": lambda n: numbered(n, lambda index: tool(index, str(index), "x")),
    "arguments": lambda n: numbered(n, lambda index: tool(0, "a", "x", "y")),
    "choices": lambda n: sse_bytes(chunk(*[{"delta": {"content": "x"}}] * n)),
}


@pytest.mark.parametrize("name", COSTLY)
def test_no_sequence_of_chunks_costs_more_than_its_length(name):
    assert_cost_is_linear(decoder, lambda number: COSTLY[name](number) + sse_bytes(STOP))


KEYS = st.sampled_from(
    [
        *("id", "choices", "index", "delta", "content", "reasoning", "tool_calls", "function", "arguments", "error"),
        *("finish_reason", "usage", "prompt_tokens", "completion_tokens"),
    ]
)
TEXTS = st.sampled_from(["", "a", "\ud83d", "\ude00", "stop"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
CHUNKS = st.one_of(
    st.sampled_from(["", "a", "\ud83d", "\ude00"]).map(lambda text: delta(content=text)),
    st.sampled_from([STOP, tool(0, "a", "x", "{}"), tool(1, None, None, "y"), chunk(usage=USED)]),
    VALUES,
    VALUES.map(lambda value: chunk({"delta": value})),
    VALUES.map(lambda value: delta(tool_calls=[value])),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(CHUNKS, max_size=8), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]), st.booleans())
def test_any_chunks_give_events_or_one_of_our_errors_wherever_they_are_cut(chunks, end, done):
    body = b"".join(b"data: %b%b" % (json.dumps(each).encode(), end) for each in chunks)
    assert_reads_do_not_matter(decoder, body + (b"data: [DONE]" + end if done else b""))


def test_output_behind_a_finish_reason_takes_it_back_and_renews_the_wait_for_the_end():
    reader = decoder()
    seen = []
    for event in (delta(content="Hel"), STOP, delta(content="lo"), STOP):
        reader.feed(sse_bytes(event))
        seen.append((reader.complete, reader.ended))
    assert seen == [(False, False), (True, False), (False, False), (True, False)]


@pytest.mark.parametrize(("reason", "complete"), [("stop", False), ("length", True), ("something new", False)])
def test_while_a_model_only_thinks_stop_is_no_end(reason: str, complete: bool):
    reader = decoder()
    reader.feed(sse_bytes(delta(reason, reasoning_content="hm")))
    assert reader.complete is complete


def test_fields_that_change_nothing_do_not_cost_the_short_way():
    """As vLLM's `token_ids`, and a `citations` that is the same in each chunk."""
    reader = decoder()
    for text in ("a", "b", "c"):
        reader.feed(sse_bytes({**delta(content=text), "citations": ["x"], "prompt_token_ids": None}))
    assert reader.knows_more
    assert reader.feed(sse_bytes({**delta(content="d"), "citations": ["y"], "prompt_token_ids": None})) == [
        Extra("answer", {"citations": ["y"]}),
        TextDelta("d"),
    ]


@pytest.mark.parametrize(
    "said",
    [
        b"data: gpu lost\n\n",
        b"gpu lost\n\n",
        b'error: {"message":"gpu lost"}\n\n',
        b"event: error\ndata: gpu lost\n\n",
        b'event: error\ndata: {"message":"gpu lost"}\n\n',
        b'data: {"error_code":336,"error_msg":"gpu lost"}\n\n',
        b'data: {"choices":[],"base_resp":{"status_code":1039,"status_msg":"gpu lost"}}\n\n',
    ],
)
def test_words_of_a_failure_and_done_are_no_good_end(said: bytes):
    error = fail(decoder(), sse_bytes(delta(content="A")) + said + DONE)
    assert "gpu lost" in error.message
    assert "gpu lost" in error.reason


@pytest.mark.parametrize(
    "beat", [b"ping", b"keep-alive", b"{}", b"null", b'{"type": "ping"}', b"OPENROUTER PROCESSING"]
)
def test_heartbeats_and_done_are_a_good_end(beat: bytes):
    assert decode(decoder(), sse_bytes(delta(content="A")) + b"data: %b\n\n" % beat + DONE) == stopped("A")


def test_a_message_behind_deltas_brings_what_they_lacked():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    last = chunk(
        {
            "delta": {},
            "message": {"content": "Hello", "tool_calls": [call], "annotations": [1], "reasoning_details": [2]},
            "finish_reason": "tool_calls",
        }
    )
    events, error = run(decoder(), sse_bytes(delta(content="He", reasoning_details=[2]), last, DONE))
    assert error is None
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Hello"
    assert [event.name for event in events if isinstance(event, ToolCallDelta) and event.name] == ["f"]
    assert [event.fields for event in events if isinstance(event, Extra)] == [
        {"reasoning_details": [2]},
        {"annotations": [1]},
    ]
    assert events[-1] == Finish("tool_calls")


def test_a_call_that_is_cut_does_not_end_well():
    cut = tool(0, "a", "f", '{"a": "lo')
    assert answer(cut, DONE).error is UpstreamIncomplete
    assert answer(cut, delta("length"), DONE).finish == "length"


def test_a_text_beside_an_empty_delta_is_read():
    assert answer(chunk({"delta": {}, "text": "Hi"}), STOP) == stopped("Hi")


def test_thoughts_in_messages_that_are_told_anew_are_told_once():
    events = [chunk({"message": {"reasoning": text}}) for text in ("th", "think", "think")]
    found = answer(*events, chunk({"message": {"reasoning": "think", "content": "Hi"}}), STOP, DONE)
    assert (found.reasoning, found.text) == ("think", "Hi")


def test_the_lines_of_ollama_s_own_api_are_read():
    lines = [{"model": "m", "message": {"role": "assistant", "content": text}, "done": False} for text in ("He", "llo")]
    end = {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "length"}
    body = b"".join(json.dumps(line).encode() + b"\n" for line in (*lines, end))
    found = decode(decoder(), body)
    assert (found.text, found.finish, found.error) == ("Hello", "length", None)
