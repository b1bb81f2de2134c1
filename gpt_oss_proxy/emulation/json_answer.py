"""JSON answers of an upstream that writes text: the model is instructed, and its JSON is taken out of what it writes.

Models like to put JSON into a fence, or a sentence around it. Only the JSON goes out; it is checked against its schema.
"""

import json
import re

import msgspec

from gpt_oss_proxy.chat.events import FinishReason, TextDelta, ToolCallDelta
from gpt_oss_proxy.chat.request import Passthrough, ResponseFormat
from gpt_oss_proxy.emulation.filter import Fault, Filter
from gpt_oss_proxy.emulation.json_schema import Schema, SchemaError
from gpt_oss_proxy.emulation.json_text import JsonReader, write_json
from gpt_oss_proxy.errors import InvalidField, ResponseFormatInvalid
from gpt_oss_proxy.quoting import quote

# An object or an array begins with its bracket, and what must follow that. Prose has brackets, too.
_OBJECT = re.compile(r'\{(?=\s*["}])|\[(?=\s*\{\s*["}])')  # the second is a list where an object is wanted
_ARRAY = re.compile(r'\[(?=\s*["{\[\]\-0-9tfn])')
_OPEN_OBJECT = re.compile(r"(?:\[\s*)?\{\s*\Z|\[\s*\Z")
_OPEN_ARRAY = re.compile(r"\[\s*\Z")


class WantedJson(msgspec.Struct, frozen=True):
    """What an answer must be. `schema` is None if any object will do; `strict` that nothing else may go out."""

    schema: Schema | None
    written: str
    is_array: bool
    strict: bool

    @property
    def bracket(self) -> str:
        """Return what an answer begins with."""
        return "[" if self.is_array else "{"


def wanted_json(wanted: ResponseFormat | Passthrough | None) -> WantedJson | None:
    """Return the JSON that is wanted, None for text. Raises InvalidField."""
    if isinstance(wanted, Passthrough):
        raise InvalidField(("response_format", *wanted.path), wanted.fault)
    if wanted is None or wanted.kind == "text":
        return None
    if wanted.kind == "object":
        return WantedJson(None, "", is_array=False, strict=False)
    written = wanted.schema or {}
    if written.get("type", "object") not in ("object", "array", ["object"], ["array"]):
        raise InvalidField(("response_format", "schema"), "an answer must be an object or an array.")
    try:
        schema = Schema(written)
    except SchemaError as error:
        raise InvalidField(("response_format", "schema"), f"{error}.") from error
    is_array = written.get("type") in ("array", ["array"])
    return WantedJson(schema, json.dumps(written, ensure_ascii=False), is_array, wanted.strict is True)


def instruct(wanted: WantedJson, *, tools: bool = False) -> str:
    """Return the instructions for the model."""
    kind = "array" if wanted.is_array else "object"
    unless = "Unless you call a tool, answer" if tools else "Answer"
    text = f"{unless} with one JSON {kind} and nothing else: no other text, no code fence."
    return f"{text} It must fit this JSON schema:\n{wanted.written}" if wanted.written else text


class JsonAnswer(Filter):
    """Lets only the JSON through. With `hold` nothing goes out before all of it is there and fits.

    Where there are `tools`, calls may follow it; else it ends the answer.
    """

    def __init__(self, wanted: WantedJson, *, hold: bool, tools: bool = False) -> None:
        super().__init__()
        self._wanted = wanted
        self._hold = hold
        self._tools = tools
        self._begin, self._may_begin = (_ARRAY, _OPEN_ARRAY) if wanted.is_array else (_OBJECT, _OPEN_OBJECT)
        self._before: list[str] = []  # what may still become the beginning: a bracket, and space
        self._reader: JsonReader | None = None
        self._called = False
        self._mended = ""  # the answer without the members that null says are absent

    def text(self, delta: TextDelta) -> None:
        """Say what is JSON."""
        text = delta.text
        if self._reader is None:
            if self._before and text.isspace():
                self._before.append(text)
                return
            text = "".join([*self._before, text])
            begin = self._begin.search(text)
            if begin is None:
                half = self._may_begin.search(text)
                self._before = [text[half.start() :]] if half else []
                return
            text = text[begin.start() :]
            self._reader = JsonReader()
        before = len(self._reader.text)
        self._reader.feed(text)
        if not self._hold and self._reader.text[0] == self._wanted.bracket:
            self.say(self._reader.text[before:])
        if self._reader.ended and not self._tools:  # what follows is not wanted, and may be endless
            self.finish("stop")

    def call(self, delta: ToolCallDelta) -> None:
        """An answer that calls a tool need not be JSON."""
        self._called = True
        self.emit(delta)

    def finish(self, reason: FinishReason) -> None:
        """Check what there is. A cut answer is what it is."""
        fault = "" if self._called or reason in ("length", "content_filter") else self._fault()
        if fault:
            correction = f"Your answer is not as it must be: {fault}. {instruct(self._wanted)}"
            error = ResponseFormatInvalid(f"The model returned no answer in the wanted format: {quote(fault)}.")
            said = self._reader is not None and not self._hold and self._reader.text[0] == self._wanted.bracket
            self.fault = Fault(correction, error, repairable=not said)
            return
        if self._hold and self._reader:
            self.emit(TextDelta(self._mended or self._reader.text))
        self.end(reason)

    def _fault(self) -> str:
        if self._reader is None:
            return "there is no JSON in it"
        if self._reader.text[0] != self._wanted.bracket:
            return "it is a list, and must be one object"
        try:
            value = json.loads(self._reader.text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return "its JSON is not valid"
        if self._wanted.schema is None:
            return ""
        if not self._hold:  # it has gone out as it is
            return self._wanted.schema.fault(value)
        kept, fault = self._wanted.schema.fitted(value)
        self._mended = write_json(kept) if kept is not value else ""
        return fault


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
