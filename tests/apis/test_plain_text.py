"""Bare text, as it comes."""

import pytest

from gpt_oss_proxy.apis.plain_text import TextRenderer
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
from gpt_oss_proxy.errors import UpstreamIdleTimeout


@pytest.mark.parametrize(
    ("events", "body"),
    [
        ([], b""),
        ([TextDelta("Grüß "), TextDelta("Gott\n")], "Grüß Gott\n".encode()),
        ([TextDelta("data: x\n\n")], b"data: x\n\n"),
        ([ReasoningDelta("Hm"), TextDelta("a"), ToolCallDelta(0, "id", "f"), Usage(1, 1), Finish("stop")], b"a"),
        ([Started("x"), ReasoningDelta("Hm"), TextReplaced("y"), Finish("length")], b""),
    ],
)
def test_only_text_is_told(events: list[Event], body: bytes) -> None:
    assert TextRenderer().render(events) == body


def test_a_failure_is_a_last_line_of_its_own() -> None:
    message = "The model's server fell silent in the middle of its answer. Try again."
    assert TextRenderer().fail(UpstreamIdleTimeout()) == f"\nerror: {message}\n".encode()
