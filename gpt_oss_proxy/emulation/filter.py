"""Filters: each changes the events of one answer, batch by batch.

Emulation is a chain of filters. Each adds one feature that an upstream lacks, and passes on all other events unchanged
and in order. Pure: no clock, no sockets, no randomness.
"""

import msgspec

from gpt_oss_proxy.chat.events import Event, Finish, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta
from gpt_oss_proxy.errors import GatewayError


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with an answer: `correction` goes to the model if it may try again, `error` to the client."""

    correction: str
    error: GatewayError
    repairable: bool = True


class Filter:
    """Events in, events out. A subclass overrides the kinds of events that it changes.

    `finished` means that the answer is over, perhaps before the upstream's end; `fault` that it is invalid. `trigger`
    is a text that the filter needs to see: a text without it would pass unchanged and leave no state, so `feed` can be
    skipped for it; with '' it can be skipped for every text, with None for no text.
    """

    finished = False
    fault: Fault | None = None
    trigger: str | None = None
    _stop = ""  # the stop word of the upstream's Finish

    def __init__(self) -> None:
        self._events: list[Event] = []

    def feed(self, events: list[Event]) -> list[Event]:
        """Return the resulting events; events after a finish or a fault are dropped."""
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
                    self._stop = event.stop
                    self.finish(event.reason)
                case _:
                    self.emit(event)
        said, self._events = self._events, []
        self.trigger = self.watches_for()
        return said

    def watches_for(self) -> str | None:
        """Return the `trigger` from now on."""
        return None

    def ends_plainly(self) -> bool:
        """Return whether a Finish that came now would pass unchanged, with no event before it."""
        return False

    def text(self, delta: TextDelta) -> None:
        """Handle more text of the answer."""
        self.emit(delta)

    def reasoning(self, delta: ReasoningDelta) -> None:
        """Handle more reasoning."""
        self.emit(delta)

    def call(self, delta: ToolCallDelta) -> None:
        """Handle the beginning of a tool call, or more of it."""
        self.emit(delta)

    def finish(self, reason: FinishReason) -> None:
        """Handle the end."""
        self.end(reason)

    def say(self, text: str, delta: TextDelta | None = None) -> None:
        """Emit text; `delta` is passed on unchanged if it holds just this text."""
        if delta is not None and text is delta.text:
            self.emit(delta)
        elif text:
            self.emit(TextDelta(text))

    def emit(self, event: Event) -> None:
        """Emit an event."""
        self._events.append(event)

    def end(self, reason: FinishReason, stop: str = "") -> None:
        """End the answer here; `stop` is the stop word that ends it."""
        self.finished = True
        self.emit(Finish(reason, stop=(stop or self._stop) if reason == "stop" else ""))
