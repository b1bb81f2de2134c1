"""Harmony's markup never gets through as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.harmony import Harmony
from tests.emulation.filtered import PLACES, calls_of, cut, reasoning_of, run, text_of, texts

TAGS = ["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"]
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>'
WHOLE = (
    "<|channel|>analysis<|message|>The user wants weather.<|end|><|start|>assistant<|channel|>commentary<|message|>"
    f"Let me see.<|end|><|start|>assistant{CALL}<|start|>assistant<|channel|>final<|message|>Sunny <b>.<|return|>"
)


@given(PLACES)
def test_each_channel_becomes_what_it_is(places: list[int]) -> None:
    out = run(Harmony(), texts(cut(WHOLE, places)))
    assert reasoning_of(out) == "The user wants weather."
    assert text_of(out) == "Let me see.Sunny <b>."
    assert calls_of(out) == [("get_weather", '{"city": "Paris"}')]
    assert out[-1] == Finish("stop")


LONG = ["<|channel|>analysis<|message|>", "<|channel|>commentary to=f<|message|>", "long " * 70, " " * 400]


@given(
    st.lists(st.one_of(st.sampled_from([*TAGS, *LONG]), st.text("ab<|> \n", max_size=6)), max_size=20).map("".join),
    PLACES,
)
def test_pieces_give_what_the_whole_gives_and_no_tag_gets_through(text: str, places: list[int]) -> None:
    whole, pieces = run(Harmony(), texts([text])), run(Harmony(), texts(cut(text, places)))
    told = [(text_of(out), reasoning_of(out), calls_of(out)) for out in (whole, pieces)]
    assert told[0] == told[1]
    if not any(tag in text for tag in TAGS):
        assert told[0] == (text, "", [])
    assert not any(tag in text for tag in TAGS) or len(told[0][0]) < len(text)


def test_text_without_markup_passes_as_it_came() -> None:
    events: list[Event] = [
        TextDelta("if a <"),
        ReasoningDelta("hm"),
        TextDelta("b | c"),
        ToolCallDelta(0, "c", "n", "{}"),
    ]
    harmony = Harmony()
    assert harmony.feed(events[:1]) == [TextDelta("if a ")]  # it may become a tag
    assert harmony.feed(events[1:]) == [ReasoningDelta("hm"), TextDelta("<b | c"), ToolCallDelta(0, "c", "n", "{}")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<|channel|>final", ""),  # cut in a head
        ("<|start|>assistant", ""),
        ("<|channel|>final Hello, this is my answer.", "final Hello, this is my answer."),  # a head that is none
        ("<|start|>" + "long " * 100, "long " * 100),
        ("Hello.<|return|>", "Hello."),
        ("<|", "<|"),
        ("<|channel|>analysis<|message|>Hm.<|start|>" + "long " * 100, "long " * 100),  # behind reasoning, too
    ],
)
def test_what_is_no_head_is_not_lost(text: str, said: str) -> None:
    assert text_of(run(Harmony(), texts(text))) == said
    assert text_of(run(Harmony(), texts([text]))) == said
