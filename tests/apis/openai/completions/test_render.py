"""Events become exactly these bytes."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.openai.completions.render import ChunkRenderer, render
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat
from gpt_oss_proxy.chat.completion import Completion, CompletionChoice
from gpt_oss_proxy.chat.events import (
    Choice,
    Event,
    Finish,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text, ToolCall
from tests.apis.openai import asked as helper

STAMP = Stamp("cmpl-1", 1_700_000_000, 'org/"m"')
HEAD = b'data: {"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"org/\\"m\\"","choices":['
DONE = b"data: [DONE]\n\n"
USAGE = Usage(3, 5, reasoning_tokens=2, cached_tokens=1)
USAGE_JSON = (
    b'{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,'
    b'"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}}'
)


def asked(*prompts: str, **fields: Any) -> ChatRequest:
    first, *further = ((Message("user", (Text(prompt),)),) for prompt in prompts or ("Hello!",))
    return helper.asked("m", first, further_prompts=tuple(further), **fields)


def chunk(text: str, index: int = 0, reason: bytes = b"null", usage: bytes = b"") -> bytes:
    choice = b'{"index":%d,"text":%b,"logprobs":null,"finish_reason":%b}'
    return HEAD + choice % (index, json.dumps(text, ensure_ascii=False).encode(), reason) + b"]" + usage + b"}\n\n"


def told(request: ChatRequest, *lists: list[Event]) -> list[bytes]:
    renderer = ChunkRenderer(STAMP, request)
    return [renderer.feed(events) for events in lists]


def test_a_stream_is_texts_a_finish_and_done() -> None:
    assert told(asked(), [TextDelta("Grüß "), TextDelta("Gott")], [], [TextDelta("!"), USAGE, Finish("length")]) == [
        chunk("Grüß Gott"),
        chunk(""),
        chunk("!") + chunk("", reason=b'"length"') + DONE,
    ]


def test_the_first_keepalive_is_an_empty_text() -> None:
    assert told(asked(), [], [], [TextDelta("a")]) == [chunk(""), chunk(""), chunk("a")]


def test_usage_comes_in_a_chunk_of_its_own_if_asked_for() -> None:
    null = b',"usage":null'
    assert told(asked(wants_usage=True), [TextDelta("a")], [USAGE, Finish("stop")]) == [
        chunk("a", usage=null),
        chunk("", reason=b'"stop"', usage=null) + HEAD + b'],"usage":' + USAGE_JSON + b"}\n\n" + DONE,
    ]


def test_each_choice_begins_with_its_prompt_if_it_is_echoed() -> None:
    request = asked("a", "b", n=2, has_echo=True)
    assert told(
        request,
        [],
        [Choice(2), TextDelta("x")],
        [Choice(0), TextDelta("y")],
        [Choice(1), Finish("stop", ("stop", "length", "stop"))],
    ) == [
        chunk("a"),
        chunk("b", 2) + chunk("x", 2),
        chunk("y"),
        chunk("a", 1)
        + chunk("", 0, b'"stop"')
        + chunk("", 1, b'"stop"')
        + chunk("", 2, b'"length"')
        + chunk("b", 3)
        + chunk("", 3, b'"stop"')
        + DONE,
    ]


def test_an_empty_echo_needs_no_chunk() -> None:
    assert told(asked("", has_echo=True), [TextDelta("a")]) == [chunk("a")]


@pytest.mark.parametrize("where", ["both", "reasoning", "reasoning_content", "hidden"])
@pytest.mark.parametrize("event", [Started("x"), ReasoningDelta("Hm"), ToolCallDelta(0, "c1", "f"), USAGE])
def test_some_events_tell_nothing(event: Event, where: ReasoningFormat) -> None:
    assert told(asked(reasoning=where), [event]) == [b""]


def test_thoughts_stand_within_the_text_only_if_they_are_wanted_there() -> None:
    request = asked("Hello!", has_echo=True, reasoning="think-tags")
    assert told(request, [ReasoningDelta("Hm")], [TextDelta("Hi")]) == [
        chunk("Hello!") + chunk("<think>Hm"),
        chunk("</think>Hi"),
    ]
    choices = (CompletionChoice("Hi", "Hm", (), "stop"),)
    assert json.loads(render(Completion(choices, USAGE), STAMP, request))["choices"][0]["text"] == (
        "Hello!<think>Hm</think>Hi"
    )


def test_a_whole_answer_is_exactly_this() -> None:
    choices = (CompletionChoice("Grüß", "Hm", (), "stop"), CompletionChoice("b", "", (), "length"))
    assert render(Completion(choices, USAGE), STAMP, asked(n=2)) == (
        '{"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"org/\\"m\\"","choices":['
        '{"index":0,"text":"Grüß","logprobs":null,"finish_reason":"stop"},'
        '{"index":1,"text":"b","logprobs":null,"finish_reason":"length"}],"usage":'.encode()
        + USAGE_JSON
        + b"}"
    )


def test_the_choices_of_a_whole_answer_begin_with_the_prompts_that_they_answer() -> None:
    choices = tuple(CompletionChoice(text, "", (), "stop") for text in "wxyz")
    body = json.loads(render(Completion(choices, USAGE), STAMP, asked("a", "b", n=2, has_echo=True)))
    assert [choice["text"] for choice in body["choices"]] == ["aw", "ax", "by", "bz"]


def test_a_call_that_nobody_offered_is_the_end_of_the_text() -> None:
    choices = (CompletionChoice("", "", (ToolCall("c1", "f", "{}"),), "tool_calls"),)
    (choice,) = json.loads(render(Completion(choices, USAGE), STAMP, asked()))["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")
    assert told(asked(), [Finish("tool_calls")]) == [chunk("", reason=b'"stop"') + DONE]
