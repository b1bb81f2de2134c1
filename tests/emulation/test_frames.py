"""Calls found in text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Finish
from gpt_oss_proxy.emulation.frames import Frames
from tests.emulation.filtered import PLACES, calls_of, cut, run, text_of, texts

PROSE = st.text('a[#7] {}\n"call', max_size=12).filter(
    lambda text: "[#7 " not in text and not text.endswith(("[", "[#", "[#7"))
)
ARGUMENTS = st.dictionaries(st.text('a"[#7 ', max_size=4), st.text('x"{}[]#7 call\n', max_size=10), max_size=3)


@given(PROSE, st.lists(ARGUMENTS, max_size=3), PROSE, st.booleans(), PLACES)
def test_calls_are_found_and_prose_is_not_lost(
    before: str, calls: list[dict[str, str]], after: str, with_id: bool, places: list[int]
) -> None:
    name = "[#7 call f call_1]" if with_id else "[#7 call f]"
    frames = "\n".join(f"{name} {json.dumps(arguments)}" for arguments in calls)
    out = run(Frames(7), texts(cut(before + frames + after, places)))
    assert text_of(out) == before + (after.lstrip() if calls else after)
    assert [(found, json.loads(arguments)) for found, arguments in calls_of(out)] == [("f", call) for call in calls]
    assert out[-1] == Finish("stop")


@given(st.text('[#7 cal]{}"\n', max_size=40), PLACES)
def test_pieces_give_what_the_whole_gives(text: str, places: list[int]) -> None:
    whole, pieces = run(Frames(7), texts([text])), run(Frames(7), texts(cut(text, places)))
    assert (text_of(whole), calls_of(whole)) == (text_of(pieces), calls_of(pieces))
    assert "[#7 " not in text_of(pieces)


def test_text_waits_only_while_it_may_become_a_frame() -> None:
    frames = Frames(7)
    assert text_of(frames.feed(texts(["Let me [see"]))) == "Let me [see"
    assert text_of(frames.feed(texts([" ["]))) == " "
    assert text_of(frames.feed(texts(["#"]))) == ""
    assert text_of(frames.feed(texts(["8"]))) == "[#8"


@pytest.mark.parametrize("marker", ["[#7 user]\nMore?", "[#7 tool result call_1]\n22 degrees", "[#7 system]"])
def test_a_model_that_goes_on_with_the_conversation_by_itself_is_stopped(marker: str) -> None:
    frames = Frames(7)
    out = run(frames, texts(["It is warm.", f"\n{marker}"]))
    assert (text_of(out), out[-1], frames.finished) == ("It is warm.\n", Finish("stop"), True)


def test_a_model_that_begins_with_its_own_marker_is_understood() -> None:
    assert text_of(run(Frames(7), texts("[#7 assistant]\nHello"))) == "Hello"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[#7 call now]", ""),
        ("[#7 call now]\n[#7 call now] {}", ""),
        ("[#7 call now] [1]", "[1]"),
        ("[#7 call now] Paris", "Paris"),
        ('[#7 call now] {"a": ', '{"a": '),
    ],
)
def test_what_stands_in_place_of_arguments_is_given_on(text: str, arguments: str) -> None:
    for pieces in ([text], list(text)):
        assert calls_of(run(Frames(7), texts(pieces)))[0] == ("now", arguments)


@pytest.mark.parametrize(
    "text",
    [
        '[#7 call f {"a": "]}"}] done',
        '[#7 f] {"a": "]}"} done',
        '[#7 Call f] {"a": "]}"} done',
        '[#7 call: f] {"a": "]}"} done',
        '[#7 tool f] {"a": "]}"} done',
        '[#7 call f]: {"a": "]}"} done',
        '[#7 call f]\n```json\n{"a": "]}"} done',
        '**[#7 call f]** `{"a": "]}"} done',
        '[#7 call f] arguments: {"a": "]}"} done',
    ],
)
def test_what_comes_near_to_a_call_is_one(text: str) -> None:
    for pieces in ([text], list(text)):
        out = run(Frames(7), texts(pieces))
        assert calls_of(out) == [("f", '{"a": "]}"}')]
        assert text_of(out).removeprefix("**") == "done"


def test_a_frame_that_is_nothing_else_is_a_call_too_and_so_found_faulty() -> None:
    assert calls_of(run(Frames(7), texts("[#7 !?] Hello")))[0] == ("!?", "Hello")
    assert calls_of(run(Frames(7), texts("[#7 " + "long " * 100)))[0][0] == "long"


def test_a_frame_that_is_cut_is_not_text() -> None:
    out = run(Frames(7), texts("A [#7 call get_wea"))
    assert (text_of(out), calls_of(out)) == ("A ", [("call get_wea", "")])
    out = run(Frames(7), texts("A [#7 call get_wea"), "length")
    assert (text_of(out), calls_of(out), out[-1]) == ("A ", [], Finish("length"))
