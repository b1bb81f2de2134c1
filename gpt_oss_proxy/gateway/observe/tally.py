"""Counts the tokens of a request's answer as it is sent, even if usage was not requested or the answer is cut.

The upstream's own usage takes precedence. Text is counted in pieces, so that little of it is held.
"""

import io
from collections.abc import Callable

from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.tokens import count_prompt

Count = Callable[[str], int]
_MOST_HELD = 4096  # characters


class Tally:
    """Counts one answer. `finish` is its finish reason, '' before its end."""

    def __init__(self) -> None:
        self.finish = ""
        self._prompts: dict[int, ChatRequest] = {}
        self._usage: Usage | None = None
        self._text = io.StringIO()  # text not counted yet; a list of many texts would cost more than writing them
        self._size = 0  # its characters
        self._answer = self._reasoning = 0
        self._count: Count = len

    def begin(self, count: Count) -> None:
        """Count with the model's vocabulary from now on."""
        self._count = count

    def asked(self, call: int, request: ChatRequest) -> None:
        """Note the request that one of the answer's calls sends to an upstream; a new attempt replaces the last."""
        self._prompts[call] = request

    def add(self, events: list[Event]) -> None:
        """Add the next batch of the answer."""
        for event in events:
            match event:
                case TextDelta():
                    self._size += self._text.write(event.text)
                    if self._size > _MOST_HELD:
                        self._count_held(last=False)
                case ReasoningDelta():
                    self._reasoning += self._tokens(event.text)
                case ToolCallDelta():
                    self._answer += self._tokens(event.name + event.arguments)
                case Usage():
                    self._usage = event
                case Finish():
                    self.finish = event.reason
                case _:
                    pass

    @property
    def has_begun(self) -> bool:
        """Whether the answer has any content."""
        return bool(self._answer or self._reasoning or self._size)

    def usage(self) -> Usage | None:
        """Return the usage so far, None if no upstream was asked and nothing was received."""
        if self._usage:
            return self._usage
        if self._size:
            self._count_held(last=True)
        if not (self._prompts or self.has_begun):
            return None
        prompt = sum([count_prompt(request, self._count) for request in self._prompts.values()])
        return Usage(prompt, self._answer + self._reasoning, reasoning_tokens=self._reasoning)

    def forget(self) -> None:
        """Drop the text and the requests."""
        self._prompts.clear()
        self._text.close()

    def _count_held(self, *, last: bool) -> None:
        """Count the held text except its last word, which may continue."""
        text = self._text.getvalue()
        end = len(text) if last else max(text.rfind(" "), 0)
        if len(text) - end > _MOST_HELD:  # no word is that long
            end = len(text)
        self._text = io.StringIO(text[end:])
        self._size = self._text.seek(0, io.SEEK_END)
        if end:
            self._answer += self._tokens(text[:end])

    def _tokens(self, text: str) -> int:
        """Return the number of tokens in a text; 0 if the upstream has reported usage: then it is not needed."""
        return 0 if self._usage else self._count(text)
