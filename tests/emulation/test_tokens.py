"""Tokens, counted where the upstream does not."""

import time
from typing import Any

import msgspec
import pytest

from gpt_oss_proxy.chat.events import (
    Counted,
    Event,
    Finish,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Passthrough, ResponseFormat, Text, Tool, ToolCall
from gpt_oss_proxy.emulation.tokens import Count, O200k, UsageCounter, count_prompt

REQUEST = ChatRequest("m", (Message("user", (Text("12345"),)),))
PROMPT = 5 + 4 + 3  # with len as counter: the text, the message's frame, the answer's


@pytest.fixture(scope="module")
def o200k() -> Count:
    return O200k().count


@pytest.mark.parametrize(
    ("text", "tokens"),
    # Counted once with another implementation: npm's gpt-tokenizer, o200k_base.
    [
        ("", 0),
        ("Hello, world!", 4),
        ("Donaudampfschifffahrt", 8),
        ("  a\n\n\tb  ", 5),
        ("don't I'LL 3.14159 x²", 10),
        ("你好,世界", 3),
        ("👋🏽", 4),
        ("\ufffd", 1),
        ("<|endoftext|>", 7),  # typed by a user it is text, and no special token
    ],
)
def test_o200k_counts_as_openai_does(o200k: Count, text: str, tokens: int) -> None:
    assert o200k(text) == tokens


def test_half_a_character_counts_as_the_replacement_that_will_be_sent(o200k: Count) -> None:
    assert o200k("\ud83d") == o200k("\ufffd")


def test_a_megabyte_of_one_letter_is_counted_quickly(o200k: Count) -> None:
    before = time.process_time()
    assert 0 < o200k("a" * 1_000_000) < 1_000_000
    assert time.process_time() - before < 2


def test_the_prompt_is_all_text_of_all_turns_and_their_frames() -> None:
    request = ChatRequest(
        "m",
        (
            Message("system", (Text("123"),)),
            Message("user", (Text("12"), Image("data:,"), Text("1"))),
            Message("assistant", tool_calls=(ToolCall("id", "12", "1234"),)),
        ),
    )
    assert count_prompt(request, len) == 3 + (2 + 1 + 1) + (2 + 4) + 3 * 4 + 3


def counted(lists: list[list[Event]]) -> list[list[Event]]:
    return list(UsageCounter(REQUEST, len).run(events for events in lists))


@pytest.mark.parametrize(
    ("lists", "usage"),
    [
        ([[TextDelta("abc")], [Finish("stop")]], Usage(PROMPT, 3)),
        ([[Finish("stop")]], Usage(PROMPT, 0)),
        ([[ReasoningDelta("ab"), TextDelta("c"), Finish("stop")]], Usage(PROMPT, 3, reasoning_tokens=2)),
        ([[TextDelta("abc"), TextReplaced("a")], [TextDelta("b"), Finish("stop")]], Usage(PROMPT, 2)),
        (
            [
                [TextDelta("abc")],
                [ToolCallDelta(0, "id", "f", "{}"), TextDelta("def")],
                [TextReplaced("x", ((1, 2, 5),)), Finish("tool_calls")],  # xcde
            ],
            Usage(PROMPT, 4 + 3),
        ),
        ([[ToolCallDelta(0, "id", "ab")], [ToolCallDelta(0, arguments="{}"), Finish("tool_calls")]], Usage(PROMPT, 4)),
    ],
)
def test_usage_is_counted_just_before_the_finish(lists: list[list[Event]], usage: Usage) -> None:
    *before, last = lists
    assert list(counted(lists)) == [*before, [*last[:-1], usage, last[-1]]]


@pytest.mark.parametrize(
    "lists",
    [
        [[TextDelta("a"), Usage(1, 2), Finish("stop")]],
        [[Usage(1, 2)], [TextDelta("a")], [Finish("stop")]],
        [[Started("x")], [], [TextDelta("a")]],  # no finish, no usage
    ],
)
def test_what_the_upstream_reports_is_left_as_it_is(lists: list[list[Event]]) -> None:
    assert list(counted(lists)) == lists


def test_what_goes_through_the_shortcut_counts_and_what_does_not_is_not_noted() -> None:
    lists: list[list[Event]] = [[TextDelta("d")], [Finish("stop")]]
    answers, told = [True, False, True], []

    def through(text: str) -> bool:
        if is_open := answers.pop():
            told.append(text)
        return is_open

    counter = UsageCounter(REQUEST, len)
    shortcut = counter.shortcut(through)
    assert [shortcut(text) for text in ("abc", "d", "ef")] == [True, False, True]
    assert told == ["abc", "ef"]
    assert list(counter.run(events for events in lists)) == [
        [TextDelta("d")],
        [Usage(PROMPT, 6), Finish("stop")],
    ]


def test_tools_and_a_schema_that_the_upstream_gets_are_counted() -> None:
    tool = Tool("f", None, {"a": 1})
    wanted = ResponseFormat("schema", {"b": 2})
    request = msgspec.structs.replace(REQUEST, tools=(tool, Passthrough({"c": 3}, "no.")), response_format=wanted)
    written = ('{"name": "f", "description": "", "parameters": {"a": 1}}', '{"c": 3}', '{"b": 2}')
    assert count_prompt(request, len) == PROMPT + sum(map(len, written))


def test_an_image_counts_what_the_client_api_says() -> None:
    turn = Message("user", (Image("u"), Text("12345"), Image("v")))
    for tokens in (0, 1000):
        assert count_prompt(ChatRequest("m", (turn,), image_tokens=tokens), len) == PROMPT + 2 * tokens


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        ([TextDelta("a")], [Counted(PROMPT), TextDelta("a")]),
        ([Started("t"), TextDelta("a")], [Started("t"), Counted(PROMPT), TextDelta("a")]),
        ([], [Counted(PROMPT)]),
    ],
)
def test_the_prompt_is_counted_before_the_answer_begins_where_asked_and_once(
    first: list[Event], seen: list[Event]
) -> None:
    counts: list[str] = []

    def count(text: str) -> int:
        counts.append(text)
        return len(text)

    counter = UsageCounter(msgspec.structs.replace(REQUEST, counts_first=True), count)
    found = list(counter.run(lists_of(first, [TextDelta("b")], [Finish("stop")])))
    assert found[0] == seen
    assert found[1] == [TextDelta("b")]
    assert found[2][0] == Usage(PROMPT, len(text_of(found)))
    assert counts.count("12345") == 1


def text_of(lists: list[list[Event]]) -> str:
    return "".join(event.text for events in lists for event in events if isinstance(event, TextDelta))


def lists_of(*lists: list[Event]) -> Any:
    yield from lists
