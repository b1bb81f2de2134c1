"""Limits of length: the first tokens of the whole text, wherever it is cut."""

from hypothesis import example, given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Finish, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.length import Length
from gpt_oss_proxy.emulation.tokens import O200k
from tests.doubles import Characters
from tests.emulation.filtered import PLACES, cut, reason_of, reasoning_of, run, text_of, texts

WORDS = "international Donaudampfschifffahrt don't we'll 12345 3.14 世界 你好 😀 " + (
    "👩‍👩‍👧 é e\u0301 !!! ... \n \n\n \t   x,y (z) ß 𓀀 a/b/c ' "
)
TEXT = st.one_of(
    st.lists(st.sampled_from([*WORDS.split(" "), " ", "  ", "\r\n", "'"]), max_size=25).map("".join),
    st.lists(st.sampled_from(WORDS.split(" ")), max_size=25).map(" ".join),
    st.text(max_size=40).filter(lambda text: text.isascii() or text.encode("utf-8", "ignore").decode() == text),
)


VOCABULARY = O200k()


@given(TEXT, st.integers(1, 40), PLACES)
@example("international trade", 1, list(range(30)))
@example("𓀀𓀁 x", 3, [])
def test_pieces_give_the_first_tokens_of_the_whole_text(text: str, tokens: int, places: list[int]) -> None:
    out = run(Length(tokens, VOCABULARY, with_reasoning=False), texts(cut(text, places)))
    assert text_of(out) == VOCABULARY.first(text, tokens)
    assert reason_of(out) == ("length" if VOCABULARY.count(text) > tokens else "stop")


@given(TEXT, TEXT, st.integers(1, 40), PLACES)
def test_reasoning_counts_for_the_limit_of_both(thought: str, text: str, tokens: int, places: list[int]) -> None:
    events = [*(ReasoningDelta(piece) for piece in cut(thought, places)), *texts(cut(text, places))]
    out = run(Length(tokens, VOCABULARY, with_reasoning=True), events)
    said = VOCABULARY.first(thought, tokens)
    left = max(tokens - VOCABULARY.count(thought), 0)
    assert reasoning_of(out) == said
    assert text_of(out) == VOCABULARY.first(text, left)
    too_long = VOCABULARY.count(thought) + VOCABULARY.count(text) > tokens
    assert reason_of(out) == ("length" if too_long else "stop")


@given(TEXT, st.integers(1, 40))
def test_reasoning_does_not_count_for_the_limit_of_text(text: str, tokens: int) -> None:
    out = run(Length(tokens, VOCABULARY, with_reasoning=False), [ReasoningDelta("a " * 100), TextDelta(text or "x")])
    assert reasoning_of(out) == "a " * 100
    assert text_of(out) == VOCABULARY.first(text or "x", tokens)


def test_nothing_waits_while_the_limit_is_far() -> None:
    length = Length(100, VOCABULARY, with_reasoning=False)
    for piece in ("inter", "nat", "ional tra"):
        assert text_of(length.feed([TextDelta(piece)])) == piece


def test_near_the_limit_only_a_word_waits() -> None:
    length = Length(5, Characters(), with_reasoning=False)
    assert text_of(length.feed([TextDelta("ab")])) == "ab"
    assert text_of(length.feed([TextDelta("cde")])) == ""  # more of it may come, or make it other tokens
    assert text_of(length.feed([TextDelta("f")])) == ""
    assert length.feed([TextDelta(" ")]) == [TextDelta("cde"), Finish("length")]


def test_an_answer_as_long_as_its_limit_ends_by_itself() -> None:
    assert run(Length(3, Characters(), with_reasoning=False), texts("abc"))[-2:] == [TextDelta("abc"), Finish("stop")]


def test_a_word_without_end_is_cut() -> None:
    length = Length(3, VOCABULARY, with_reasoning=False)
    said = ""
    for _ in range(1000):
        said += text_of(length.feed([TextDelta("ab")]))
        if length.finished:
            break
    assert length.finished
    assert 1 <= VOCABULARY.count(said) <= 3


def test_an_upstreams_own_call_passes() -> None:
    call = ToolCallDelta(0, "c", "now", "{}")
    assert run(Length(3, VOCABULARY, with_reasoning=True), [call]) == [call, Finish("stop")]
