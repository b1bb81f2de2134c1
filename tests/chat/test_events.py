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


def test_what_is_not_told_is_nothing() -> None:
    assert Usage(1, 2) == Usage(1, 2, reasoning_tokens=0, cached_tokens=0)
    assert ToolCallDelta(1) == ToolCallDelta(1, id="", name="", arguments="")
