"""Reasoning stands where it is wanted, whole and streamed alike."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.apis.openai.reasoning import FIELDS, ReasoningFormat, placed, placing
from gpt_oss_proxy.chat.completion import CompletionChoice
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
from gpt_oss_proxy.chat.request import ToolCall
from gpt_oss_proxy.config.settings import REASONING_FIELDS
from tests.doubles import collect

CALLS = (ToolCall("c1", "f", "{}"),)


def test_every_format_can_be_set_and_has_its_fields() -> None:
    assert tuple(FIELDS) == get_args(ReasoningFormat) == REASONING_FIELDS


@pytest.mark.parametrize(
    ("where", "text", "reasoning"),
    [
        ("both", "a", "Hm"),
        ("reasoning", "a", "Hm"),
        ("reasoning_content", "a", "Hm"),
        ("think-tags", "<think>Hm</think>a", ""),
        ("hidden", "a", ""),
    ],
)
def test_a_whole_choice(where: ReasoningFormat, text: str, reasoning: str) -> None:
    choice = CompletionChoice("a", "Hm", CALLS, "stop")
    assert placed(choice, where) == CompletionChoice(text, reasoning, CALLS, "stop")


@pytest.mark.parametrize("where", REASONING_FIELDS)
def test_without_reasoning_there_is_nothing_to_place(where: ReasoningFormat) -> None:
    choice = CompletionChoice("a", "", (), "stop")
    assert placed(choice, where) == choice


def streamed(where: ReasoningFormat, *lists: list[Event]) -> list[list[Event]]:
    place = placing(where)
    assert place
    return [place(events) for events in lists]


@pytest.mark.parametrize("where", ["both", "reasoning", "reasoning_content"])
def test_fields_are_the_renderers_matter(where: ReasoningFormat) -> None:
    assert placing(where) is None


def test_hidden_reasoning_leaves_everything_else() -> None:
    events: list[Event] = [Choice(1), ReasoningDelta("Hm"), TextDelta("a"), ReasoningDelta("Hm"), Usage(1, 2)]
    assert streamed("hidden", events, [ReasoningDelta("x")]) == [[Choice(1), TextDelta("a"), Usage(1, 2)], []]


@pytest.mark.parametrize("after", [TextDelta("a"), ToolCallDelta(0, "c1", "f")])
def test_the_first_thought_opens_and_the_first_text_or_call_closes(after: Event) -> None:
    assert streamed(
        "think-tags",
        [Started("x"), ReasoningDelta("H")],
        [ReasoningDelta("m")],
        [after, ReasoningDelta("late"), TextDelta("b")],
        [ReasoningDelta("later"), Finish("stop")],
    ) == [
        [Started("x"), TextDelta("<think>H")],
        [TextDelta("m")],
        [TextDelta("</think>"), after, TextDelta("b")],
        [Finish("stop")],
    ]


def test_text_without_a_thought_before_it_has_no_tags() -> None:
    events: list[Event] = [TextDelta("a"), ReasoningDelta("late"), Finish("stop")]
    assert streamed("think-tags", events) == [[TextDelta("a"), Finish("stop")]]


def test_each_choice_has_tags_of_its_own_and_the_finish_closes_what_is_open() -> None:
    assert streamed(
        "think-tags",
        [Choice(1), ReasoningDelta("x")],
        [ReasoningDelta("y"), TextDelta("a")],
        [Choice(2), ReasoningDelta("z")],
        [Choice(0), Finish("stop", ("stop", "length"))],
    ) == [
        [Choice(1), TextDelta("<think>x")],
        [TextDelta("<think>y"), TextDelta("</think>"), TextDelta("a")],
        [Choice(2), TextDelta("<think>z")],
        [
            *(Choice(0), Choice(1), TextDelta("</think>"), Choice(2), TextDelta("</think>")),
            Finish("stop", ("stop", "length")),
        ],
    ]


WORDS = st.text(min_size=1, max_size=2)
PART = st.tuples(st.integers(0, 2), st.lists(WORDS.map(ReasoningDelta), max_size=2))
TEXT = st.tuples(st.integers(0, 2), st.lists(WORDS.map(TextDelta), max_size=2))


@given(st.lists(PART, max_size=6), st.lists(TEXT, max_size=6), st.sampled_from(["think-tags", "hidden"]))
def test_a_stream_that_thinks_first_tells_what_the_whole_answer_tells(
    thoughts: list[tuple[int, list[Event]]], texts: list[tuple[int, list[Event]]], where: ReasoningFormat
) -> None:
    lists: list[list[Event]] = [[Choice(index), *events] for index, events in thoughts + texts]
    lists.append([Choice(0), Finish("stop", ("stop", "stop"))])
    whole = tuple(placed(choice, where) for choice in collect(lists).choices)
    assert collect(streamed(where, *lists)).choices == whole
