"""Calls as frames in a model's text: `[#7 call get_weather] {"city": "Paris"}` becomes deltas of a call.

A frame's number occurs nowhere in the conversation (see fold), so nothing that a text quotes can be taken for a call.
"""

import re

from gpt_oss_proxy.chat.events import FinishReason, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.filter import Filter
from gpt_oss_proxy.emulation.json_text import JsonReader
from gpt_oss_proxy.emulation.stop import WordFinder

_LONGEST_HEAD = 256
_HEAD_END = re.compile(r"[\]{]")
# What opens another's turn; everything else in a frame is meant as a call, however it is written.
_TURN = re.compile(r"\s*(user|system|developer|tool result)\b", re.IGNORECASE)
_OWN_TURN = re.compile(r"\s*assistant\s*")
_CALL = re.compile(r"\s*(?:(?:call|tool|function)\b:?\s*)?([^\s:]+)", re.IGNORECASE)
# What models put between a frame and its arguments, and the beginnings of it.
_BEFORE_ARGUMENTS = re.compile(r"(?:[\s:`*]|json|arguments)*", re.IGNORECASE)
_MAYBE_BEFORE_ARGUMENTS = re.compile(
    r"(?:[\s:`*]|json|arguments)*(?:j|js|jso|a|ar|arg|argu|argum|argume|argumen|argument)?", re.IGNORECASE
)


class Frames(Filter):
    """Finds calls in the text. What comes out as a call is not checked, it is only what the model wrote as one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._marker = f"[#{number} "
        self._finder = WordFinder([self._marker])
        self._head: str | None = None  # of a frame, while it is read
        self._arguments: JsonReader | None = None
        self._before = ""  # of the arguments: what may be the next frame instead
        self._bracketed = False
        self._between = False  # after a frame: space that follows belongs to it
        self._next_call = 0

    def watches_for(self) -> str | None:
        """In prose, what a frame begins with."""
        inside = self._arguments is not None or self._head is not None or self._between or self._finder.held
        return None if inside else self._marker[0]

    def text(self, delta: TextDelta) -> None:
        """Read on, from frame to frame."""
        text = delta.text
        while text and not self.finished:
            if self._arguments is not None:
                text = self._read_arguments(self._arguments, text)
            elif self._head is not None:
                text = self._read_head(self._head + text)
            else:
                text = self._read_prose(text)

    def finish(self, reason: FinishReason) -> None:
        """Say what was held back. The beginning of a frame is no text, it is a call that was cut."""
        if self._head is None and self._arguments is None:
            self._say_prose(self._finder.close())
        elif self._head and reason == "stop":
            self.emit(ToolCallDelta(self._next_call, name=self._head.strip()))
        self.end(reason)

    def _read_prose(self, text: str) -> str:
        self._say_prose(self._finder.feed(text))
        if not self._finder.found:
            return ""
        self._head = ""
        return self._finder.again()

    def _say_prose(self, text: str) -> None:
        if self._between:
            text = text.lstrip()
            if self._bracketed and text:
                self._bracketed = False
                text = text.removeprefix("]").lstrip()
            self._between = not text
        self.say(text)

    def _read_head(self, head: str) -> str:
        """Read `call NAME]`, or `call NAME ID]` as in the conversation's own frames, or what comes near to it."""
        end = _HEAD_END.search(head)
        if end is None and len(head) <= _LONGEST_HEAD:
            self._head = head
            return ""
        self._head = None
        inside = head[: end.start()] if end else head[:_LONGEST_HEAD]
        if _OWN_TURN.fullmatch(inside):
            self._between = True
            return head[len(inside) + 1 :]
        if _TURN.match(inside):  # the model goes on with the conversation by itself: its own turn ends here
            self.end("stop")
            return ""
        named = _CALL.match(inside)
        self.emit(ToolCallDelta(self._next_call, name=named[1] if named else "?"))
        self._next_call += 1
        self._arguments = JsonReader()
        self._before = ""
        self._bracketed = end is not None and end[0] == "{"  # the arguments, too, stand inside the frame
        return head[len(inside) + (0 if self._bracketed else 1) :]

    def _read_arguments(self, reader: JsonReader, text: str) -> str:
        """Read one JSON object; what stands there instead of one goes on, to be found faulty."""
        if not reader.text:
            text = self._before + text
            self._before = ""
            begin = text.find("{")
            if begin >= 0 and _BEFORE_ARGUMENTS.fullmatch(text, 0, begin):
                text = text[begin:]
            elif self._may_go_on(text):
                self._before = text
                return ""
            else:
                text = text.lstrip()
                if text.startswith(self._marker):
                    self._arguments = None
                    return text
        before = len(reader.text)
        rest = reader.feed(text)
        self.emit(ToolCallDelta(self._next_call - 1, arguments=reader.text[before:]))
        if reader.ended:
            self._arguments = None
            self._between = True
        return rest

    def _may_go_on(self, text: str) -> bool:
        """Return whether arguments, or the next frame, may still come behind this."""
        if len(text) > _LONGEST_HEAD:
            return False
        return _MAYBE_BEFORE_ARGUMENTS.fullmatch(text) is not None or self._marker.startswith(text.lstrip())
