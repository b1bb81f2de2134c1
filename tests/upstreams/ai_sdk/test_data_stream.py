"""Each row of the AI SDK decision table for data stream v1, each pitfall, and whatever a hostile server could send."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ToolCall
from gpt_oss_proxy.errors import UpstreamFailed, UpstreamIncomplete, UpstreamProtocolError, UpstreamTooLarge
from gpt_oss_proxy.upstreams.ai_sdk.data_stream import DataStreamDecoder
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
)


def decoder(*, tools: bool = False, limit: int = 2**24) -> DataStreamDecoder:
    return DataStreamDecoder(ask(**(TOOLS if tools else {})), limit)


def lines(*parts: tuple[str, Any] | bytes) -> bytes:
    return b"".join(
        part if isinstance(part, bytes) else f"{part[0]}:{json.dumps(part[1], ensure_ascii=False)}\n".encode()
        for part in parts
    )


def answer(*parts: tuple[str, Any] | bytes, tools: bool = False, cut: bool = False, size: int = 1_000_000) -> Outcome:
    return decode(decoder(tools=tools), lines(*parts), size, cut=cut)


def stopped(text: str = "", **rest: Any) -> Outcome:
    return Outcome(**{"text": text, "finish": "stop", **rest})


def failed(error: type, text: str = "") -> Outcome:
    return Outcome(text=text, error=error)


def step_end(reason: str = "stop", usage: tuple[Any, Any] | None = None, *, continued: bool = False) -> tuple[str, Any]:
    end: dict[str, Any] = {"finishReason": reason, "isContinued": continued}
    if usage:
        end["usage"] = {"promptTokens": usage[0], "completionTokens": usage[1]}
    return "e", end


def message_end(reason: str = "stop", usage: tuple[Any, Any] | None = None) -> tuple[str, Any]:
    end: dict[str, Any] = {"finishReason": reason}
    if usage:
        end["usage"] = {"promptTokens": usage[0], "completionTokens": usage[1]}
    return "d", end


def call(call_id: str = "c", args: Any = None) -> tuple[str, Any]:
    return "9", {"toolCallId": call_id, "toolName": "askUser", "args": {"a": 1} if args is None else args}


def result(call_id: str = "c") -> tuple[str, Any]:
    return "a", {"toolCallId": call_id, "result": 7}


F = ("f", {"messageId": "msg-1"})
HI = [F, ("0", "H"), ("0", "i"), step_end(), message_end()]


# The decision table, in its order


@pytest.mark.parametrize(
    "line",
    [
        ("f", {"messageId": "x"}),
        ("2", [{"type": "user-message-id", "content": "x"}]),
        ("8", [{"a": 1}]),
        ("j", {"signature": "x"}),
        ("i", {"data": "x"}),
        ("h", {"sourceType": "url", "url": "https://example.com"}),
        ("k", {"data": "eA==", "mimeType": "image/png"}),
        ("b", {"toolCallId": "c", "toolName": "askUser"}),
        ("c", {"toolCallId": "c", "argsTextDelta": "{"}),
        ("1", {"function_call": {}}),
        ("7", {"tool_calls": []}),
        ("z", "a code of tomorrow"),
        b"y:not even JSON\n",
        b"\n",
        b"\r\n",
        ("0", ""),
        ("g", ""),
        result("unknown"),
    ],
)
def test_parts_that_mean_nothing_to_a_client_change_nothing(line):
    assert answer(line, *HI) == answer(*HI[:2], line, *HI[2:]) == answer(*HI, line) == stopped("Hi")


@pytest.mark.parametrize("line", [("0", "!"), ("g", "hm")])
def test_a_message_that_goes_on_after_its_end_wants_another_end(line):
    assert answer(*HI, line).error is answer(*HI, line, cut=True).error is UpstreamIncomplete
    assert answer(*HI, line, message_end()).finish == "stop"


@pytest.mark.parametrize("nonsense", [b"<html>\n", b"0:7\n", b"0:{\n"])
def test_nonsense_after_the_end_does_no_harm(nonsense):
    assert answer(*HI, nonsense) == stopped("Hi")


def test_a_byte_order_mark_at_the_beginning_does_no_harm():
    assert answer(b"\xef\xbb\xbf", *HI) == stopped("Hi")


def test_an_answer_that_ends_after_a_tool_that_the_server_has_run_is_incomplete():
    asked = [F, call(), result(), step_end("tool-calls")]
    assert answer(*asked) == failed(UpstreamIncomplete)
    assert answer(*asked, ("0", "Hi"), step_end(), message_end()) == stopped("Hi")


def test_text_is_told_as_it_comes():
    assert said(decoder(), lines(*HI)) == ["H", "i"]


def test_reasoning_is_told_as_it_comes():
    events = run(decoder(), lines(F, ("g", "Hm"), ("g", "."), ("0", "Hi"), message_end()))[0]
    assert events == [ReasoningDelta("Hm"), ReasoningDelta("."), TextDelta("Hi"), Finish("stop")]


def test_a_tool_that_the_server_runs_is_not_told():
    """minimal-server-tool-two-steps: the answer comes after the first `e`."""
    parts = [
        ("2", []),
        F,
        ("0", "Let me look. "),
        ("b", {"toolCallId": "c", "toolName": "askUser"}),
        call(),
        result(),
        step_end("tool-calls", (31, 1)),
        F,
        ("0", "7."),
        step_end("stop", (40, 2)),
        message_end("stop", (71, 3)),
    ]
    assert answer(*parts, tools=True) == stopped("Let me look. 7.", usage=Usage(71, 3))


def test_a_call_is_held_back_until_the_end_and_then_told_in_two_deltas():
    parts = [
        F,
        call("c"),
        call("server"),
        call("d", {}),
        result("server"),
        ("0", "x"),
        step_end("tool-calls"),
        message_end(),
    ]
    assert run(decoder(tools=True), lines(*parts))[0] == [
        TextDelta("x"),
        ToolCallDelta(0, id="c", name="askUser"),
        ToolCallDelta(0, arguments='{"a":1}'),
        ToolCallDelta(1, id="d", name="askUser"),
        ToolCallDelta(1, arguments="{}"),
        Finish("tool_calls"),
    ]


def test_a_call_is_none_of_a_client_that_sent_no_tools():
    assert answer(F, call(), step_end("tool-calls"), message_end("tool-calls")) == stopped()


def test_steps_are_joined_without_a_break():
    """continued-step: `e` with isContinued, the same id again."""
    parts = [F, ("0", "con"), step_end("length", continued=True), F, ("0", "tinued"), step_end(), message_end()]
    assert answer(*parts) == stopped("continued")


def test_the_end_of_a_step_is_not_the_end():
    assert answer(F, ("0", "x"), step_end("tool-calls"), F, cut=True) == failed(UpstreamIncomplete, "x")
    assert answer(F, ("0", "x"), step_end("tool-calls"), F) == failed(UpstreamIncomplete, "x")
    assert answer(F, ("0", "x"), step_end(), ("0", "y")) == failed(UpstreamIncomplete, "xy")
    assert answer(F, step_end(), ("g", "y")).error is UpstreamIncomplete


def test_an_end_without_finish_message_counts_after_a_step_that_is_not_continued():
    """no-usage-no-finish-message."""
    assert answer(F, ("0", "Hi"), step_end("length")) == stopped("Hi", finish="length")


@pytest.mark.parametrize("end", [(), (step_end(continued=True),)])
def test_an_end_without_either_is_incomplete(end):
    assert answer(F, ("0", "Hi"), *end) == failed(UpstreamIncomplete, "Hi")


def test_an_empty_body_is_incomplete():
    assert answer() == failed(UpstreamIncomplete)


def test_a_connection_that_breaks_is_incomplete_until_the_message_is_finished():
    """connection-dropped: the text looks whole."""
    assert answer(*HI[:-2], cut=True) == answer(*HI[:-1], cut=True) == failed(UpstreamIncomplete, "Hi")
    assert answer(*HI, cut=True) == stopped("Hi")


def test_a_finish_message_without_its_line_end_was_cut():
    assert answer(lines(*HI)[:-1]) == stopped("Hi")  # the step before it had ended
    assert answer(F, ("0", "Hi"), lines(message_end())[:-1]) == failed(UpstreamIncomplete, "Hi")


@pytest.mark.parametrize("parts", [[], [("2", [])], [F, ("0", "Hi")]])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("An error occurred.", UpstreamFailed.message),
        ("boom: secret internal detail", "The model's server reports an error: boom: secret internal detail"),
        ("at https://10.0.0.1/x sk-abcdef", "The model's server reports an error: at […] […]"),
        ("", UpstreamFailed.message),
    ],
)
def test_an_error_before_and_after_output_is_an_error_and_nothing_after_it_is_told(parts, text, message):
    error = fail(decoder(), lines(*parts, ("3", text), *HI))
    assert (type(error), error.status, error.message) == (UpstreamFailed, 502, message)
    assert answer(*parts, ("3", text), ("0", " more")).text == ("Hi" if len(parts) == 2 else "")


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
        ("a reason of tomorrow", "stop"),
    ],
)
def test_reasons_are_told_in_openais_words(reason, finish):
    assert answer(F, ("0", "Hi"), step_end(reason), message_end(reason)) == stopped("Hi", finish=finish)


@pytest.mark.parametrize(
    "end", [[step_end("error")], [message_end("error")], [step_end("error"), message_end("error")]]
)
def test_the_reason_error_is_an_error(end):
    assert answer(F, ("0", "Hi"), *end) == failed(UpstreamFailed, "Hi")


def test_usage_of_the_message_counts_and_not_the_steps_as_well():
    parts = [F, step_end("stop", (1, 2)), F, step_end("stop", (3, 4)), message_end("stop", (10, 20))]
    assert answer(*parts) == stopped(usage=Usage(10, 20))


@pytest.mark.parametrize("end", [[], [message_end()], [message_end("stop", (None, None))]])
def test_without_usage_of_the_message_that_of_the_steps_is_added_up(end):
    parts = [F, step_end("stop", (1, 2)), F, step_end("stop", (None, 4)), F, step_end("stop", (3, 4))]
    assert answer(*parts, *end) == stopped(usage=Usage(4, 6))


@pytest.mark.parametrize("number", [None, "7", 7.5, -1, True, [], {}, 10**12, 10**30])
def test_usage_that_is_no_sensible_number_is_as_if_absent(number):
    """usage-null, and worse."""
    assert answer(F, ("0", "Hi"), step_end("stop", (number, 1)), message_end("stop", (1, number))) == stopped("Hi")


def test_nan_is_no_number_of_tokens():
    assert answer(F, b'd:{"finishReason":"stop","usage":{"promptTokens":NaN,"completionTokens":NaN}}\n') == stopped()


def test_an_empty_answer_with_reason_stop_is_legal():
    assert answer(F, step_end(), message_end()) == stopped()


# The bytes


@pytest.mark.parametrize("size", SIZES)
def test_text_that_looks_like_protocol_or_line_ends_is_text(size):
    text = '0:"fake"\n3:"x" data: [DONE] \u2028 \u2029 \x85 \x0b \x0c \r\n \x00 \ufeff café 👍🏽'
    assert answer(F, ("0", text), message_end(), size=size) == stopped(text)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lone_surrogates_are_joined_across_lines_or_replaced(size, end):
    body = b'0:"a\\ud83d"\n0:"\\ude00b"\n0:"\\ude00"\n0:"c\\ud83d"\nd:{}\n'.replace(b"\n", end)
    assert decode(decoder(), body, size) == stopped("a😀b\ufffdc\ufffd")


def test_half_a_character_waits_for_its_other_half_and_nothing_else_waits():
    assert said(decoder(), b'0:"a\\ud83d"\n0:"\\ude00b"\n0:"c\\ud83d"\nd:{}\n') == ["a", "😀b", "c", "\ufffd"]


def test_surrogates_in_names_and_arguments_are_replaced():
    line = b'9:{"toolCallId":"\\ud83d","toolName":"\\ud83d","args":{"a":"\\ud83d"}}\n'
    expected = ToolCall("\ufffd", "\ufffd", '{"a":"\ufffd"}')
    assert answer(line, message_end(), tools=True) == Outcome(tool_calls=(expected,), finish="tool_calls")


@pytest.mark.parametrize("size", [4096, 65536])
def test_one_line_may_be_larger_than_a_read(size):
    text = "x" * 1_000_000
    assert answer(("0", text), ("k", {"data": text}), message_end(), size=size) == stopped(text)


@pytest.mark.parametrize("size", SIZES)
def test_a_line_above_the_limit_is_too_large(size):
    assert decode(decoder(limit=1000), b'0:"' + b"x" * 1000, size) == failed(UpstreamTooLarge)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "line",
    [b"<html>", b"{}", b"hello", b"0", b" ", b'10:"x"', b'0:"x', b"0:", b"0:7", b"0:null", b"0:[]", b"g:{}", b"3:{}",
     b"9:[]", b"a:7", b'd:"stop"', b"e:null", b'9:{"toolCallId":7}', b'd:{"finishReason":7}', b'e:{"usage":7}',
     b'0:"\xff"', b"0:" + b"[" * 5000],
)  # fmt: skip
def test_what_is_not_the_protocol_is_a_protocol_error(line, size):
    assert decode(decoder(tools=True), line + b"\n", size) == failed(UpstreamProtocolError)


@pytest.mark.parametrize("depth", [500, 900, 950, 960, 970, 980, 990, 1000])
def test_deep_arguments_are_told_or_a_protocol_error(depth):
    body = lines(b'9:{"toolCallId":"c","toolName":"t","args":' + b"[" * depth + b"]" * depth + b"}\n", message_end())
    assert decode(decoder(tools=True), body).error in (None, UpstreamProtocolError)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999"])
def test_arguments_are_json_or_a_protocol_error(number):
    assert answer(b'9:{"toolCallId":"c","args":{"a":' + number + b"}}\n", tools=True) == failed(UpstreamProtocolError)


ODD = [None, True, 7, -1, 1.5, 10**18, 10**30, "x", [], {}, {"toolCallId": 7}, {"toolCallId": "c", "toolName": []},
       {"finishReason": []}, {"usage": []}, {"isContinued": 7}]  # fmt: skip


@pytest.mark.parametrize("code", "0123456789abcdefghijkz")
def test_a_value_of_the_wrong_type_anywhere_is_ignored_or_one_of_our_errors(code):
    for odd in ODD:
        run(decoder(tools=True), lines(F, ("0", "x"), (code, odd), (code, odd), message_end()))  # raises nothing


def numbered(number: int, make: Callable[[int], list[Any]]) -> bytes:
    return b"".join(lines(*make(index)) for index in range(number)) + lines(message_end())


COSTLY: dict[str, Callable[[int], bytes]] = {
    "deltas": lambda n: numbered(n, lambda index: [("0", "x")]),
    "calls": lambda n: numbered(n, lambda index: [call(str(index))]),
    "calls and results": lambda n: numbered(n, lambda index: [call(str(index)), result(str(index))]),
    "steps": lambda n: numbered(n, lambda index: [F, ("0", "x"), step_end("stop", (1, 1))]),
    "halves": lambda n: b'0:"\\ud83d"\n' * n + lines(message_end()),
    "blank lines": lambda n: b"\n" * 10 * n + lines(message_end()),
}


@pytest.mark.parametrize("name", COSTLY)
def test_no_sequence_of_parts_costs_more_than_its_length(name):
    assert_cost_is_linear(lambda: decoder(tools=True), COSTLY[name])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.floats()
    | st.sampled_from(["", "a", "\ud83d", "\ude00", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["toolCallId", "toolName", "args", "finishReason", "usage", "promptTokens", "isContinued"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)
PARTS = st.one_of(
    st.tuples(st.sampled_from("0g"), st.sampled_from(["", "a", "\ud83d", "\ude00", "é"])),
    st.sampled_from(
        [F, step_end("length", (1, 2)), step_end(continued=True), message_end(), call(), result(), call("d")]
    ),
    st.tuples(st.sampled_from("0123456789abcdefghijkz"), VALUES),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(PARTS, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_parts_give_events_or_one_of_our_errors_wherever_they_are_cut(parts, end):
    body = b"".join(f"{code}:{json.dumps(value)}".encode() + end for code, value in parts)
    assert_reads_do_not_matter(lambda: decoder(tools=True), body)
