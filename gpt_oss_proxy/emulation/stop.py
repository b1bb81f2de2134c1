"""Stop words: the answer's text ends exactly before the first of them, wherever its pieces were cut.

The first is the one that begins first. Only what could still become one is held back.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from gpt_oss_proxy.chat.events import FinishReason, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.filter import Filter


class Stop(Filter):
    """Ends an answer before its first stop word. Reasoning and tool calls are not searched."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self._finder = WordFinder(words)
        self._called = False

    def call(self, delta: ToolCallDelta) -> None:
        """Calls are not searched, but how an answer with calls ends is known."""
        self._called = True
        self.emit(delta)

    def text(self, delta: TextDelta) -> None:
        """Say what is before the first stop word."""
        self.say(self._finder.feed(delta.text), delta)
        if self._finder.found:
            self._end()

    def finish(self, reason: FinishReason) -> None:
        """Say what was held back."""
        self.say(self._finder.close())
        if self._finder.found and not self._called:
            self._end()
        else:
            self.end(reason)

    def _end(self) -> None:
        if self._called:
            self.end("tool_calls")
        else:
            self.end("stop", self._finder.found)


class WordFinder:
    """Text in pieces → the text before the first of some words, in pieces that come as soon as they are certain.

    When one is found, `found` is it, and `rest` is the text that was fed after it. `held` is what is held back.
    """

    held = ""  # not said yet; words that are begun are begun in it
    found = ""
    rest = ""
    _start = -1  # in `held`: where the first complete word begins, -1 if there is none
    _complete = ""

    def __init__(self, words: Sequence[str]) -> None:
        self._texts = tuple(words)
        self._words: list[_Word] = []  # made when the first of them may have begun: mostly none ever does
        self._first = _first_characters(self._texts)

    def feed(self, text: str) -> str:
        """Return what can be said now; after the word was found it must not be called again."""
        if not self.held and not self._first.search(text):
            return text
        self._words = self._words or [_Word(word) for word in dict.fromkeys(self._texts) if word]
        position = len(self.held)
        self.held += text
        while position < len(self.held):
            if self._start < 0 and not self._begun():
                candidate = self._first.search(self.held, position)
                if candidate is None:
                    break
                position = candidate.start()
            character = self.held[position]
            position += 1
            for word in self._words:
                if word.feed(character):
                    self._note(word.text, position)
            if self._start >= 0 and self._start <= position - self._begun():
                return self._end()  # no word that is only begun could become an earlier one
        certain = len(self.held) - self._begun()
        if self._start >= 0:
            certain = min(certain, self._start)
            self._start -= certain
        said, self.held = self.held[:certain], self.held[certain:]
        return said

    def close(self) -> str:
        """Return the rest: the text has ended."""
        return self._end() if self._start >= 0 else self.held

    def _begun(self) -> int:
        """Return how long the longest word is that is begun."""
        return max((word.begun for word in self._words), default=0)

    def _note(self, word: str, end: int) -> None:
        start = end - len(word)
        if self._start < 0 or start < self._start:
            self._start, self._complete = start, word

    def _end(self) -> str:
        self.found = self._complete
        self.rest = self.held[self._start + len(self.found) :]
        return self.held[: self._start]

    def again(self) -> str:
        """Look for the next one. Return the text that was fed after the last."""
        rest = self.rest
        for word in self._words:
            word.matched = 0
        self.held = self._complete = self.found = self.rest = ""
        self._start = -1
        return rest


@lru_cache(64)
def _first_characters(words: tuple[str, ...]) -> "re.Pattern[str]":
    return re.compile("|".join(sorted({re.escape(word[0]) for word in words if word})) or r"(?!)")


@lru_cache(64)
def _fallback(word: str) -> tuple[int, ...]:
    """Return, of each beginning of the word, its longest proper end that begins the word."""
    fallback = [0] * len(word)
    length = 0
    for position in range(1, len(word)):
        while length and word[position] != word[length]:
            length = fallback[length - 1]
        length += word[position] == word[length]
        fallback[position] = length
    return tuple(fallback)


class _Word:
    """A word, and how much of it the text so far ends with (Knuth, Morris and Pratt)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._fallback = _fallback(text)

    @property
    def begun(self) -> int:
        """Return how many of its characters are there, 0 if it is complete."""
        return self.matched if self.matched < len(self.text) else 0

    def feed(self, character: str) -> bool:
        """Return whether the word is complete with this character."""
        if self.matched == len(self.text):
            self.matched = self._fallback[self.matched - 1]
        while self.matched and self.text[self.matched] != character:
            self.matched = self._fallback[self.matched - 1]
        self.matched += self.text[self.matched] == character
        return self.matched == len(self.text)
