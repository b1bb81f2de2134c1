"""An answer without a model: the last user text word by word, or a given number of words. For tests and load."""

import re
from collections.abc import Callable, Iterable, Iterator

from .conversation import Answer, Event, Finish, Question, TextDelta

_WORD = re.compile(r"\s*\S+|\s+")


def words_of(text: str) -> list[str]:
    """Return the words, each with the white space before it; joined they are exactly the text."""
    return _WORD.findall(text)


def echo(delay_seconds: float, words: int | None, sleep: Callable[[float], object]) -> Answer:
    """Return an answer function: it sends the last user text, or `words` numbered words, and sleeps between them."""

    def answer(question: Question) -> Iterator[Event]:
        count = 0
        for word in _numbered(words) if words is not None else words_of(_last_user_text(question)):
            if count and delay_seconds:
                sleep(delay_seconds)
            count += 1
            yield TextDelta(word)
        yield Finish("stop", sum(len(words_of(message.text)) for message in question.messages), count)

    return answer


def _numbered(words: int) -> Iterable[str]:
    return (f" word{number}" if number else "word0" for number in range(words))


def _last_user_text(question: Question) -> str:
    return next((message.text for message in reversed(question.messages) if message.role == "user"), "")
