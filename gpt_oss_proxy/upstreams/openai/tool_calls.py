"""Assigns the elements of `tool_calls` to calls: servers disagree on ids, on indexes, and on the order of pieces.

A new id begins a call, even under a used index. Without an id, a different name begins one, and so does the same name
after complete arguments; else the index decides. An element with neither is a whole call. A call is emitted once its
name is known.
"""

import uuid
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from gpt_oss_proxy.emulation.json_text import JsonReader
from gpt_oss_proxy.errors import UpstreamProtocolError
from gpt_oss_proxy.upstreams.values import json_text

_KNOWN = frozenset({"id", "index", "type", "function", "name", "arguments"})
_IN_FUNCTION = frozenset({"name", "arguments", "parameters", "input"})
_ARGUMENTS = ("arguments", "parameters", "input")  # the first one present
_OLDER = "function_call"  # in place of an index, for the one call of the older spelling


def new_call_id() -> str:
    """Return an id that no other call of the conversation has."""
    return f"call_{uuid.uuid4().hex}"


class Emit(Protocol):
    """Emits the beginning of a call, or more of its arguments. See Decoder.call."""

    def __call__(
        self, index: int, *, call_id: str = "", name: str = "", arguments: str = "", extra: dict[str, Any] | None = None
    ) -> None:
        """Emit it."""


class _Call(msgspec.Struct):
    """A call so far. `number` counts the emitted calls; it is -1 while the name is not known."""

    id: str
    has_own_id: bool
    number: int = -1
    name: str = ""
    has_arguments: bool = False
    pending: list[str] = []  # arguments that came before the name
    unread: list[str] = []  # arguments that the reader has not parsed, because `is_whole` is rarely needed
    reader: JsonReader = msgspec.field(default_factory=JsonReader)
    extra: dict[str, Any] = {}

    @property
    def is_emitted(self) -> bool:
        return self.number >= 0

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a complete object."""
        self.reader.feed("".join(self.unread))
        self.unread.clear()
        return self.reader.ended


class ToolCalls:
    """The calls of one answer."""

    def __init__(self, emit: Emit, new_id: Callable[[], str]) -> None:
        """`new_id` returns an id for a call to which the server gives none."""
        self._emit = emit
        self._new_id = new_id
        self._calls: list[_Call] = []
        self._emitted = 0
        self._by_id: dict[str, _Call] = {}
        self._whole: dict[str, str] = {}  # id → the first piece of its arguments, which may be all of them
        self._by_index: dict[int | str, _Call] = {}

    def __bool__(self) -> bool:
        return bool(self._emitted)

    @property
    def are_whole(self) -> bool:
        """Whether each call's arguments are a complete object, or missing."""
        return all(not call.has_arguments or call.is_whole for call in self._calls)

    def take(self, elements: Any) -> None:
        """Decode the `tool_calls` of a delta or a message. Raises UpstreamProtocolError if they are invalid."""
        for element in elements if isinstance(elements, list) else [elements]:
            if not isinstance(element, dict):
                raise UpstreamProtocolError
            self._take(element, _index(element.get("index")))

    def take_older(self, function: Any) -> None:
        """Decode a `function_call`; an answer has at most one."""
        if not isinstance(function, dict):
            raise UpstreamProtocolError
        self._take({"function": function}, _OLDER)

    def finish(self) -> None:
        """Emit what is missing at the end of the answer. Raises UpstreamProtocolError for a call without a name."""
        for call in self._calls:
            if call.is_emitted and not call.has_arguments:  # as OpenAI does: an empty text would not be valid JSON
                self._emit(call.number, arguments="{}")
            elif not call.is_emitted and (call.has_arguments or call.has_own_id):
                raise UpstreamProtocolError

    def _take(self, element: dict[str, Any], index: int | str | None) -> None:
        inner = element.get("function")
        function = inner if isinstance(inner, dict) else element
        call_id, name = _text(element.get("id")), _text(function.get("name"))
        given = next((function[key] for key in _ARGUMENTS if function.get(key) is not None), None)
        arguments = _arguments(given)
        if arguments and arguments == self._whole.get(call_id):  # some servers repeat a whole call at their end
            return
        call = self._find(call_id, name, arguments, index) or self._begin(call_id)
        if call_id and not call.has_arguments:
            self._whole[call_id] = arguments
        if call_id:
            self._by_id[call_id] = call
            if not call.has_own_id:
                call.has_own_id = True
                call.id = call.id if call.is_emitted else call_id
        if index is not None:
            self._by_index[index] = call
        extra = {key: item for key, item in element.items() if _is_extra(key, item)}
        if inside := {key: item for key, item in function.items() if key not in _IN_FUNCTION and item is not None}:
            extra |= {"function": inside} if function is inner else {}
        self._add(call, name, arguments, extra)

    def _find(self, call_id: str, name: str, arguments: str, index: int | str | None) -> _Call | None:
        """Return the call that an element continues, None if it begins one."""
        known = self._by_id.get(call_id) if call_id else None
        if known:  # some servers give all calls the same id
            is_another = name != known.name or (arguments.strip() and known.has_arguments and known.is_whole)
            return None if name and known.is_emitted and is_another else known
        last = self._calls[-1] if self._calls else None
        call = last if index is None else self._by_index.get(index)
        if call is None or not call.is_emitted:
            return None if call and call_id and call.has_own_id else call
        if index is None:
            return None if name or call_id else call
        if call_id:  # a late id of this call, or another call's
            return None if call.has_own_id or name else call
        if name and name != call.name:
            return None
        # Some servers repeat the name with each piece.
        return None if name and arguments.strip() and call.has_arguments and call.is_whole else call

    def _begin(self, call_id: str) -> _Call:
        is_new = bool(call_id) and call_id not in self._by_id
        call = _Call(call_id if is_new else self._new_id(), bool(call_id))
        self._calls.append(call)
        return call

    def _add(self, call: _Call, name: str, arguments: str, extra: dict[str, Any]) -> None:
        call.extra.update(extra)
        call.has_arguments = call.has_arguments or bool(arguments.strip())
        call.unread.append(arguments)
        if call.is_emitted:
            if arguments or extra:
                self._emit(call.number, arguments=arguments, extra=extra)
            return
        call.pending.append(arguments)
        if name:
            call.name, call.number = name, self._emitted
            self._emitted += 1
            self._emit(call.number, call_id=call.id, name=name, extra=call.extra)
            if arguments := "".join(call.pending):
                self._emit(call.number, arguments=arguments)


def _is_extra(key: str, item: Any) -> bool:
    return key not in _KNOWN and item is not None


def _index(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    """Return a name or an id; some servers number their calls."""
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _arguments(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json_text(value)
