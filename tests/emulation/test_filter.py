"""What all filters share."""

import pytest

from gpt_oss_proxy.chat.events import (
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.emulation.filter import Fault, Filter
from gpt_oss_proxy.errors import GatewayError

ALL: list[Event] = [
    Started("x"),
    TextDelta("a"),
    ReasoningDelta("b"),
    TextReplaced("c"),
    ToolCallDelta(0, "c", "f", "{}"),
    Usage(1, 1),
    Finish("length"),
]


class Ends(Filter):
    """Ends at the text `end`, fails at the text `fail`."""

    def text(self, delta: TextDelta) -> None:
        if delta.text == "end":
            self.end("stop")
        elif delta.text == "fail":
            self.fault = Fault("told", GatewayError())
        else:
            self.say(delta.text)


def test_what_a_filter_does_not_change_passes_in_its_place() -> None:
    step = Filter()
    assert step.feed(ALL) == ALL
    assert step.finished
    assert step.feed(ALL) == []


def test_nothing_is_read_beyond_a_finish_or_a_fault() -> None:
    assert Ends().feed([TextDelta("a"), TextDelta("end"), TextDelta("b")]) == [TextDelta("a"), Finish("stop")]
    assert Ends().feed([TextDelta("a"), TextDelta("fail"), TextDelta("b"), Finish("stop")]) == [TextDelta("a")]


def test_no_text_is_no_event() -> None:
    assert Ends().feed([TextDelta("")]) == []


@pytest.mark.parametrize(("reason", "stop"), [("stop", "END"), ("length", "")])
def test_the_stop_word_of_an_end_is_passed_on_unless_another_reason_takes_its_place(
    reason: FinishReason, stop: str
) -> None:
    class Ends(Filter):
        def finish(self, _reason: FinishReason) -> None:
            self.end(reason)

    assert Ends().feed([Finish("stop", stop="END")]) == [Finish(reason, stop=stop)]
