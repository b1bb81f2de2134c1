"""Events become one completion."""

from collections.abc import Iterator

import pytest

from gpt_oss_proxy.chat.completion import Collector, Completion, CompletionChoice
from gpt_oss_proxy.chat.events import (
    Choice,
    Event,
    Extra,
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
from tests.doubles import collect


def test_everything_finds_its_place() -> None:
    lists: list[list[Event]] = [
        [Started("thread-1"), ReasoningDelta("Hm")],
        [],
        [ReasoningDelta("m."), TextDelta("Good ")],
        [TextDelta("morning"), TextDelta("!")],
        [Usage(3, 5, reasoning_tokens=2, cached_tokens=1), Finish("length")],
    ]
    usage = Usage(3, 5, reasoning_tokens=2, cached_tokens=1)
    assert collect(lists) == Completion((CompletionChoice("Good morning!", "Hmm.", (), "length"),), usage)


def test_text_that_was_replaced_is_forgotten() -> None:
    lists: list[list[Event]] = [[TextDelta("wrong"), TextReplaced("ri"), TextDelta("ght")], [Finish("stop")]]
    assert collect(lists).choices[0].text == "right"
    lists = [[TextDelta("wrong "), TextDelta("right")], [TextReplaced("All ", ((4, 6, 11),)), Finish("stop")]]
    assert collect(lists).choices[0].text == "All right"


def test_tool_calls_are_joined_by_index_and_come_in_its_order() -> None:
    lists: list[list[Event]] = [
        [ToolCallDelta(1, "call_b", "second"), ToolCallDelta(0, "call_a", "first")],
        [ToolCallDelta(0, arguments='{"a":'), ToolCallDelta(1, arguments="{}"), ToolCallDelta(0, arguments="1}")],
        [ToolCallDelta(0, "call_a", "first"), Finish("tool_calls")],
    ]
    calls = (ToolCall("call_a", "first", '{"a":1}'), ToolCall("call_b", "second", "{}"))
    assert collect(lists) == Completion((CompletionChoice("", "", calls, "tool_calls"),), Usage(0, 0))


def test_several_choices_are_kept_apart() -> None:
    lists: list[list[Event]] = [
        [Started("x"), Choice(1), TextDelta("b")],
        [Choice(0), TextDelta("a"), ReasoningDelta("hm")],
        [Choice(1), TextReplaced("B"), ToolCallDelta(0, "c", "f", "{}")],
        [Usage(1, 2), Finish("stop", ("tool_calls", "length"))],
    ]
    choices = (
        CompletionChoice("a", "hm", (), "stop"),
        CompletionChoice("B", "", (ToolCall("c", "f", "{}"),), "tool_calls"),
        CompletionChoice("", "", (), "length"),
    )
    assert collect(lists) == Completion(choices, Usage(1, 2))


def test_the_last_usage_counts() -> None:
    assert collect([[Usage(1, 1)], [Usage(2, 2), Finish("stop")]]).usage == Usage(2, 2)


def test_an_error_on_the_way_passes_through() -> None:
    def lists() -> Iterator[list[Event]]:
        yield [TextDelta("half")]
        raise UpstreamIncomplete

    with pytest.raises(UpstreamIncomplete):
        collect(lists())


def test_fields_that_no_event_has_find_their_place() -> None:
    lists: list[list[Event]] = [
        [Extra("answer", {"system_fingerprint": "fp", "timings": {"a": 1}}), TextDelta("Hi")],
        [Extra("message", {"details": [{"index": 0, "text": "a"}], "signature": "x"}), Extra("choice", {"seed": 1})],
        [Extra("message", {"details": [{"index": 0, "text": "b"}], "signature": "y"}), Extra("choice", {"seed": 2})],
        [ToolCallDelta(0, "c", "f", extra={"a": 1}), ToolCallDelta(0, arguments="{}", extra={"b": 2})],
        [Extra("answer", {"timings": {"a": 2}}), Finish("stop")],
    ]
    message = {"details": [{"index": 0, "text": "ab"}], "signature": "xy"}
    choice = CompletionChoice("Hi", "", (ToolCall("c", "f", "{}", {"a": 1, "b": 2}),), "stop", {"seed": 2}, message)
    assert collect(lists) == Completion((choice,), Usage(0, 0), {"system_fingerprint": "fp", "timings": {"a": 2}})


LISTS: list[list[Event]] = [
    [Choice(1), TextDelta("b"), Extra("message", {"a": [{"index": 0, "text": "x"}], "b": "x"})],
    [Extra("answer", {"a": 1}), Choice(1), Extra("choice", {"a": 1})],
    [Choice(0), Extra("message", {"a": "x"}), Extra("choice", {"a": 2})],
    [Choice(0), TextDelta("wrong"), ReasoningDelta("hm")],
    [Choice(1), ToolCallDelta(0, "c", "f", "{"), ToolCallDelta(0, arguments="}")],
    [Choice(0), TextReplaced("a"), Extra("choice", {"a": 3, "b": 1}), Extra("message", {"a": "y"})],
    [Choice(1), Extra("message", {"a": [{"index": 0, "text": "y"}, 7], "b": "y"}), Extra("answer", {"a": 2, "b": 1})],
    [Usage(1, 2)],
    [Finish("stop", ("tool_calls",))],
]


@pytest.mark.parametrize("added", range(len(LISTS) + 1))
def test_a_collector_goes_on_where_another_one_was(added: int) -> None:
    first, second = Collector(), Collector()
    for events in LISTS[:added]:
        first.add(events)
    for events in (*first.batches(), *LISTS[added:]):
        second.add(events)
    assert second.completion() == collect(LISTS)


def test_the_first_choice_knows_the_stop_word_that_ended_it() -> None:
    found = collect([[TextDelta("a"), Choice(1), TextDelta("b"), Finish("stop", ("stop",), "END")]])
    assert [choice.stop for choice in found.choices] == ["END", ""]
