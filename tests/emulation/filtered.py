"""What the tests of filters share: text cut into events anywhere, and what comes out, told shortly."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Event, Finish, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.filter import Filter


def cut(text: str, places: Iterable[int]) -> list[str]:
    """Return the text in pieces."""
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(borders)]


PLACES = st.lists(st.integers(0, 10_000), max_size=30)


def texts(pieces: Iterable[str]) -> list[Event]:
    return [TextDelta(piece) for piece in pieces]


def run(filters: Filter | Sequence[Filter], events: Iterable[Event], reason: FinishReason = "stop") -> list[Event]:
    """Return what comes out if each event comes alone, up to the finish or a fault."""
    row = [filters] if isinstance(filters, Filter) else filters
    out: list[Event] = []
    for event in (*events, Finish(reason)):
        passing = [event]
        for step in row:
            passing = step.feed(passing)
        out += passing
        if any(step.fault for step in row) or (out and isinstance(out[-1], Finish)):
            break
    return out


def text_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def reasoning_of(events: Iterable[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def calls_of(events: Iterable[Event]) -> list[tuple[str, str]]:
    """Return (name, arguments) of each call; the order of its deltas is checked."""
    calls: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, ToolCallDelta):
            if event.name:
                assert event.index == len(calls)
                calls.append((event.name, event.arguments))
            else:
                assert event.index == len(calls) - 1
                name, arguments = calls[-1]
                calls[-1] = name, arguments + event.arguments
    return calls


def reason_of(events: Sequence[Event]) -> str | None:
    assert sum(isinstance(event, Finish) for event in events) <= 1
    return events[-1].reason if events and isinstance(events[-1], Finish) else None
