"""Counts tokens with the o200k vocabulary, for upstreams that report no usage or have no limits."""

import contextlib
import json
from collections.abc import Callable
from typing import Any, Protocol

from rs_bpe.bpe import openai

from gpt_oss_proxy.chat.events import (
    Counted,
    Finish,
    Lists,
    ReasoningDelta,
    Started,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.long_text import LongText
from gpt_oss_proxy.chat.request import ChatRequest, Image, Passthrough, ResponseFormat, Tool
from gpt_oss_proxy.net.lists import ClosableLists, Shortcut

Count = Callable[[str], int]

# OpenAI's chat format adds a frame and the role to a message's text. Source: OpenAI cookbook, "How to count tokens with
# tiktoken".
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_ANSWER = 3


class Vocabulary(Protocol):
    """A model's tokens."""

    def count(self, text: str) -> int:
        """Return the number of tokens in the text."""

    def first(self, text: str, tokens: int) -> str:
        """Return the text of its first `tokens` tokens, without an incomplete character at the end."""


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
            if said is not None:  # else the tokens end within a character
                return str(said)
            ids.pop()
        return ""


def _encodable(text: str) -> str:
    # A lone surrogate has no UTF-8 form; it counts as the replacement character that will be sent.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def count_prompt(request: ChatRequest, count: Count) -> int:
    """Return the prompt's tokens: text, a frame per message, tools, schema, `image_tokens` per image."""
    texts = [message.text for message in request.messages]
    texts += [call.name + call.arguments for message in request.messages for call in message.tool_calls]
    texts += map(_written, request.tools)
    if isinstance(request.response_format, ResponseFormat) and request.response_format.schema is not None:
        texts.append(_json(request.response_format.schema))
    images = 0
    if request.image_tokens:
        images = sum(isinstance(part, Image) for message in request.messages for part in message.parts)
    frames = _TOKENS_PER_MESSAGE * len(request.messages) + _TOKENS_PER_ANSWER
    return sum(map(count, texts)) + frames + images * request.image_tokens


def _written(tool: Tool | Passthrough) -> str:
    if isinstance(tool, Passthrough):
        return _json(tool.value)
    return _json({"name": tool.name, "description": tool.description or "", "parameters": tool.parameters or {}})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


class UsageCounter:
    """Counts an answer's tokens, and reports them if the upstream does not. `request` is what the upstream was sent."""

    def __init__(self, request: ChatRequest, count: Count) -> None:
        self._request = request
        self._count = count
        self._prompt_tokens: int | None = None
        self._text = LongText()
        self._calls = LongText()
        self._reasoning = LongText()

    def run(self, lists: ClosableLists) -> Lists:
        """Yield the same batches, with Counted in the first if requested, and Usage before Finish if there was none.

        The prompt is counted while its upstream processes it, before the first batch is passed on.
        """
        text = self._text
        reported = False
        counts_first = self._request.counts_first
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
                            events = [*events[:-1], self._usage(), event]  # Finish is the last event
                        case _:
                            pass
                if counts_first:
                    counts_first = False
                    place = 1 if events and isinstance(events[0], Started) else 0
                    events = [*events[:place], Counted(self._prompt()), *events[place:]]
                yield events

    def shortcut(self, through: Shortcut) -> Shortcut:
        """Return a shortcut that counts the text it passes on."""

        def pass_on(text: str) -> bool:
            if not through(text):
                return False
            self._text.append(text)
            return True

        return pass_on

    def _usage(self) -> Usage:
        thought, answer = self._count(str(self._reasoning)), self._count(f"{self._text}{self._calls}")
        return Usage(self._prompt(), thought + answer, reasoning_tokens=thought)

    def _prompt(self) -> int:
        if self._prompt_tokens is None:
            self._prompt_tokens = count_prompt(self._request, self._count)
        return self._prompt_tokens
