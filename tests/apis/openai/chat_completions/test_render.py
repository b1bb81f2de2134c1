"""Events become exactly these bytes."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.openai.chat_completions.render import ChunkRenderer, render
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat
from gpt_oss_proxy.chat.completion import Completion, CompletionChoice
from gpt_oss_proxy.chat.events import (
    Choice,
    Event,
    Finish,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.request import ToolCall
from gpt_oss_proxy.errors import UpstreamIncomplete
from tests.apis.openai.asked import asked

STAMP = Stamp("chatcmpl-1", 1_700_000_000, 'org/"m"')
HEAD = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"org/\\"m\\"","choices":['
)
ROLE = b'{"role":"assistant","content":""}'
USAGE = Usage(3, 5, reasoning_tokens=2, cached_tokens=1)
USAGE_JSON = (
    b'{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,'
    b'"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}}'
)


def chunk(delta: bytes, reason: bytes = b"null", usage: bytes = b"", index: int = 0) -> bytes:
    choice = b'{"index":%d,"delta":' % index + delta + b',"logprobs":null,"finish_reason":' + reason + b"}"
    return HEAD + choice + b"]" + usage + b"}\n\n"


def told(*lists: list[Event], **fields: Any) -> list[bytes]:
    renderer = ChunkRenderer(STAMP, asked("m", (), stream=True, **fields))
    return [renderer.feed(events) for events in lists]


def test_a_stream_is_role_deltas_finish_and_done() -> None:
    assert told([ReasoningDelta("Hm")], [TextDelta("Grüß\n")], [TextDelta("Gott"), USAGE, Finish("stop")]) == [
        chunk(ROLE) + chunk(b'{"reasoning":"Hm","reasoning_content":"Hm"}'),
        chunk('{"content":"Grüß\\n"}'.encode()),
        chunk(b'{"content":"Gott"}') + chunk(b"{}", b'"stop"') + b"data: [DONE]\n\n",
    ]


def test_usage_comes_in_a_chunk_of_its_own_and_only_if_asked_for() -> None:
    null = b',"usage":null'
    assert told([TextDelta("a"), USAGE], [Finish("length")], wants_usage=True) == [
        chunk(ROLE, usage=null) + chunk(b'{"content":"a"}', usage=null),
        chunk(b"{}", b'"length"', null) + HEAD + b'],"usage":' + USAGE_JSON + b"}\n\ndata: [DONE]\n\n",
    ]


def test_usage_that_was_asked_for_has_integers_even_if_nobody_counted() -> None:
    (body,) = told([Finish("stop")], wants_usage=True)
    usage = json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (0, 0, 0)


def test_a_keepalive_is_an_empty_delta_and_the_first_one_is_the_role() -> None:
    assert told([], [], [TextDelta("a")], []) == [chunk(ROLE), chunk(b"{}"), chunk(b'{"content":"a"}'), chunk(b"{}")]


def test_text_that_came_together_goes_out_together_but_keeps_its_order() -> None:
    events: list[Event] = [TextDelta("a"), TextDelta("b"), ReasoningDelta("c"), ReasoningDelta("d"), TextDelta("e")]
    assert told([], events)[1] == (
        chunk(b'{"content":"ab"}') + chunk(b'{"reasoning":"cd","reasoning_content":"cd"}') + chunk(b'{"content":"e"}')
    )


def test_a_tool_call_begins_with_id_and_name_and_goes_on_with_arguments_alone() -> None:
    events: list[Event] = [
        ToolCallDelta(0, "call_1", "wget"),
        ToolCallDelta(0, arguments='{"a":'),
        ToolCallDelta(0, arguments="1}"),
        ToolCallDelta(1, "call_2", "f"),
    ]
    begin = b'{"tool_calls":[{"index":%d,"id":"call_%d","type":"function","function":{"name":"%b","arguments":""}}]}'
    assert told([], events)[1] == (
        chunk(begin % (0, 1, b"wget"))
        + chunk(b'{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\":"}}]}')
        + chunk(b'{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}')
        + chunk(begin % (1, 2, b"f"))
    )


@pytest.mark.parametrize("event", [Started("x"), TextReplaced("other"), USAGE])
def test_some_events_tell_a_stream_nothing(event: Event) -> None:
    assert told([], [event]) == [chunk(ROLE), b""]


@pytest.mark.parametrize("text", ["\u2028\u2029\x85\x00\x7f</script>", "😀", "\r\n\n", '"\\'])
def test_no_text_can_break_the_framing(text: str) -> None:
    body = told([], [TextDelta(text)])[1]
    assert body.count(b"\n") == 2
    assert b"\r" not in body
    assert json.loads(body.removeprefix(b"data: "))["choices"][0]["delta"] == {"content": text}


@pytest.mark.parametrize("begun", [False, True])
def test_a_failure_is_one_error_event_and_done_without_a_finish(begun: bool) -> None:
    renderer = ChunkRenderer(STAMP, asked("m", (), stream=True))
    if begun:
        renderer.feed([TextDelta("a")])
    assert renderer.fail(UpstreamIncomplete("Cut.")) == (
        b'data: {"error":{"message":"Cut.","type":"upstream_error","param":null,"code":"upstream_incomplete"}}\n\n'
        b"data: [DONE]\n\n"
    )


def whole(*choices: CompletionChoice, **fields: Any) -> Any:
    return json.loads(render(Completion(choices, USAGE), STAMP, asked("m", (), **fields)))


def test_a_whole_answer_is_exactly_this() -> None:
    completion = Completion((CompletionChoice("Grüß", "", (), "stop"),), USAGE)
    assert render(completion, STAMP, asked("m", ())) == (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"org/\\"m\\"","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"Grüß","refusal":null,"annotations":[]},"logprobs":null,'
        '"finish_reason":"stop"}],"usage":'.encode()
        + USAGE_JSON
        + b"}"
    )


def test_reasoning_stands_under_both_names() -> None:
    message = whole(CompletionChoice("a", "Hm", (), "stop"))["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"]) == ("Hm", "Hm")


@pytest.mark.parametrize(("text", "content"), [("", None), ("Let me see.", "Let me see.")])
def test_tool_calls_stand_beside_text_or_null(text: str, content: str | None) -> None:
    choice = whole(CompletionChoice(text, "", (ToolCall("call_1", "f", "{}"),), "tool_calls"))["choices"][0]
    assert choice["message"] == {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": [],
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert choice["finish_reason"] == "tool_calls"


def test_an_empty_answer_is_an_empty_text_and_not_null() -> None:
    assert whole(CompletionChoice("", "", (), "length"))["choices"][0]["message"]["content"] == ""


# Several choices


def null(chunks: bytes) -> bytes:
    """Return the chunks of a stream that will tell its usage."""
    return chunks.replace(b"}]}\n\n", b'}],"usage":null}\n\n')


def test_each_choice_begins_with_its_role_and_all_end_with_a_finish() -> None:
    assert told(
        [Choice(1), TextDelta("b")],
        [Choice(0), TextDelta("a"), TextDelta("a")],
        [],
        [Choice(1), ToolCallDelta(0, arguments="{}"), TextDelta("c")],
        [Choice(0), USAGE, Finish("stop", ("length", "tool_calls"))],
        wants_usage=True,
        n=3,
    ) == [
        null(chunk(ROLE) + chunk(ROLE, index=1) + chunk(b'{"content":"b"}', index=1)),
        null(chunk(b'{"content":"aa"}')),
        null(chunk(b"{}")),
        null(
            chunk(b'{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}', index=1)
            + chunk(b'{"content":"c"}', index=1)
        ),
        null(
            chunk(b"{}", b'"stop"')
            + chunk(b"{}", b'"length"', index=1)
            + chunk(ROLE, index=2)
            + chunk(b"{}", b'"tool_calls"', index=2)
        )
        + HEAD
        + b'],"usage":'
        + USAGE_JSON
        + b"}\n\ndata: [DONE]\n\n",
    ]


def test_a_whole_answer_has_all_its_choices() -> None:
    choices = whole(CompletionChoice("a", "", (), "stop"), CompletionChoice("b", "", (), "length"), n=2)["choices"]
    assert [(choice["index"], choice["message"]["content"], choice["finish_reason"]) for choice in choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]


# The older spelling of a call


def test_an_older_call_is_a_function_call() -> None:
    calls = (ToolCall("call_1", "f", "{}"), ToolCall("call_2", "g", "{}"))
    (choice,) = whole(CompletionChoice("", "", calls, "tool_calls"), has_functions=True)["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "function_call": {"name": "f", "arguments": "{}"},
    }
    assert choice["finish_reason"] == "function_call"


def test_a_streamed_older_call_begins_with_its_name_and_is_the_only_one() -> None:
    events: list[Event] = [
        ToolCallDelta(0, "call_1", "f"),
        ToolCallDelta(0, arguments="{}"),
        ToolCallDelta(1, "call_2", "g"),
        Finish("tool_calls", ("stop",)),
    ]
    assert told([], events, has_functions=True)[1] == (
        chunk(b'{"function_call":{"name":"f","arguments":""}}')
        + chunk(b'{"function_call":{"arguments":"{}"}}')
        + chunk(b"{}", b'"function_call"')
        + chunk(ROLE, index=1)
        + chunk(b"{}", b'"stop"', index=1)
        + b"data: [DONE]\n\n"
    )


# Where reasoning is shown


@pytest.mark.parametrize(
    ("where", "fields", "content"),
    [
        ("both", {"reasoning": "Hm", "reasoning_content": "Hm"}, "a"),
        ("reasoning", {"reasoning": "Hm"}, "a"),
        ("reasoning_content", {"reasoning_content": "Hm"}, "a"),
        ("think-tags", {}, "<think>Hm</think>a"),
        ("hidden", {}, "a"),
    ],
)
def test_a_whole_answer_shows_its_reasoning_where_it_is_wanted(
    where: ReasoningFormat, fields: dict[str, str], content: str
) -> None:
    message = whole(CompletionChoice("a", "Hm", (), "stop"), reasoning=where)["choices"][0]["message"]
    plain = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    assert message == plain | fields


def test_thoughts_before_a_call_are_its_content() -> None:
    calls = (ToolCall("call_1", "f", "{}"),)
    answer = whole(CompletionChoice("", "Hm", calls, "tool_calls"), reasoning="think-tags")
    assert answer["choices"][0]["message"]["content"] == "<think>Hm</think>"


@pytest.mark.parametrize(
    ("where", "chunks"),
    [
        ("both", chunk(b'{"reasoning":"Hm","reasoning_content":"Hm"}')),
        ("reasoning", chunk(b'{"reasoning":"Hm"}')),
        ("reasoning_content", chunk(b'{"reasoning_content":"Hm"}')),
        ("think-tags", chunk(b'{"content":"<think>Hm"}')),
        ("hidden", b""),
    ],
)
def test_a_stream_shows_its_reasoning_where_it_is_wanted(where: ReasoningFormat, chunks: bytes) -> None:
    events: list[Event] = [ReasoningDelta("H"), ReasoningDelta("m")]
    closing = b"</think>" if where == "think-tags" else b""
    assert told([], events, [TextDelta("a")], reasoning=where)[1:] == [
        chunks,
        chunk(b'{"content":"%ba"}' % closing),
    ]


def test_thoughts_that_nothing_follows_are_closed_by_the_finish_of_each_choice() -> None:
    lists: list[list[Event]] = [
        [],
        [ReasoningDelta("x")],
        [Choice(1), ReasoningDelta("y")],
        [Finish("stop", ("stop",))],
    ]
    assert told(*lists, reasoning="think-tags")[-1] == (
        chunk(b'{"content":"</think>"}')
        + chunk(b'{"content":"</think>"}', index=1)
        + chunk(b"{}", b'"stop"')
        + chunk(b"{}", b'"stop"', index=1)
        + b"data: [DONE]\n\n"
    )
