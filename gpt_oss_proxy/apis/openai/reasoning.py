"""Where an answer shows its reasoning: clients look for it in different fields, in the text, or cannot bear it.

`both`, `reasoning` and `reasoning_content` are fields beside the text. `think-tags` is the text itself, which then
begins with `<think>…</think>`, as models write it that know no fields. `hidden` is nowhere.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from gpt_oss_proxy.chat.completion import CompletionChoice
from gpt_oss_proxy.chat.events import Choice, Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta

ReasoningFormat = Literal["both", "reasoning", "reasoning_content", "think-tags", "hidden"]
FIELDS: Mapping[ReasoningFormat, tuple[str, ...]] = {
    "both": ("reasoning", "reasoning_content"),
    "reasoning": ("reasoning",),
    "reasoning_content": ("reasoning_content",),
    "think-tags": (),
    "hidden": (),
}
_OPEN, _CLOSE = "<think>", "</think>"


def placed(choice: CompletionChoice, where: ReasoningFormat) -> CompletionChoice:
    """Return the choice of a whole answer with its reasoning in the text, gone, or left for a field."""
    if not choice.reasoning or FIELDS[where]:
        return choice
    text = f"{_OPEN}{choice.reasoning}{_CLOSE}{choice.text}" if where == "think-tags" else choice.text
    return msgspec.structs.replace(choice, text=text, reasoning="")


def placing(where: ReasoningFormat) -> Callable[[list[Event]], list[Event]] | None:
    """Return what does the same to the lists of one stream in turn, None where there is nothing to do."""
    if FIELDS[where]:
        return None
    return _Tagged().place if where == "think-tags" else _without_reasoning


def _without_reasoning(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, ReasoningDelta)]


class _Tagged:
    """Reasoning at the start of each choice's text. What comes after text or a call is left out: it has no place."""

    def __init__(self) -> None:
        self._thinking: dict[int, bool] = {}  # by choice: True inside the tags, False behind them

    def place(self, events: list[Event]) -> list[Event]:
        placed: list[Event] = []
        index = 0
        for event in events:
            match event:
                case Choice():
                    index = event.index
                case ReasoningDelta():
                    placed += self._think(index, event.text)
                    continue
                case TextDelta() | ToolCallDelta():
                    placed += self._close(index)
                    self._thinking[index] = False
                case Finish():  # it ends all choices
                    for other in sorted(self._thinking):
                        if closing := self._close(other):
                            placed += [Choice(other), *closing]
                case _:
                    pass
            placed.append(event)
        return placed

    def _think(self, index: int, text: str) -> list[Event]:
        if index not in self._thinking:
            self._thinking[index] = True
            return [TextDelta(_OPEN + text)]
        return [TextDelta(text)] if self._thinking[index] else []

    def _close(self, index: int) -> list[Event]:
        return [TextDelta(_CLOSE)] if self._thinking.get(index) else []
