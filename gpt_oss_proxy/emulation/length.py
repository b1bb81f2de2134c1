"""Length limits: an answer ends after a number of tokens, at a token's border, never inside a character.

The result is the same however the text is cut into pieces. A token is at least one byte, so text with fewer bytes than
tokens are left is certain; near the limit a word is held until its end.
"""

import re

from gpt_oss_proxy.chat.events import FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.filter import Filter
from gpt_oss_proxy.emulation.tokens import Vocabulary

# Positions that no token of o200k spans, whatever follows: before a space, and between a letter and such a sign.
# Source: the pattern that splits text into words for this vocabulary (tiktoken, openai_public.py).
_BORDER = re.compile(
    r"(?<=\S)(?= )|(?<=[^\W\d_])(?=[\n,.:;!?()\u3001\u3002\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f])"
)
_LONGEST_TOKEN = 128  # bytes; text that exceeds the limit by this much need not wait for its word's end
_REST_OF_CHARACTER = 3  # bytes; a token may hold a space and the next character's first byte, and is dropped with it
_LONGEST_WORD = 64 * 1024  # characters; scanning a longer word again with each piece would cost too much


class Length(Filter):
    """Ends an answer after `tokens` tokens of text, or of text and reasoning together."""

    def __init__(self, tokens: int, vocabulary: Vocabulary, *, with_reasoning: bool) -> None:
        super().__init__()
        self._left = tokens
        self._vocabulary = vocabulary
        self._with_reasoning = with_reasoning
        self._thinking = False
        self._cutter = TokenCutter(tokens, vocabulary)

    def text(self, delta: TextDelta) -> None:
        """Emit the text within the limit."""
        self._turn(thinking=False)
        if not self.finished:
            self.say(self._cutter.feed(delta.text), delta)
            self._end_if_over()

    def reasoning(self, delta: ReasoningDelta) -> None:
        """Emit the reasoning within the limit."""
        if not self._with_reasoning:
            self.emit(delta)
            return
        self._turn(thinking=True)
        if not self.finished:
            self._think(self._cutter.feed(delta.text))
            self._end_if_over()

    def call(self, delta: ToolCallDelta) -> None:
        """Emit a call that the upstream itself made, whole or not at all."""
        self._turn(thinking=False)
        if not self.finished:
            self.emit(delta)

    def finish(self, reason: FinishReason) -> None:
        """Emit what was held back."""
        self._rest()
        self.end("length" if self._cutter.over else reason)

    def _turn(self, *, thinking: bool) -> None:
        """Switch between reasoning and text: no word continues across it."""
        if thinking != self._thinking:
            self._rest()
            self._end_if_over()
            self._thinking = thinking
            self._cutter = TokenCutter(self._cutter.left, self._vocabulary)

    def _rest(self) -> None:
        rest = self._cutter.close()
        if self._thinking:
            self._think(rest)
        else:
            self.say(rest)

    def _think(self, text: str) -> None:
        if text:
            self.emit(ReasoningDelta(text))

    def _end_if_over(self) -> None:
        if self._cutter.over and not self.finished:
            self.end("length")


class TokenCutter:
    """Text in pieces → its first tokens, in pieces that are emitted as soon as they are certain.

    `left` is how many more tokens are allowed; `over` means that there was more text.
    """

    def __init__(self, tokens: int, vocabulary: Vocabulary) -> None:
        self.left = tokens
        self.over = False
        self._vocabulary = vocabulary
        self._word = ""  # text whose tokens are not final yet
        self._said = 0  # its characters that were returned

    def feed(self, text: str) -> str:
        """Return the text that is certain now; '' once the limit is exceeded."""
        said = ""
        self._word += text
        borders = [border.start() for border in _BORDER.finditer(self._word, max(len(self._word) - len(text) - 1, 0))]
        if borders:
            said = self._take(borders[-1])
        elif len(self._word) > min((self.left + 1) * _LONGEST_TOKEN, _LONGEST_WORD):
            said = self._take(len(self._word))
        if self.over:
            return said
        certain = _characters(self._word, self.left - _REST_OF_CHARACTER)
        if certain > self._said:
            said += self._word[self._said : certain]
            self._said = certain
        if not self.left and self._word:
            self.over = True
        return said

    def close(self) -> str:
        """Return the rest, at the end of the text."""
        return "" if self.over else self._take(len(self._word))

    def _take(self, end: int) -> str:
        """Return the unreturned text up to `end`, a position up to which the token count is final."""
        whole, self._word = self._word[:end], self._word[end:]
        tokens = self._vocabulary.count(whole)
        if tokens > self.left:
            whole = self._vocabulary.first(whole, self.left)
            self.over = True
            tokens = self.left
        said = whole[self._said :]
        self._said = max(self._said - len(whole), 0) if not self.over else 0
        self.left -= tokens
        return said


def _characters(text: str, most_bytes: int) -> int:
    """Return how many characters of the text certainly fit."""
    if most_bytes <= 0:
        return 0
    if 4 * len(text) <= most_bytes:
        return len(text)
    return len(text[:most_bytes].encode()[:most_bytes].decode("utf-8", "ignore"))
