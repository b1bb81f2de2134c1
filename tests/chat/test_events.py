"""Events are values."""

import pytest

from gpt_oss_proxy.chat.events import (
    Event,
    Finish,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)

EVENTS: list[Event] = [
    Started("a"),
    TextDelta("a"),
    ReasoningDelta("a"),
    TextReplaced("a"),
    ToolCallDelta(0, "a"),
    Usage(1, 2),
    Finish("stop"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_equals_only_its_like_and_cannot_change(event: Event) -> None:
    assert [other for other in EVENTS if other == event] == [event]
    with pytest.raises(AttributeError):
        event.text = "b"  # type: ignore[misc, union-attr]


@pytest.mark.parametrize(
    ("pieces", "event", "text"),
    [
        ([], TextReplaced(""), ""),
        (["new"], TextReplaced("new"), "new"),
        ([(0, 3)], TextReplaced("", ((0, 0, 3),)), "One"),
        ([(0, 3), ", ", (8, 13)], TextReplaced(", ", ((0, 0, 3), (2, 8, 13))), "One, Three"),
        (["a", (3, 3), "b", (4, 7), (0, 3), "c"], TextReplaced("abc", ((1, 3, 3), (2, 4, 7), (2, 0, 3))), "abTwoOnec"),
    ],
)
def test_a_text_that_is_replaced_is_new_text_and_places_of_the_old_one(
    pieces: list[str | tuple[int, int]], event: TextReplaced, text: str
) -> None:
    assert TextReplaced.of(pieces) == event
    assert event.applied("One Two Three") == text


def test_what_is_not_told_is_nothing() -> None:
    assert Usage(1, 2) == Usage(1, 2, reasoning_tokens=0, cached_tokens=0)
    assert ToolCallDelta(1) == ToolCallDelta(1, id="", name="", arguments="")
