"""Tokens are counted as an answer goes out, in pieces that mean the same as the whole."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.emulation.tokens import O200k
from gpt_oss_proxy.gateway.observe.tally import Tally

O200K = O200k()


def asking(text: str) -> ChatRequest:
    return ChatRequest("m", (Message("user", (Text(text),)),))


def tally() -> Tally:
    found = Tally()
    found.begin(len)
    return found


def test_what_was_asked_and_what_came_is_counted() -> None:
    counted = tally()
    counted.asked(1, asking("four"))
    counted.add([ReasoningDelta("12"), TextDelta("123")])
    counted.add([ToolCallDelta(0, "id", "f", '{"a"'), ToolCallDelta(0, arguments=":1}"), Finish("tool_calls")])
    assert counted.usage() == Usage(4 + 4 + 3, 2 + 3 + 8, reasoning_tokens=2)
    assert counted.finish == "tool_calls"


def test_what_the_upstream_reports_goes_before_what_was_counted() -> None:
    counted = tally()
    counted.asked(1, asking("four"))
    counted.add([TextDelta("123"), Usage(7, 8)])
    assert counted.usage() == Usage(7, 8)


def test_a_further_try_takes_the_place_of_the_last_one_and_further_calls_add() -> None:
    counted = tally()
    for call, text in ((1, "four"), (1, "fours"), (2, "six")):
        counted.asked(call, asking(text))
    assert counted.usage() == Usage(5 + 3 + 2 * 7, 0)


def test_nothing_asked_and_nothing_told_is_no_usage() -> None:
    counted = tally()
    counted.add([])
    assert counted.usage() is None
    assert counted.finish == ""


def test_little_text_is_held() -> None:
    counted = tally()
    for _ in range(10_000):
        counted.add([TextDelta("word ")])
        assert counted._size <= 4096 + 5
    counted.add([TextDelta("x" * 100_000)])
    assert counted._size == 0
    assert counted.usage() == Usage(0, 150_000)


WORDS = st.sampled_from(["Hello", ", ", "world", ".\n\n", "naïve", " ", "don't", "42", "日本語", "  ", "_x"])


def test_what_was_forgotten_is_not_kept() -> None:
    counted = tally()
    counted.asked(1, asking("four"))
    counted.add([TextDelta("123")])
    counted.forget()
    assert not counted._prompts
    assert counted._text.closed


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, min_size=100, max_size=600), st.integers(1, 7))
def test_pieces_have_as_many_tokens_as_the_whole_but_for_a_few(words: list[str], size: int) -> None:
    text = "".join(words)
    counted = Tally()
    counted.begin(O200K.count)
    for start in range(0, len(text), size):
        counted.add([TextDelta(text[start : start + size])])
    usage = counted.usage()
    assert usage is not None
    assert usage.completion_tokens == pytest.approx(O200K.count(text), abs=1 + len(text) / 1000)
