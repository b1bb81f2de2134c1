"""What an upstream that takes and gives text only cannot do, done for it on the neutral events.

`prepare` decides how. Here the upstream is asked and its answer filtered. If the answer has a fault that can be mended,
the model is shown the fault, and asked once more.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from gpt_oss_proxy.chat.events import (
    Event,
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
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.emulation.calls import Calls
from gpt_oss_proxy.emulation.filter import Fault, Filter
from gpt_oss_proxy.emulation.prepare import Emulation
from gpt_oss_proxy.emulation.second_try import SecondTry
from gpt_oss_proxy.emulation.tokens import Vocabulary
from gpt_oss_proxy.net.lists import ClosableLists, Opened, Shortcut

Ask = Callable[[ChatRequest, Shortcut | None], ClosableLists]

_LONG_TEXT = 8192  # characters
_SPECIAL = frozenset({TextReplaced, Usage, Finish})


def emulate(
    emulation: Emulation,
    ask: Ask,
    vocabulary: Vocabulary,
    new_id: Callable[[], str],
    shortcut: Shortcut | None = None,
) -> ClosableLists:
    """Return the lists of an answer that is as it was asked for. They raise as `ask` does, and the error of a fault.

    `new_id` returns ids for tool calls. What takes the shortcut is in none of the lists.
    """
    if not emulation.changes:
        return ask(emulation.request, shortcut)
    return _Emulated(emulation, ask, vocabulary, new_id, None if emulation.is_held else shortcut)


class _Emulated(Opened):
    """The lists of a first try, and, if that has a fault that can be mended, of a second one."""

    def __init__(
        self,
        emulation: Emulation,
        ask: Ask,
        vocabulary: Vocabulary,
        new_id: Callable[[], str],
        shortcut: Shortcut | None,
    ) -> None:
        self._emulation = emulation
        self._ask = ask
        self._shortcut = shortcut
        self._vocabulary = vocabulary
        self._new_id = new_id
        self._running: Lists | None = None

    def open(self) -> Iterator[list[Event]]:
        """Return the lists of the tries, one after the other."""
        return itertools.chain.from_iterable(self._tries())

    def end(self) -> None:
        """End the try that runs."""
        self._shortcut = None
        if self._running:
            self._running.close()

    def _tries(self) -> Iterator[Lists]:
        emulation = self._emulation
        first = _Try(emulation, self._vocabulary, emulation.calls(self._new_id))
        lists = self._asked(first, emulation.request)
        yield self._run(first.held(lists) if emulation.is_held else lists)
        if first.fault is None:
            return
        if not first.fault.repairable:
            raise first.fault.error
        # Where nothing has gone out, the second try need not go on where the first had come to.
        gone_out = None if emulation.is_held else first.calls
        second = _Try(emulation, self._vocabulary, emulation.calls(self._new_id, gone_out), before=first)
        yield self._run(self._asked(second, first.correction(first.fault)))
        if second.fault:
            raise second.fault.error

    def _asked(self, attempt: "_Try", request: ChatRequest) -> Lists:
        return attempt.run(self._ask(request, attempt.shortcut(self._shortcut) if self._shortcut else None))

    def _run(self, lists: Lists) -> Lists:
        self._running = lists
        return lists


class _Try:
    """One asking, and what becomes of its answer."""

    def __init__(
        self, emulation: Emulation, vocabulary: Vocabulary, calls: Calls | None, before: "_Try | None" = None
    ) -> None:
        self.calls = calls
        self.fault: Fault | None = None
        self._emulation = emulation
        self._vocabulary = vocabulary
        self.filters = emulation.filters(vocabulary, calls)
        self._before = before
        if before and not emulation.is_held:
            self.filters += before.followed()
        self._raw = LongText()  # what the model wrote
        self._out: LongText | None = None  # what of it has gone out, where that differs
        self._reasoned = False  # reasoning has gone out
        self._usage: Usage | None = None
        self._said = False
        self._finished = False
        self._heard_out = False

    def run(self, lists: ClosableLists) -> Lists:
        """Yield the filtered lists, up to the answer's end or its fault; at a cut the upstream is not heard out."""
        try:
            for events in lists:
                event = events[0] if len(events) == 1 else None
                if type(event) is TextDelta:  # as nearly all lists of a long answer are
                    if self._pass(bool, event.text):  # a text is never empty, so bool says yes
                        yield events
                        continue
                elif self._are_all(events):
                    yield events
                    continue
                for part in _in_parts(events):
                    yield self._filter(part)
                    if self.fault or (self._finished and not self._heard_out):
                        return
        finally:
            lists.close()

    def shortcut(self, through: Shortcut) -> Shortcut:
        """Return ours, for what no filter would change."""
        return partial(self._pass, through)

    def _pass(self, through: Shortcut, text: str) -> bool:
        """Return whether this text goes through as it is: no filter would change or remember anything of it."""
        if self._finished or len(text) > _LONG_TEXT:
            return False
        for step in self.filters:  # without a call for each
            if step.trigger is None or (step.trigger and step.trigger in text):
                return False
        if not through(text):
            return False
        self._raw.append(text)
        if self._out is not None:
            self._out.append(text)
        self._said = True
        return True

    def held(self, lists: Lists) -> Lists:
        """Yield signs of life, and at the end all events at once, unless there is a fault."""
        events: list[Event] = []
        with contextlib.closing(lists):
            for found in lists:
                started: list[Event] = [event for event in found if isinstance(event, Started)]
                events += [event for event in found if not isinstance(event, Started)]
                if self._finished and events:
                    yield started + events
                    events = []
                else:
                    yield started

    def correction(self, fault: Fault) -> ChatRequest:
        """Return the request for a second try."""
        request = self._emulation.request
        written = Message("assistant", (Text(str(self._raw)),))
        correction = Message("user", (Text(fault.correction),))
        return msgspec.structs.replace(request, messages=(*request.messages, written, correction))

    def followed(self) -> list[Filter]:
        """Return the filter of a try that follows what has gone out of this one."""
        text, calls = str(self._raw if self._out is None else self._out), bool(self.calls and self.calls.any_gone_out)
        if not (text or calls or self._reasoned):
            return []
        waits = self._emulation.tools is not None and (calls or bool(text))
        is_json = self._emulation.wanted_json is not None
        return [SecondTry(text, reasoned=self._reasoned, waits=waits, is_json=is_json)]

    def _are_all(self, events: list[Event]) -> bool:
        """Return whether these are the last events, and no filter would change any, as mostly none does. Note them."""
        if not events or type(events[-1]) is not Finish or self._finished or self._usage or self._before:
            return False
        said = events[:-2] if len(events) > 1 and type(events[-2]) is Usage else events[:-1]
        texts = [event.text for event in said if type(event) is TextDelta and len(event.text) <= _LONG_TEXT]
        if len(texts) < len(said) - (type(events[0]) is Started):  # there is something else, too
            return False
        for step in self.filters:
            if not (_passes(step.trigger, said) and step.ends_plainly()):
                return False
        self._note(texts, texts)
        self._said = self._finished = self._heard_out = True
        return True

    def _filter(self, events: list[Event]) -> list[Event]:
        for event in events:
            if type(event) in _SPECIAL:
                return self._filter_special(events)
        return self._run_filters(events)

    def _filter_special(self, events: list[Event]) -> list[Event]:
        for position, event in enumerate(events):
            if isinstance(event, TextReplaced):
                before = self._run_filters(events[:position])
                return [*before, *self._replace(event), *self._filter(events[position + 1 :])]
        said = self._run_filters([event for event in events if not isinstance(event, Usage | Finish)])
        if not self._finished and not self.fault:
            self._usage = next((event for event in events if isinstance(event, Usage)), self._usage)
            end: list[Event] = [event for event in events if isinstance(event, Finish)]
            said += self._run_filters(end)
            self._heard_out = bool(end)
        if self._finished and (usage := self._whole_usage()):
            said.insert(-1, usage)
        return said

    def _run_filters(self, events: list[Event]) -> list[Event]:
        written = _texts(events)
        fault: Fault | None = None
        for step in self.filters:
            if not _passes(step.trigger, events):
                events = step.feed(events)
            fault = fault or step.fault
        self._note(written, _texts(events))
        if events:
            self._reasoned = self._reasoned or any(type(event) is ReasoningDelta for event in events)
            self._said = True
            self._finished = self._finished or isinstance(events[-1], Finish)
        if not self._finished:  # a stop word before it has ended the answer
            self.fault = fault
        return events

    def _replace(self, event: TextReplaced) -> list[Event]:
        """Replace the text that the upstream takes back, unless some of it has gone out."""
        shown = (self._said and self._emulation.request.stream) or (self.calls and self.calls.any_gone_out)
        if shown or self._finished or self.fault or self._before:
            return []
        self.filters[:] = self._emulation.filters(self._vocabulary, self.calls)
        text = event.applied(str(self._raw))
        self._raw, self._out = LongText(), None
        events = self._run_filters([TextDelta(text)] if text else [])
        replaced = "".join(event.text for event in events if isinstance(event, TextDelta))
        return [TextReplaced(replaced), *(event for event in events if not isinstance(event, TextDelta))]

    def _note(self, written: list[str], gone_out: list[str]) -> None:
        if self._out is None and gone_out != written and not self._emulation.is_held:
            self._out = self._raw.copy()
        for text in written:
            self._raw.append(text)
        if self._out is not None:
            for text in gone_out:
                self._out.append(text)

    def _whole_usage(self) -> Usage | None:
        """Return what the upstream reported of all tries; a number that lacks some of them would be wrong."""
        if self._before is None or self._usage is None or not self._heard_out:
            return self._usage if self._heard_out else None
        before = self._before._usage
        return add(before, self._usage) if before else None


def _passes(trigger: str | None, events: list[Event]) -> bool:
    """Return whether a filter with this trigger would change and remember nothing of these events."""
    if trigger is None:
        return False
    for event in events:
        kind = type(event)
        if kind is TextDelta:
            if trigger and trigger in event.text:  # type: ignore[union-attr] # it is one
                return False
        elif kind is Finish or kind is ToolCallDelta:
            return False
    return True


def _texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if type(event) is TextDelta]


def _in_parts(events: list[Event]) -> Iterable[list[Event]]:
    """Return the list; around a long text several ones, between which others run, and none of which costs much."""
    for event in events:
        if type(event) is TextDelta and len(event.text) > _LONG_TEXT:
            return _short_parts(events)
    return (events,)


def _short_parts(events: list[Event]) -> Iterator[list[Event]]:
    for event in events:
        if isinstance(event, TextDelta):
            for start in range(0, len(event.text), _LONG_TEXT):
                yield [TextDelta(event.text[start : start + _LONG_TEXT])]
                yield []  # at a sign of life others have their turn
        else:
            yield [event]


def add(one: Usage, other: Usage) -> Usage:
    """Return the sum."""
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
        one.cached_tokens + other.cached_tokens,
    )
