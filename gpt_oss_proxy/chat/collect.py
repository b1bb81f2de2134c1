"""Events → one Completion, for a client that did not ask for a stream."""

from collections.abc import Iterable

import msgspec

from gpt_oss_proxy.chat.events import (
    Choice,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.request import ToolCall


class CompletionChoice(msgspec.Struct, frozen=True):
    """One of the answers to a request."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: FinishReason


class Completion(msgspec.Struct, frozen=True):
    """All that a request was answered."""

    choices: tuple[CompletionChoice, ...]
    usage: Usage


def collect(lists: Iterable[list[Event]]) -> Completion:
    """Return the answer that the lists of events tell. The iterator's own errors pass through."""
    parts: dict[int, _Parts] = {}
    usage = Usage(0, 0)
    finish = Finish("stop")
    for events in lists:
        index = 0
        for event in events:
            match event:
                case Choice():
                    index = event.index
                case Usage():
                    usage = event
                case Finish():
                    finish = event
                case _:
                    parts.setdefault(index, _Parts()).add(event)
    reasons = (finish.reason, *finish.others)
    choices = (parts.get(index, _Parts()).choice(reason) for index, reason in enumerate(reasons))
    return Completion(tuple(choices), usage)


class _Parts:
    """What a choice consists of so far."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, list[ToolCallDelta]] = {}

    def add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case TextReplaced():
                self._text = [event.text]
            case ToolCallDelta():
                self._calls.setdefault(event.index, []).append(event)
            case _:
                pass

    def choice(self, reason: FinishReason) -> CompletionChoice:
        calls = tuple(_join(self._calls[index]) for index in sorted(self._calls))
        return CompletionChoice("".join(self._text), "".join(self._reasoning), calls, reason)


def _join(deltas: list[ToolCallDelta]) -> ToolCall:
    return ToolCall(
        id=next((delta.id for delta in deltas if delta.id), ""),
        name=next((delta.name for delta in deltas if delta.name), ""),
        arguments="".join(delta.arguments for delta in deltas),
    )
