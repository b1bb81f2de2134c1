"""What a filter is: it changes the events of one answer on their way, list by list.

Emulation is a row of filters. Each does for an upstream one thing that it cannot; what a filter does not change passes
in its place. Pure: no clock, no sockets, no randomness.
"""

import msgspec

from gpt_oss_proxy.chat.events import Event, Finish, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.errors import GatewayError


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with an answer: told to the model as `correction` if it may try again, to the client as `error`."""

    correction: str
    error: GatewayError
    repairable: bool = True


class Filter:
    """Events in, events out. A subclass overrides the kinds of events that it changes.

    `finished` says that the answer is over, maybe before the upstream says so; `fault` that it is none. `mark` is what
    it watches for: text without it would come out as it went in and be forgotten, so `feed` need not be asked; with ''
    that is so of all text, with None of none.
    """

    finished = False
    fault: Fault | None = None
    mark: str | None = None

    def __init__(self) -> None:
        self._events: list[Event] = []

    def feed(self, events: list[Event]) -> list[Event]:
        """Return what becomes of these events; nothing is read beyond a finish or a fault."""
        for event in events:
            if self.finished or self.fault:
                break
            match event:
                case TextDelta():
                    self.text(event)
                case ReasoningDelta():
                    self.reasoning(event)
                case ToolCallDelta():
                    self.call(event)
                case Finish():
                    self.finish(event.reason)
                case _:
                    self.emit(event)
        said, self._events = self._events, []
        self.mark = self.watches_for()
        return said

    def watches_for(self) -> str | None:
        """Return the `mark` from now on."""
        return None

    def ends_plainly(self) -> bool:
        """Return whether an end would go out as it comes, and nothing before it, if it came now."""
        return False

    def text(self, delta: TextDelta) -> None:
        """Take more text of the answer."""
        self.emit(delta)

    def reasoning(self, delta: ReasoningDelta) -> None:
        """Take more reasoning."""
        self.emit(delta)

    def call(self, delta: ToolCallDelta) -> None:
        """Take the beginning of a tool call, or more of it."""
        self.emit(delta)

    def finish(self, reason: FinishReason) -> None:
        """Take the end."""
        self.end(reason)

    def say(self, text: str, delta: TextDelta | None = None) -> None:
        """Let text through; `delta` is the event that may have brought just this text."""
        if delta is not None and text is delta.text:
            self.emit(delta)
        elif text:
            self.emit(TextDelta(text))

    def emit(self, event: Event) -> None:
        """Let an event through."""
        self._events.append(event)

    def end(self, reason: FinishReason) -> None:
        """End the answer here."""
        self.finished = True
        self.emit(Finish(reason))
