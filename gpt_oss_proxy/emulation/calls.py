"""Tool calls as a model wrote them → calls that fit their tools' schemas, emitted as early as that is certain.

A member of a call's arguments is emitted when it is complete and fits; a member that may be any string is emitted as it
is written. So what was emitted of a faulty call can still become a valid one: the model is shown its error once, and
its second try continues the call where the first one has stopped.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from gpt_oss_proxy.chat.events import FinishReason, TextDelta, ToolCallDelta
from gpt_oss_proxy.chat.long_text import LongText
from gpt_oss_proxy.emulation.filter import Fault, Filter
from gpt_oss_proxy.emulation.json_text import JsonReader, write_json
from gpt_oss_proxy.emulation.tools import OfferedTool, Tools
from gpt_oss_proxy.errors import ToolCallInvalid
from gpt_oss_proxy.quoting import quote

# A member whose value is an open string, and an incomplete escape at the end of such a string.
_OPEN_TEXT = re.compile(r'\s*("(?:[^"\\]|\\.)*+")\s*:\s*"')
_OPEN_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2})?\Z")  # or half of a surrogate pair


class _Faulty(Exception):
    """Why the call is invalid."""


class Calls(Filter):
    """Lets only valid calls through. `tools` is None if the model must not call any.

    `form` describes how to write a call; `first` is the failed first try if this is the second one.
    """

    def __init__(
        self, tools: Tools | None, *, form: str, new_id: Callable[[], str], first: "Calls | None" = None
    ) -> None:
        super().__init__()
        self._tools = tools
        self._form = form
        self._new_id = new_id
        self._again = first is not None
        self._quiet = first is not None and first._begun is not None
        self._call: _Call | None = None  # the call that is being written
        self._begun: _Call | None = first._begun if first else None  # an emitted call that must be completed
        self._done: list[tuple[str, Any]] = [*first._done] if first else []

    @property
    def any_gone_out(self) -> bool:
        """Whether a call has begun to be emitted."""
        return bool(self._begun or self._done)

    def watches_for(self) -> str | None:
        """Text matters only within a call, and after a failed one."""
        return None if self._call or self._quiet else ""

    def ends_plainly(self) -> bool:
        """Without a call the reason stays unchanged, unless a call is required."""
        must_call = self._tools is not None and self._tools.must_call
        return not (self._call or self.any_gone_out or must_call)

    def text(self, delta: TextDelta) -> None:
        """Let text through, except the text around a correction."""
        if self._call and delta.text.strip():
            self._fail("its JSON object is not complete")
        elif not self._quiet:
            self.emit(delta)

    def call(self, delta: ToolCallDelta) -> None:
        """Handle the beginning of a call, or more of it."""
        try:
            if delta.name:
                self._end_call()
                if not self.finished:
                    self._begin(delta)
            if self._call and not self.finished:
                self._go_on(self._call, delta.arguments)
        except _Faulty as error:
            self._fail(str(error))

    def finish(self, reason: FinishReason) -> None:
        """End: emit what there is of a cut answer; for a complete one check that it has the required calls."""
        if reason in ("length", "content_filter"):
            if self._call and not self._again:
                self._emit(self._call, self._call.take_rest())
            self.end(reason)
            return
        try:
            self._end_call()
            if self.finished:
                return
            if self._begun or (self._tools and self._tools.must_call and not self._done):
                raise _Faulty("it is missing")
        except _Faulty as error:
            self._fail(str(error))
        else:
            self.end("tool_calls" if self._done else reason)

    def _begin(self, delta: ToolCallDelta) -> None:
        tool = self._tool(delta.name)
        if self._done and self._tools and not self._tools.parallel:
            self.end("tool_calls")
            return
        self._call = _Call(tool, delta.id or self._new_id(), len(self._done))
        if not self._again:
            self._begun = self._call
            self.emit(ToolCallDelta(self._call.index, self._call.id, tool.name))

    def _tool(self, name: str) -> OfferedTool:
        tools = self._tools.tools if self._tools else {}
        # Some models prefix the name with the harmony format's namespace.
        tool = tools.get(name) or tools.get(name.removeprefix("functions."))
        if tool is None:
            known = f"there are: {', '.join(tools)}" if tools else "there are no tools here: answer in plain text"
            raise _Faulty(f"there is no tool named {name!r}; {known}")
        return tool

    def _go_on(self, call: "_Call", text: str) -> None:
        certain = call.feed(text)
        if not self._again:
            self._emit(call, certain)
        if call.ended:
            self._end_call()

    def _end_call(self) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        certain = call.close()
        if not self._again:
            self._emit(call, certain)
        elif (call.tool.name, call.arguments) in self._done:
            return  # it was valid in the first try
        else:
            self._emit_second_try(call)
        self._begun = None
        self._done.append((call.tool.name, call.arguments))
        if self._tools and not self._tools.parallel:
            self.end("tool_calls")

    def _emit_second_try(self, call: "_Call") -> None:
        first = self._begun
        if first is None:
            self.emit(ToolCallDelta(call.index, call.id, call.tool.name))
            self._emit(call, call.gone_out)
            return
        rest = first.continuation(call.arguments) if first.tool.name == call.tool.name else None
        if rest is None:
            raise _Faulty("its correction does not go on where it had come to")
        self._emit(first, rest)

    def _emit(self, call: "_Call", text: str) -> None:
        if text:
            self.emit(ToolCallDelta(call.index, arguments=text))

    def _fail(self, reason: str) -> None:
        name = self._begun.tool.name if self._begun else ""
        correction = f"Your call of {name or 'a tool'} is not valid: {reason}."
        if self._tools:
            correction += f" Write it again, corrected, as {self._form}, and nothing else."
        self.fault = Fault(correction, ToolCallInvalid(f"The model returned no valid tool call: {quote(reason)}."))


class _Call:
    """A call that is being written."""

    def __init__(self, tool: OfferedTool, call_id: str, index: int) -> None:
        self.tool = tool
        self.id = call_id
        self.index = index
        self.reader = JsonReader()
        self.arguments: dict[str, Any] = {}  # those of them that are certain
        self._names: set[str] = set()  # of all members, including those left out
        self._member_start = 1  # behind the bracket
        self._passed = 0  # length of the text that is certain or left out
        self._certain: list[str] = []  # certain text, not returned yet
        self._gone_out = LongText()
        self._is_open = False  # its bracket is certain
        self._open_text_start = 0  # of the string that was checked last
        self._open_text_fits = False

    @property
    def ended(self) -> bool:
        return self.reader.ended

    @property
    def gone_out(self) -> str:
        """All text that was returned as certain."""
        return str(self._gone_out)

    def feed(self, text: str) -> str:
        """Return the text that is certain now. Raises _Faulty."""
        reader = self.reader
        reader.feed(text if reader.text else text.lstrip())  # text behind the object is ignored
        if reader.text and reader.text[0] != "{":
            raise _Faulty("its arguments must be one JSON object")
        for comma in reader.commas:
            self._take_member(comma)
        reader.commas.clear()
        if reader.ended:
            self._take_whole()
        elif reader.in_string and reader.depth == 1:
            self._take_open_text()
        return self._take_certain()

    def close(self) -> str:
        """Return the text that is certain at the call's end. Raises _Faulty."""
        if not self.reader.text:  # no arguments can only mean {}
            return self.feed("{}")
        if not self.reader.ended:
            raise _Faulty("its JSON object is not complete")
        return self._take_certain()

    def take_rest(self) -> str:
        """Return all text that was not returned yet, certain or not."""
        self._pass(len(self.reader.text))
        return self._take_certain()

    def continuation(self, arguments: dict[str, Any]) -> str | None:
        """Return the text that completes the emitted part to `arguments`; None if that is impossible."""
        sent = JsonReader()
        sent.feed(self.gone_out)
        if not sent.text:
            return write_json(arguments)
        # After the last comma comes a complete member, or one with an open string.
        last = sent.commas[-1] if sent.commas else 0
        others, text = dict(arguments), ""
        for name, value in _read_json(f"{sent.text[: last or 1] if sent.in_string else sent.text}}}").items():
            if name not in others or json.dumps(others.pop(name)) != json.dumps(value):
                return None
        if sent.in_string and (begun := _OPEN_TEXT.match(sent.text, last + 1)):
            said = _read_json(f'"{sent.text[begun.end() :]}"')
            wanted = others.pop(_read_json(begun[1]), None)
            if not isinstance(wanted, str) or not wanted.startswith(said):
                return None
            text = write_json(wanted[len(said) :])[1:]
        members = (f", {write_json(name)}: {write_json(value)}" for name, value in others.items())
        return text + "".join(members) + "}"

    def _take_certain(self) -> str:
        certain = "".join(self._certain)
        self._certain.clear()
        self._gone_out.append(certain)
        return certain

    def _pass(self, end: int) -> None:
        """Mark the text up to `end` as certain."""
        if end > self._passed:
            self._add(self.reader.text[self._passed : end])
            self._passed = end

    def _add(self, text: str) -> None:
        """Add text of the object, with its bracket, or with the comma before a member, as needed."""
        if not self._is_open and text[0] != "{":  # the first members were left out
            text = "{" + text.removeprefix(",").lstrip()
        self._is_open = True
        self._certain.append(text)

    def _take_member(self, end: int) -> None:
        member = _read_json(f"{{{self.reader.text[self._member_start : end]}}}")
        if len(member) != 1:
            raise _Faulty("its arguments are no valid JSON")
        ((name, value),) = member.items()
        if name in self._names:
            raise _Faulty(f"{name!r} stands twice in its arguments")
        kept, fault = self.tool.parameters.fitted_member(name, value)
        if fault:
            raise _Faulty(fault)
        if kept and kept[name] is value:
            self._pass(end)
        elif kept:
            self._add(f", {write_json(name)}: {write_json(kept[name])}")
        self._names.add(name)
        self.arguments |= kept
        self._member_start = end + 1
        self._passed = end

    def _take_whole(self) -> None:
        end = len(self.reader.text) - 1
        if self._names or self.reader.text[self._member_start : end].strip():
            self._take_member(end)
        if fault := self.tool.parameters.fault(self.arguments):
            raise _Faulty(fault)
        self._pass(end + 1)

    def _take_open_text(self) -> None:
        """Pass on an open string as far as it is written, if the schema allows any string."""
        start = self.reader.string_start
        if start != self._open_text_start:
            self._open_text_start = start
            begun = _OPEN_TEXT.fullmatch(self.reader.text, self._member_start, start)
            name = _read_json(begun[1]) if begun else ""
            fits = begun is not None and name not in self._names and self.tool.parameters.takes_any_text(name)
            self._open_text_fits = fits
        if self._open_text_fits:
            end = len(self.reader.text)
            escape = self.reader.last_escape
            if escape >= start and _OPEN_ESCAPE.match(self.reader.text, escape):
                end = escape
            self._pass(end)


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _Faulty("its arguments are no valid JSON") from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice")
    return value
