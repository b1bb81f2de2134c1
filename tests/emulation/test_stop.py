"""Stop words, wherever the text is cut."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Finish, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.stop import Stop, WordFinder
from tests.emulation.filtered import PLACES, cut, reason_of, run, text_of, texts

# Few letters, so that words overlap, repeat and begin within each other.
TEXT = st.text("aabé\n", max_size=40)
WORDS = st.lists(st.text("aabé\n", min_size=1, max_size=6), min_size=1, max_size=4)


def before_the_first(text: str, words: list[str]) -> tuple[str, bool]:
    starts = [text.index(word) for word in words if word in text]
    return (text[: min(starts)], True) if starts else (text, False)


@given(TEXT, WORDS, PLACES)
def test_pieces_give_what_the_whole_text_gives(text: str, words: list[str], places: list[int]) -> None:
    out = run(Stop(words), texts(cut(text, places)), "length")
    wanted, found = before_the_first(text, words)
    assert text_of(out) == wanted
    assert reason_of(out) == ("stop" if found else "length")


@given(TEXT, WORDS, PLACES)
def test_only_what_could_still_become_a_stop_word_is_held_back(text: str, words: list[str], places: list[int]) -> None:
    stop = Stop(words)
    fed, said = "", ""
    for piece in cut(text, places):
        fed += piece
        said += text_of(stop.feed([TextDelta(piece)]))
        if stop.finished:
            break
        held = fed[len(said) :]
        assert said + held == fed
        assert held == "" or any(word.startswith(held) or held.startswith(word) for word in words)


def test_the_first_is_the_one_that_begins_first() -> None:
    assert text_of(run(Stop(["bc", "abcd"]), texts("xabcd"))) == "x"
    assert text_of(run(Stop(["bc", "abcd"]), texts("xabce"))) == "xa"
    assert text_of(run(Stop(["bc", "abcd"]), texts("xabc"))) == "xa"


def test_reasoning_and_calls_are_not_searched() -> None:
    events = [ReasoningDelta("STOP"), ToolCallDelta(0, "c", "STOP", "STOP"), TextDelta("a")]
    assert run(Stop(["STOP"]), events) == [*events, Finish("stop")]


def test_what_comes_after_the_stop_word_is_not_read() -> None:
    stop = Stop(["x"])
    assert stop.feed([TextDelta("ax"), ReasoningDelta("no"), TextDelta("b")]) == [
        TextDelta("a"),
        Finish("stop", stop="x"),
    ]


@given(TEXT, WORDS, PLACES)
def test_a_finder_knows_which_word_and_what_follows(text: str, words: list[str], places: list[int]) -> None:
    finder = WordFinder(words)
    fed = said = ""
    for piece in cut(text, places):
        fed += piece
        said += finder.feed(piece)
        if finder.found:
            assert said + finder.found + finder.rest == fed
            return


@pytest.mark.parametrize("word", ["a" * 20_000, "ab" * 10_000 + "c", "x"])
def test_long_words_and_texts_cost_in_proportion(word: str) -> None:
    def seconds(length: int) -> float:
        stop = Stop([word])
        started = time.process_time()
        for start in range(0, length, 50):
            stop.feed([TextDelta(("ab" * length)[start : start + 50])])
        return time.process_time() - started

    seconds(1000)
    assert seconds(80_000) < 20 * (seconds(20_000) + 0.01)
