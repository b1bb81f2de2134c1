"""Events → one Completion, for a client that did not ask for a stream."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gpt_oss_proxy.chat.events import (
    Choice,
    Event,
    Extra,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TextReplaced,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.extra import ExtraFields
from gpt_oss_proxy.chat.long_text import LongText
from gpt_oss_proxy.chat.request import ToolCall


class CompletionChoice(msgspec.Struct, frozen=True):
    """One of the answers to a request. `extra` are further fields of its server, `message_extra` of its message.

    `stop` is the stop word that ended the first choice, '' if none did or if it is not known.
    """

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    reason: FinishReason
    extra: Mapping[str, Any] = {}
    message_extra: Mapping[str, Any] = {}
    stop: str = ""


class Completion(msgspec.Struct, frozen=True):
    """All that a request was answered."""

    choices: tuple[CompletionChoice, ...]
    usage: Usage
    extra: Mapping[str, Any] = {}


class Collector:
    """Puts an answer together from its lists of events."""

    def __init__(self) -> None:
        self._parts: dict[int, _Parts] = {}
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._extra: dict[str, Any] = {}

    def add(self, events: list[Event]) -> None:
        """Take the next list."""
        index = 0
        for event in events:
            match event:
                case Choice():
                    index = event.index
                case Usage():
                    self._usage = event
                case Finish():
                    self._finish = event
                case Extra(of="answer"):
                    self._extra |= event.fields
                case _:
                    self._parts.setdefault(index, _Parts()).add(event)

    def batches(self) -> list[list[Event]]:
        """Return lists of events from which another collector gets all that this one knows."""
        lists: list[list[Event]] = [[Choice(index), *parts.events()] for index, parts in self._parts.items()]
        end = (Extra("answer", self._extra) if self._extra else None, self._usage, self._finish)
        return [*lists, [event for event in end if event]] if any(end) else lists

    def completion(self) -> Completion:
        """Return the answer that the lists make up."""
        finish = self._finish or Finish("stop")
        reasons = (finish.reason, *finish.others)
        choices = [self._parts.get(index, _Parts()).choice(reason) for index, reason in enumerate(reasons)]
        if finish.stop:
            choices[0] = msgspec.structs.replace(choices[0], stop=finish.stop)
        return Completion(tuple(choices), self._usage or Usage(0, 0), self._extra)


class _Parts:
    """What a choice consists of so far."""

    def __init__(self) -> None:
        self._text = LongText()
        self._reasoning = LongText()
        self._calls: dict[int, list[ToolCallDelta]] = {}
        self._extra: dict[str, Any] = {}
        self._message_extra = ExtraFields()

    def add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case TextReplaced():
                self._text.replace(event.applied(str(self._text)))
            case ToolCallDelta():
                self._calls.setdefault(event.index, []).append(event)
            case Extra(of="message"):
                self._message_extra.add(event.fields)
            case Extra():
                self._extra |= event.fields
            case _:
                pass

    def events(self) -> Iterator[Event]:
        if reasoning := str(self._reasoning):
            yield ReasoningDelta(reasoning)
        if text := str(self._text):
            yield TextDelta(text)
        yield from itertools.chain.from_iterable(self._calls.values())
        if fields := self._message_extra.value():
            yield Extra("message", fields)
        if self._extra:
            yield Extra("choice", self._extra)

    def choice(self, reason: FinishReason) -> CompletionChoice:
        calls = tuple(_join(self._calls[index]) for index in sorted(self._calls))
        return CompletionChoice(
            str(self._text), str(self._reasoning), calls, reason, self._extra, self._message_extra.value()
        )


def _join(deltas: list[ToolCallDelta]) -> ToolCall:
    return ToolCall(
        id=next((delta.id for delta in deltas if delta.id), ""),
        name=next((delta.name for delta in deltas if delta.name), ""),
        arguments="".join(delta.arguments for delta in deltas),
        extra={name: value for delta in deltas for name, value in delta.extra.items()},
    )
