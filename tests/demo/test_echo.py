import pytest

from gpt_oss_proxy.demo.conversation import Finish, Message, Question, TextDelta
from gpt_oss_proxy.demo.echo import echo, words_of

QUESTION = Question("gpt-4o", (Message("system", "Be terse."), Message("user", "hello  world\n")))


@pytest.mark.parametrize(
    "text", ["", " ", "a", "a b", "  a\n\nb\t", "é 日本 🙂", "line\u2028break\u0085 end", 'say "no"\\ \x00 done']
)
def test_words_joined_are_the_text_again(text: str) -> None:
    assert "".join(words_of(text)) == text


def test_an_echo_is_the_last_user_text_word_by_word() -> None:
    events = list(echo(0, None, lambda _: None)(QUESTION))
    assert events == [TextDelta("hello"), TextDelta("  world"), TextDelta("\n"), Finish("stop", 5, 3)]


def test_an_echo_can_say_as_many_words_as_wanted() -> None:
    events = list(echo(0, 3, lambda _: None)(QUESTION))
    assert events == [TextDelta("word0"), TextDelta(" word1"), TextDelta(" word2"), Finish("stop", 5, 3)]


def test_an_echo_sleeps_between_two_words_and_not_before_the_first() -> None:
    slept: list[float] = []
    assert len(list(echo(0.02, 3, slept.append)(QUESTION))) == 4
    assert slept == [0.02, 0.02]
