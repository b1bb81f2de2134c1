"""Bare text, as it comes."""

import pytest

from gpt_oss_proxy.apis.openai.plain_text import TextRenderer
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
from gpt_oss_proxy.errors import UpstreamIdleTimeout


@pytest.mark.parametrize(
    ("events", "body"),
    [
        ([], b""),
        ([TextDelta("Grüß "), TextDelta("Gott\n")], "Grüß Gott\n".encode()),
        ([TextDelta("data: x\n\n")], b"data: x\n\n"),
        ([ReasoningDelta("Hm"), TextDelta("a"), ToolCallDelta(0, "id", "f"), Usage(1, 1), Finish("stop")], b"a"),
        ([Choice(1), TextDelta("b"), Finish("stop", ("stop",))], b""),
        ([Choice(0), TextDelta("a")], b"a"),
        ([Started("x"), ReasoningDelta("Hm"), TextReplaced("y"), Finish("length")], b""),
    ],
)
def test_only_text_is_told(events: list[Event], body: bytes) -> None:
    assert TextRenderer("", "both").feed(events) == body


def test_a_failure_is_a_last_line_of_its_own() -> None:
    message = "The model's server fell silent in the middle of its answer. Try again."
    assert TextRenderer("", "both").fail(UpstreamIdleTimeout()) == f"\nerror: {message}\n".encode()


def test_an_echo_comes_first_and_thoughts_only_within_the_text() -> None:
    renderer = TextRenderer("Hello!", "think-tags")
    lists: list[list[Event]] = [[], [ReasoningDelta("Hm")], [TextDelta("Hi")], [Finish("stop")]]
    assert [renderer.feed(events) for events in lists] == [b"Hello!", b"<think>Hm", b"</think>Hi", b""]
