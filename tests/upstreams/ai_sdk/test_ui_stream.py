"""Each row of the AI SDK decision table for the UI message stream, each pitfall, and hostile servers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Finish, ReasoningDelta, TextDelta, TextReplaced, ToolCallDelta, Usage
from gpt_oss_proxy.errors import UpstreamFailed, UpstreamIncomplete, UpstreamProtocolError, UpstreamTooLarge
from gpt_oss_proxy.upstreams.ai_sdk.ui_stream import UiStreamDecoder
from tests.upstreams.decoding import (
    SIZES,
    TOOLS,
    Outcome,
    ask,
    assert_cost_is_linear,
    assert_reads_do_not_matter,
    decode,
    fail,
    run,
    said,
    sse_bytes,
)

Wire = dict[str, Any]


def decoder(*, tools: bool = False, stream: bool = False, limit: int = 2**24) -> UiStreamDecoder:
    return UiStreamDecoder(ask(stream=stream, **(TOOLS if tools else {})), limit)


def answer(*events: Any, tools: bool = False, cut: bool = False) -> Outcome:
    return decode(decoder(tools=tools), sse_bytes(*events), cut=cut)


def stopped(text: str = "", **rest: Any) -> Outcome:
    return Outcome(**{"text": text, "finish": "stop", **rest})


def failed(error: type, text: str = "") -> Outcome:
    return Outcome(text=text, error=error)


def event(kind: str, **fields: Any) -> Wire:
    return {"type": kind, **fields}


def text(delta: str, id: str = "t0") -> Wire:
    return event("text-delta", id=id, delta=delta)


def call(call_id: str = "c", **fields: Any) -> Wire:
    return event("tool-input-available", **{"toolCallId": call_id, "toolName": "askUser", "input": {"a": 1}, **fields})


def output(kind: str = "available", call_id: str = "c") -> Wire:
    return event(f"tool-output-{kind}", toolCallId=call_id, output=7)


def end(**fields: Any) -> Wire:
    return event("finish", **fields)


START, STEP, STEP_END = event("start", messageId="m"), event("start-step"), event("finish-step")
DONE = b"data: [DONE]\n\n"
HI = [START, STEP, text("H"), text("i"), STEP_END, end(finishReason="stop"), DONE]


# The decision table, in its order


@pytest.mark.parametrize(
    "ignored",
    [
        event("start"),
        event("start", messageMetadata={"model": "x"}),
        STEP,
        STEP_END,
        event("text-start", id="t0"),
        event("text-end", id="t0"),
        event("reasoning-start", id="r0"),
        event("reasoning-end", id="r0"),
        event("source-url", sourceId="s", url="https://example.com"),
        event("source-document", sourceId="s", mediaType="text/plain", title="x"),
        event("file", url="data:image/png;base64,x", mediaType="image/png"),
        event("reasoning-file", url="data:image/png;base64,x", mediaType="image/png"),
        event("tool-input-start", toolCallId="c", toolName="askUser"),
        event("tool-input-delta", toolCallId="c", inputTextDelta="{"),
        event("tool-input-error", toolCallId="c", errorText="x"),
        event("tool-approval-request", toolCallId="c", approvalId="a"),
        event("tool-approval-response", approvalId="a"),
        event("data-weather", id="d", data={"type": "error"}, transient=True),
        event("message-metadata", messageMetadata={"usage": "none"}),
        event("message-metadata", messageMetadata=7),
        event("custom", errorText="x"),
        event("steering-message"),
        event("a type of tomorrow"),
        output(call_id="unknown"),
        text(""),
        event("text-delta", id="t0"),
        event("reasoning-delta", id="r0", delta=""),
        {"no": "type"},
        {},
        b": comment\n\n",
    ],
)
def test_events_that_mean_nothing_to_a_client_change_nothing(ignored):
    assert answer(ignored, *HI) == answer(*HI[:3], ignored, *HI[3:]) == answer(*HI, ignored) == stopped("Hi")


def test_text_is_told_as_it_comes():
    assert said(decoder(), sse_bytes(*HI)) == ["H", "i"]


def test_reasoning_is_told_as_it_comes():
    events = [
        event("reasoning-delta", id="r", delta="Hm"),
        text("Hi"),
        event("reasoning-delta", id="r", delta="."),
        end(),
    ]
    expected = [ReasoningDelta("Hm"), TextDelta("Hi"), ReasoningDelta("."), Finish("stop")]
    assert run(decoder(), sse_bytes(*events)) == (expected, None)


@pytest.mark.parametrize("kind", ["available", "error", "denied", "a-kind-of-tomorrow"])
def test_a_tool_that_the_server_runs_is_not_told(kind):
    """v5-server-tool-two-steps: ids are used again in a later step."""
    events = [
        *(START, STEP, text("Let me look. "), call(), output(kind), STEP_END),
        *(STEP, text("7."), STEP_END, end(finishReason="stop"), DONE),
    ]
    assert answer(*events, tools=True) == stopped("Let me look. 7.")


def test_a_tool_that_the_provider_runs_is_not_told():
    assert answer(call(providerExecuted=True), end(), tools=True) == stopped()


def test_a_call_is_held_back_until_the_end_and_then_told_in_two_deltas():
    events = [call("c"), call("server"), call("d", input=None), output(call_id="server"), text("x"), end(), DONE]
    assert run(decoder(tools=True), sse_bytes(*events))[0] == [
        TextDelta("x"),
        ToolCallDelta(0, id="c", name="askUser"),
        ToolCallDelta(0, arguments='{"a":1}'),
        ToolCallDelta(1, id="d", name="askUser"),
        ToolCallDelta(1, arguments="{}"),
        Finish("tool_calls"),
    ]


def test_a_call_is_none_of_a_client_that_sent_no_tools():
    assert answer(call(), end(finishReason="tool-calls"), DONE) == stopped()


@pytest.mark.parametrize("last", [[end()], [DONE], [end(), DONE]])
def test_finish_or_done_ends_the_message(last):
    assert answer(text("Hi"), *last) == stopped("Hi")


def test_nothing_after_done_is_read():
    assert answer(*HI, text(" more"), event("error", errorText="late")) == stopped("Hi")


def test_only_done_makes_the_end_of_the_body_needless():
    reader = decoder()
    reader.feed(sse_bytes(text("Hi"), end()))
    assert (reader.complete, reader.ended) == (True, False)
    reader.feed(DONE)
    assert (reader.complete, reader.ended) == (True, True)


@pytest.mark.parametrize("events", [[], HI[:1], HI[:4], HI[:5]])
def test_an_end_without_either_is_incomplete(events):
    expected = failed(UpstreamIncomplete, "Hi" if len(events) > 3 else "")
    assert answer(*events) == answer(*events, cut=True) == expected


def test_a_connection_that_breaks_after_finish_does_no_harm():
    assert answer(*HI[:-1], cut=True) == stopped("Hi")


@pytest.mark.parametrize("before", [[START], [START, STEP, text("Hi")]])
@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("An error occurred.", UpstreamFailed.message),
        ("boom", "The model's server reports an error: boom"),
        (None, UpstreamFailed.message),
    ],
)
def test_an_error_before_and_after_output_is_an_error_whatever_comes_after_it(before, said, message):
    error = fail(decoder(), sse_bytes(*before, event("error", errorText=said), text("more"), end(), DONE))
    assert (type(error), error.code, error.message) == (UpstreamFailed, "upstream_error", message)
    assert answer(*before, event("error", errorText=said), DONE) == failed(UpstreamFailed, "Hi" if before[1:] else "")


def test_an_abort_is_an_error_of_its_own():
    error = fail(decoder(), sse_bytes(text("Hi"), event("abort", reason="user"), DONE))
    assert (error.status, error.code) == (502, "upstream_aborted")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("stop", "stop"),
        ("other", "stop"),
        ("unknown", "stop"),
        (None, "stop"),
        ("length", "length"),
        ("content-filter", "content_filter"),
        ("tool-calls", "stop"),
    ],
)
def test_reasons_are_told_in_openais_words(reason, finish):
    assert answer(text("Hi"), end(finishReason=reason), DONE) == stopped("Hi", finish=finish)


def test_the_reason_error_is_an_error():
    assert answer(text("Hi"), end(finishReason="error"), DONE) == failed(UpstreamFailed, "Hi")


USED = {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7, "reasoningTokens": 2, "cachedInputTokens": 1}


@pytest.mark.parametrize("key", ["totalUsage", "usage"])
@pytest.mark.parametrize("kind", ["start", "message-metadata", "finish"])
def test_usage_is_taken_from_metadata_wherever_the_app_puts_it(kind, key):
    events = [event(kind, messageMetadata={key: USED}), text("Hi"), end()]
    assert answer(*events) == stopped("Hi", usage=Usage(3, 4, reasoning_tokens=2, cached_tokens=1))


def test_the_last_usage_that_makes_sense_counts():
    events = [
        event("message-metadata", messageMetadata={"usage": {"inputTokens": 1, "outputTokens": 1}}),
        event("message-metadata", messageMetadata={"usage": USED}),
        event("message-metadata", messageMetadata={"usage": {"inputTokens": None, "outputTokens": 1}}),
    ]
    assert answer(*events, end()).usage == Usage(3, 4, reasoning_tokens=2, cached_tokens=1)


@pytest.mark.parametrize("number", [None, "7", 7.5, -1, True, 10**30])
def test_usage_that_is_no_sensible_number_is_as_if_absent(number):
    usage = {"inputTokens": 1, "outputTokens": number}
    assert answer(text("Hi"), end(messageMetadata={"totalUsage": usage})) == stopped("Hi")


RESET = event("reset-step")


def test_a_step_that_is_reset_is_taken_back_at_the_end_for_those_who_can_follow():
    events = [STEP, text("One."), STEP, text("Tw"), RESET, RESET, text("Two."), end(), DONE]
    kept = TextReplaced("", ((0, 0, 4), (0, 6, 10)))
    found = run(decoder(), sse_bytes(*events))[0]
    assert found == [TextDelta("One."), TextDelta("Tw"), TextDelta("Two."), kept, Finish("stop")]
    assert answer(*events) == stopped("One.Two.")


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([text("One."), RESET, text("Two.")], "Two."),  # no step has begun
        ([text("One."), STEP, text("Two."), RESET], "One."),
        ([STEP, text("One."), RESET, text("Two."), RESET, text("Three.")], "Three."),
        ([text("A"), STEP, text("B"), RESET, text("C"), STEP, text("D"), RESET, text("E")], "ACE"),
        ([text("😀"), STEP, text("é"), RESET, text("ü")], "😀ü"),
        ([b'data: {"type":"text-delta","delta":"a\\ud83d"}\n\n', STEP, text("b"), RESET, text("c")], "a\ufffdc"),
    ],
)
def test_of_steps_that_are_reset_what_stays_is_told(events, told):
    assert answer(*events, end()) == stopped(told)


def test_a_step_that_is_reset_after_it_was_streamed_is_an_error():
    error = fail(decoder(stream=True), sse_bytes(STEP, text("One."), RESET, text("Two."), end()))
    assert error.message == "The model's server took back text that was already streamed. Try again."


def test_a_step_that_is_reset_before_it_said_anything_loses_nothing():
    events = [STEP, text("One."), STEP, text(""), RESET, text("Two."), end()]
    assert run(decoder(stream=True), sse_bytes(*events))[0] == [TextDelta("One."), TextDelta("Two."), Finish("stop")]


def test_an_empty_answer_is_legal():
    assert answer(START, STEP, STEP_END, end(finishReason="stop"), DONE) == stopped()


# The bytes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_text_that_looks_like_protocol_or_line_ends_is_text(size, line_end):
    like = '0:"fake" data: [DONE]\n\n \u2028 \u2029 \x85 \x0b \x0c \r\n \x00 \ufeff café 👍🏽'
    body = b"\xef\xbb\xbf" + sse_bytes(text(like), end(), DONE).replace(b"\n", line_end)
    assert decode(decoder(), body, size) == stopped(like)


@pytest.mark.parametrize("size", SIZES)
def test_lone_surrogates_are_joined_across_events_or_replaced(size):
    deltas = ["a\\ud83d", "\\ude00b", "\\ude00", "c\\ud83d"]
    body = b"".join(b'data: {"type":"text-delta","delta":"%b"}\n\n' % delta.encode() for delta in deltas)
    assert decode(decoder(), body + sse_bytes(end()), size) == stopped("a😀b\ufffdc\ufffd")


@pytest.mark.parametrize("size", SIZES)
def test_an_event_above_the_limit_is_too_large(size):
    assert decode(decoder(limit=1000), sse_bytes(text("x" * 1000)), size) == failed(UpstreamTooLarge)


def test_an_event_without_data_is_passed_over():
    assert answer(b"data:\n\n", text("Hi"), b"data\n\n", end()) == stopped("Hi")


def test_a_message_that_goes_on_after_its_end_wants_another_end():
    assert answer(text("Hi"), end(), text("!")) == failed(UpstreamIncomplete, "Hi!")
    assert answer(text("Hi"), end(), text("!"), end()) == stopped("Hi!")


def test_nonsense_after_the_end_does_no_harm():
    assert answer(text("Hi"), end(), b"data: <html>\n\n") == stopped("Hi")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"7",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'{"a":' * 5000,
        b'{"type":7}',
        b'{"type":"text-delta","delta":7}',
    ],
)
def test_what_is_not_the_protocol_is_a_protocol_error(data, size):
    assert decode(decoder(), b"data: %b\n\n" % data, size) == failed(UpstreamProtocolError)


ODD = [
    None,
    True,
    7,
    -1,
    1.5,
    10**18,
    10**30,
    "x",
    [],
    ["x"],
    {},
    {"x": 1},
    {"usage": 7},
    {"usage": {"inputTokens": "x"}},
]
SHAPES = [
    *HI[:-1],
    call(),
    output(),
    RESET,
    event("error", errorText="x"),
    event("abort"),
    event("message-metadata", messageMetadata={}),
]


def test_a_value_of_the_wrong_type_anywhere_is_ignored_or_one_of_our_errors():
    changed = [{**shape, key: odd} for shape in SHAPES for key in shape for odd in ODD]
    for odd in changed:
        run(decoder(tools=True), sse_bytes(text("x"), odd, odd, end(), DONE))  # raises nothing


@pytest.mark.parametrize("depth", [500, 900, 950, 960, 970, 980, 990, 1000])
def test_deep_input_is_told_or_a_protocol_error(depth):
    deep = b"[" * depth + b"]" * depth
    body = b'data: {"type":"tool-input-available","toolCallId":"c","input":%b}\n\n' % deep + DONE
    assert decode(decoder(tools=True), body).error in (None, UpstreamProtocolError)


def numbered(number: int, make: Callable[[int], list[Any]]) -> bytes:
    return b"".join(sse_bytes(*make(index)) for index in range(number))


COSTLY: dict[str, Callable[[int], bytes]] = {
    "deltas": lambda n: numbered(n, lambda index: [text("x")]),
    "calls": lambda n: numbered(n, lambda index: [call(str(index))]),
    "resets after much text": lambda n: (
        sse_bytes(text("x" * 200 * n)) + numbered(n, lambda index: [STEP, text("x"), RESET])
    ),
    "resets of nothing": lambda n: numbered(n, lambda index: [text("")]) + numbered(n, lambda index: [RESET]),
    "metadata": lambda n: numbered(n, lambda index: [event("message-metadata", messageMetadata={"usage": USED})]),
}


@pytest.mark.parametrize("name", COSTLY)
def test_no_sequence_of_events_costs_more_than_its_length(name):
    assert_cost_is_linear(lambda: decoder(tools=True), lambda number: COSTLY[name](number) + DONE)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.floats()
    | st.sampled_from(["", "a", "\ud83d", "\ude00", "length"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["inputTokens", "outputTokens", "usage", "a"]), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["delta", "id", "toolCallId", "toolName", "input", "output", "errorText", "finishReason", "messageMetadata"]
)
EVENTS = st.one_of(
    st.sampled_from(["", "a", "\ud83d", "\ude00", "é"]).map(text),
    st.sampled_from([START, STEP, RESET, STEP_END, call(), call("d"), output(), end(finishReason="length")]),
    st.builds(
        lambda kind, fields: {"type": kind, **fields},
        st.sampled_from([shape["type"] for shape in SHAPES]),
        st.dictionaries(KEYS, VALUES, max_size=3),
    ),
    VALUES,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(EVENTS, max_size=8), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]), st.booleans(), st.booleans())
def test_any_events_give_events_or_one_of_our_errors_wherever_they_are_cut(events, line_end, done, stream):
    body = b"".join(b"data: %b%b" % (json.dumps(each).encode(), line_end) for each in events)
    body += b"data: [DONE]" + line_end if done else b""
    assert_reads_do_not_matter(lambda: decoder(tools=True, stream=stream), body)
