"""What was sent is not sent again, what is new is not lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.second_try import SecondTry
from tests.emulation.filtered import PLACES, cut, run, text_of, texts

CALL = ToolCallDelta(0, "c", "now", "{}")


def second(
    sent: str = "Let me see.\n", *, reasoned: bool = False, waits: bool = True, is_json: bool = False
) -> SecondTry:
    return SecondTry(sent, reasoned=reasoned, waits=waits, is_json=is_json)


@pytest.mark.parametrize("before", ["", "Let me see.\n", "Let me", "Sorry! Let me see.", "x" * 1000])
@pytest.mark.parametrize("after", ["", "Done."])
def test_text_around_a_call_is_left_out(before: str, after: str) -> None:
    events = [Started("t"), *texts(before), CALL, *texts(after)]
    assert run(second(), events, "tool_calls") == [Started("t"), CALL, Finish("tool_calls")]


@pytest.mark.parametrize(
    ("sent", "text", "new"),
    [
        ("Let me see.", "Let me see.", ""),
        ("Let me see.\n\n", "\nLet me see. ", ""),
        ("Let me see.", "Let me", ""),
        ("Let me see.", "", ""),
        ("Let me see.", "Let me see. It is noon.", " It is noon."),
        ("Let me see.\n", "Let me see. It is noon.", "It is noon."),
        ("Let me see.\n", " \nLet me see.\n\n It is noon.", "It is noon."),
        ("Let me ", "Let metals be.", "\n\nLet metals be."),
        ("Let me", "Let metals be.", "tals be."),
        ("Let me see.", "It is noon.", "\n\nIt is noon."),
        ("Let me see.", "Let me look: noon.", "\n\nLet me look: noon."),
        ("\n", "It is noon.", "It is noon."),
        ("", "It is noon.", "It is noon."),  # only a call has gone out
    ],
)
@pytest.mark.parametrize("waits", [True, False])
@settings(deadline=None)
@given(places=PLACES)
def test_without_a_call_the_text_is_the_answer_but_for_what_it_repeats(
    sent: str, text: str, new: str, waits: bool, places: list[int]
) -> None:
    out = run(second(sent, waits=waits), texts(cut(text, places)))
    assert (text_of(out), out[-1]) == (new, Finish("stop"))


@settings(max_examples=300, deadline=None)
@given(st.text("ab \n", max_size=6), st.text("ab \n", max_size=6), PLACES, st.booleans())
def test_no_word_is_lost(sent: str, text: str, places: list[int], waits: bool) -> None:
    out = run(second(sent, waits=waits), texts(cut(text, places)))
    shown = sent + text_of(out)
    assert shown.startswith(sent)
    wanted = text.split()
    assert shown.split()[-len(wanted) :] == wanted or sent.strip().startswith(text.strip())


def test_a_long_text_is_an_answer_and_streams() -> None:
    step, first = second(), "x" * 900
    assert step.feed(texts([first])) == []
    assert step.feed(texts(["y" * 101, "z"])) == texts(["\n\n" + first + "y" * 101, "z"])
    assert step.feed([*texts(["a"]), CALL, *texts(["b"]), Finish("tool_calls")]) == [
        TextDelta("a"),
        CALL,
        Finish("tool_calls"),
    ]


def test_where_no_call_can_come_new_text_streams() -> None:
    step = second(waits=False)
    told: list[list[Event]] = [step.feed(texts([text])) for text in ("Let ", "me see.", " It ", "is", " noon.")]
    assert told == [[], [], texts(["It "]), texts(["is"]), texts([" noon."])]


@pytest.mark.parametrize("reasoned", [True, False])
def test_reasoning_is_sent_once(reasoned: bool) -> None:
    thoughts: list[Event] = [ReasoningDelta("Hm, "), ReasoningDelta("again.")]
    assert run(second(reasoned=reasoned), [*thoughts, CALL]) == [*([] if reasoned else thoughts), CALL, Finish("stop")]


def test_json_that_begins_twice_is_a_fault() -> None:
    step = second('{"a": 1}', is_json=True)
    assert run(step, texts(['{"a": 2}'])) == []
    assert step.fault is not None
    assert step.fault.error.code == "response_format_invalid"
    for text, new in (('{"a": 1}', ""), ('{"a": 1} ', " ")):
        step = second('{"a": 1}', is_json=True)
        assert text_of(run(step, texts([text]))) == new
        assert step.fault is None
    assert run(second('{"a": 1}', is_json=True), [*texts(['{"a": 2}']), CALL]) == [CALL, Finish("stop")]


def test_a_long_text_that_is_repeated_costs_in_proportion() -> None:
    words = [f"word {number} " for number in range(40_000)]
    step = second("".join(words))
    for word in words:
        assert step.feed(texts([word])) == []
    assert step.feed(texts(["more"])) == []
    assert step.feed([Finish("stop")]) == [TextDelta("more"), Finish("stop")]
