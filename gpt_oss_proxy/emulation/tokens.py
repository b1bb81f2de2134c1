"""Counting tokens with the o200k vocabulary, for upstreams that report no usage or know no limits."""

import contextlib
from collections.abc import Callable
from typing import Protocol

from rs_bpe.bpe import openai

from gpt_oss_proxy.chat.events import Finish, Lists, ReasoningDelta, TextDelta, TextReplaced, ToolCallDelta, Usage
from gpt_oss_proxy.chat.long_text import LongText
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.net.lists import ClosableLists, Shortcut

Count = Callable[[str], int]

# What OpenAI's own chat format adds to a message's text: its frame and role. Source: OpenAI cookbook,
# "How to count tokens with tiktoken".
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_ANSWER = 3


class Vocabulary(Protocol):
    """A model's tokens."""

    def count(self, text: str) -> int:
        """Return how many tokens the text has."""

    def first(self, text: str, tokens: int) -> str:
        """Return the text of its first tokens; a character that they only begin is left out."""


class O200k:
    """OpenAI's vocabulary since gpt-4o, gpt-oss included.

    It costs about 0.2 s and 70 MB, so it is loaded once, before the workers fork.
    """

    def __init__(self) -> None:
        self._encoding = openai.o200k_base()

    def count(self, text: str) -> int:
        """See Vocabulary."""
        return int(self._encoding.count(_encodable(text)))

    def first(self, text: str, tokens: int) -> str:
        """See Vocabulary."""
        ids = self._encoding.encode(_encodable(text))[:tokens]
        while ids:
            said = self._encoding.decode(ids)
            if said is not None:  # else it ends within a character
                return str(said)
            ids.pop()
        return ""


def _encodable(text: str) -> str:
    # A lone surrogate has no UTF-8 form; it counts as the replacement character that will be sent.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def count_prompt(request: ChatRequest, count: Count) -> int:
    """Return the prompt's tokens: all text of all turns and the frame of each. Images count as nothing."""
    texts = [message.text for message in request.messages]
    texts += [call.name + call.arguments for message in request.messages for call in message.tool_calls]
    return sum(map(count, texts)) + _TOKENS_PER_MESSAGE * len(request.messages) + _TOKENS_PER_ANSWER


class UsageCounter:
    """Counts what an answer says, and tells it where the upstream has not. `request` is what the upstream is asked."""

    def __init__(self, request: ChatRequest, count: Count) -> None:
        self._request = request
        self._count = count
        self._text = LongText()
        self._calls = LongText()
        self._reasoning = LongText()

    def run(self, lists: ClosableLists) -> Lists:
        """Yield the same lists, with a counted Usage before Finish if there was none."""
        text = self._text
        reported = False
        with contextlib.closing(lists):
            for events in lists:
                for event in events:
                    kind = type(event)
                    if kind is TextDelta:
                        text.append(event.text)  # type: ignore[union-attr] # it is one
                        continue
                    match event:
                        case ToolCallDelta():
                            self._calls.append(event.name + event.arguments)
                        case ReasoningDelta():
                            self._reasoning.append(event.text)
                        case TextReplaced():
                            text.replace(event.applied(str(text)))
                        case Usage():
                            reported = True
                        case Finish() if not reported:
                            events = [*events[:-1], self._usage(), event]  # it is the last
                        case _:
                            pass
                yield events

    def shortcut(self, through: Shortcut) -> Shortcut:
        """Return ours, which notes what goes through."""

        def tell(text: str) -> bool:
            if not through(text):
                return False
            self._text.append(text)
            return True

        return tell

    def _usage(self) -> Usage:
        thought, answer = self._count(str(self._reasoning)), self._count(f"{self._text}{self._calls}")
        return Usage(count_prompt(self._request, self._count), thought + answer, reasoning_tokens=thought)
