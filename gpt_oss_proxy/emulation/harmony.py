"""Harmony, the internal format of gpt-oss models, which sometimes appears in their text.

Source: OpenAI's harmony response format.
`<|start|>{role}<|channel|>{channel} to={recipient} <|constrain|>json<|message|>{body}<|end|>`; a body ends with
`<|end|>`, `<|return|>` (the answer's end) or `<|call|>` (a tool is called). Channels: analysis is reasoning, final is
the answer, commentary is a tool's call or what is said before one.
"""

import re

from gpt_oss_proxy.chat.events import FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.filter import Filter
from gpt_oss_proxy.emulation.stop import WordFinder

_HEAD = ("<|start|>", "<|channel|>", "<|constrain|>")
_BODY = "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>", "<|endoftext|>")
_TAGS = (*_HEAD, _BODY, *_ENDS)
_FIRST = "<"  # what all tags begin with
_RECIPIENT = re.compile(r"to=(?:functions\.)?([^\s<]+)")
_CHANNEL = re.compile(r"(analysis|commentary|final)\b")
_BARE_HEAD = re.compile(r"\s*(assistant|system|user)?\s*(analysis|commentary|final)?\s*(to=\S+)?\s*(json)?\s*")
_LONGEST_HEAD = 300  # characters; longer text is not a head, and must not be held back


class Harmony(Filter):
    """Removes harmony's markup from the text, and turns its reasoning and calls into events."""

    def __init__(self) -> None:
        super().__init__()
        self._finder = WordFinder(_TAGS)
        self._head: list[str] | None = None  # set while a head is read
        self._head_length = 0
        self._reasons = False
        self._calls = False
        self._next_call = 0

    def watches_for(self) -> str | None:
        """The common first character of the tags, outside of all tags."""
        inside = self._head is not None or self._calls or self._reasons or self._finder.held
        return None if inside else _FIRST

    def ends_plainly(self) -> bool:
        """Outside of all tags, nothing is held back."""
        return self.trigger is not None

    def text(self, delta: TextDelta) -> None:
        """Read on, tag by tag."""
        text = delta.text
        while True:
            self._read(self._finder.feed(text), delta)
            if not self._finder.found:
                return
            self._tag(self._finder.found)
            text = self._finder.again()

    def finish(self, reason: FinishReason) -> None:
        """Read what was held back."""
        self._read(self._finder.close())
        self._spill()
        self.end(reason)

    def _read(self, text: str, delta: TextDelta | None = None) -> None:
        if not text:
            return
        if self._head is not None:
            self._grow_head(text)
        elif self._calls:
            self.emit(ToolCallDelta(self._next_call - 1, arguments=text))
        elif self._reasons:
            self.emit(ReasoningDelta(text))
        else:
            self.say(text, delta)

    def _tag(self, tag: str) -> None:
        if tag in _HEAD:
            self._grow_head(tag)
        elif tag == _BODY:
            self._open("".join(self._end_head()))
        else:
            self._end_head()
            self._reasons = self._calls = False

    def _grow_head(self, piece: str) -> None:
        if self._head is None:
            self._head, self._head_length = [], 0
        self._head.append(piece)
        self._head_length += len(piece)
        if self._head_length > _LONGEST_HEAD:
            self._spill()

    def _end_head(self) -> list[str]:
        head, self._head = self._head or [], None
        return head

    def _spill(self) -> None:
        """End a head without a body: what does not belong to a head is text, and so is all that follows."""
        too_long = self._head_length > _LONGEST_HEAD
        text = "".join(piece for piece in self._end_head() if piece not in _HEAD)
        if too_long or not _BARE_HEAD.fullmatch(text):
            self._reasons = self._calls = False
            self.say(text)

    def _open(self, head: str) -> None:
        """Begin a body of the kind that its head names."""
        recipient, channel = _RECIPIENT.search(head), _CHANNEL.search(head)
        self._calls = recipient is not None
        self._reasons = not self._calls and channel is not None and channel[1] == "analysis"
        if recipient:
            self.emit(ToolCallDelta(self._next_call, name=recipient[1]))
            self._next_call += 1
