"""Tools for an upstream that takes one text or a list of texts: how they are described, and how calls are found.

A call is a frame, `[#7 call get_weather] {"city": "Paris"}`. Its number occurs nowhere in the conversation (see fold),
so nothing that anybody quotes can be taken for one.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gpt_oss_proxy.chat.events import FinishReason, TextDelta, ToolCallDelta
from gpt_oss_proxy.emulation.filter import Filter
from gpt_oss_proxy.emulation.json_schema import Schema, SchemaError
from gpt_oss_proxy.emulation.json_text import JsonReader
from gpt_oss_proxy.emulation.stop import WordFinder
from gpt_oss_proxy.errors import InvalidRequest

_MOST_TOOLS = 128
_LONGEST_NAME = 128
_LONGEST_HEAD = 256
# What opens another's turn; everything else in a frame is meant as a call, however it is written.
_TURN = re.compile(r"\s*(user|system|developer|tool result)\b", re.IGNORECASE)
_OWN_TURN = re.compile(r"\s*assistant\s*")
_CALL = re.compile(r"\s*(?:(?:call|tool|function)\b:?\s*)?([^\s:]+)", re.IGNORECASE)
# What would end a tool's name in a frame, or be taken out of it with harmony's markup.
_UNCALLABLE = re.compile(r"[\s\[\]{}:]|<\|")
# What models put between a frame and its arguments, and the beginnings of it.
_BEFORE_ARGUMENTS = re.compile(r"(?:[\s:`*]|json|arguments)*", re.IGNORECASE)
_MAYBE_BEFORE_ARGUMENTS = re.compile(
    r"(?:[\s:`*]|json|arguments)*(?:j|js|jso|a|ar|arg|argu|argum|argume|argumen|argument)?", re.IGNORECASE
)


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call. `parameters` is the schema of its arguments, an object."""

    name: str
    description: str
    parameters: Schema
    written: str  # all of it, as JSON text


class Tools(msgspec.Struct, frozen=True):
    """What may be called, and whether something must be: without a call an answer is none then."""

    tools: Mapping[str, Tool]
    must_call: bool = False
    parallel: bool = True


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    type: Literal["function"]
    function: _Function


class _Named(msgspec.Struct, tag_field="type", tag="function"):
    function: _Function


class _AllowedTools(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: list[_Named]


class _Allowed(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: _AllowedTools


def read_tools(options: Mapping[str, Any]) -> Tools | None:
    """Return the tools that a request offers, None if the model must not call any. Raises InvalidRequest."""
    values = options.get("tools") or ()
    if len(values) > _MOST_TOOLS:
        raise _invalid("tools", f"there may be {_MOST_TOOLS} at most")
    tools = [_tool(value, index) for index, value in enumerate(values)]
    choice = options.get("tool_choice") or "auto"
    if not tools:
        if choice not in ("auto", "none"):
            raise _invalid("tool_choice", "there are no tools to choose from")
        return None
    if choice == "none":
        return None
    found: dict[str, Tool] = {}
    for index, tool in enumerate(tools):
        if found.setdefault(tool.name, tool) is not tool:
            raise _invalid(f"tools[{index}].function.name", f"there are two tools named {tool.name!r}")
    names, must_call = _choice(choice, found)
    parallel = options.get("parallel_tool_calls") is not False
    return Tools({name: found[name] for name in names}, must_call, parallel)


def instruct(tools: Tools, number: int) -> str:
    """Return what tells the model of its tools, and how they are called."""
    names = list(tools.tools)
    unknown = next(name for name in map("example_{}".format, range(len(names) + 1)) if name not in tools.tools)
    lines = [
        "You can call tools. Each of the following lines describes one, with the JSON schema of its arguments:",
        *(tool.written for tool in tools.tools.values()),
        "To call a tool, write exactly this on a line of its own, without any markup around it, with the tool's name "
        "and its arguments as one JSON object that fits the schema:",
        form(number),
        f'(If there were a tool named {unknown}, a call could be: [#{number} call {unknown}] {{"size": 2}})',
    ]
    if tools.parallel:
        lines.append("You may write several such lines, one for each call. Then end your turn.")
    else:
        lines.append("Call at most one tool in a turn, then end your turn.")
    lines.append("The results will be in the next turns. Write no such line for anything but a call.")
    if not tools.must_call:
        lines.append("Call a tool if you need it; otherwise answer in plain text.")
    elif len(names) == 1:
        lines.append(f"In this turn you must call the tool {names[0]}.")
    else:
        lines.append("In this turn you must call at least one tool.")
    return "\n".join(lines)


def form(number: int) -> str:
    """Return how a call is written."""
    return f"[#{number} call NAME] ARGUMENTS"


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


_HEAD_END = re.compile(r"[\]{]")


def _tool(value: Any, index: int) -> Tool:
    path = f"tools[{index}]"
    try:
        function = msgspec.convert(value, _Tool).function
    except msgspec.ValidationError as error:
        raise _invalid(path, str(error)) from error
    if len(function.name) > _LONGEST_NAME:
        raise _invalid(f"{path}.function.name", f"a tool's name has {_LONGEST_NAME} characters at most")
    if not function.name or _UNCALLABLE.search(function.name):
        raise _invalid(f"{path}.function.name", "a tool's name has no spaces, brackets, braces or colons, and no <|")
    parameters = {"type": "object", "properties": {}} if function.parameters is None else function.parameters
    try:
        schema = Schema(parameters)
    except SchemaError as error:
        raise _invalid(f"{path}.function.parameters", str(error)) from error
    described = {"name": function.name, "description": function.description or "", "parameters": parameters}
    return Tool(function.name, function.description or "", schema, json.dumps(described, ensure_ascii=False))


def _choice(choice: Any, tools: Mapping[str, Tool]) -> tuple[list[str], bool]:
    """Return which tools may be called, and whether one must be."""
    if choice in ("auto", "required"):
        return list(tools), choice == "required"
    try:
        wanted = msgspec.convert(choice, _Named | _Allowed)
    except msgspec.ValidationError as error:
        raise _invalid(
            "tool_choice", "it must be none, auto, required, name a function or list allowed_tools"
        ) from error
    allowed = [wanted] if isinstance(wanted, _Named) else wanted.allowed_tools.tools
    names = [named.function.name for named in allowed]
    for name in names:
        if name not in tools:
            raise _invalid("tool_choice", f"there is no tool named {name!r}")
    return names, isinstance(wanted, _Named) or wanted.allowed_tools.mode == "required"


def _invalid(param: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {reason}.", code="invalid_value", param=param)
