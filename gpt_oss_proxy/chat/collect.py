"""Events → one Completion, for a client that did not ask for a stream."""

from collections.abc import Iterable

import msgspec

from gpt_oss_proxy.chat.events import (
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


class Completion(msgspec.Struct, frozen=True):
    """One whole answer."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    usage: Usage
    finish_reason: FinishReason


def collect(lists: Iterable[list[Event]]) -> Completion:
    """Return the answer that the lists of events tell. The iterator's own errors pass through."""
    text: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, list[ToolCallDelta]] = {}
    usage = Usage(0, 0)
    reason: FinishReason = "stop"
    for events in lists:
        for event in events:
            match event:
                case TextDelta():
                    text.append(event.text)
                case ReasoningDelta():
                    reasoning.append(event.text)
                case TextReplaced():
                    text = [event.text]
                case ToolCallDelta():
                    calls.setdefault(event.index, []).append(event)
                case Usage():
                    usage = event
                case Finish():
                    reason = event.reason
                case _:
                    pass
    tool_calls = tuple(_join(calls[index]) for index in sorted(calls))
    return Completion("".join(text), "".join(reasoning), tool_calls, usage, reason)


def _join(deltas: list[ToolCallDelta]) -> ToolCall:
    return ToolCall(
        id=next((delta.id for delta in deltas if delta.id), ""),
        name=next((delta.name for delta in deltas if delta.name), ""),
        arguments="".join(delta.arguments for delta in deltas),
    )
