"""Tools, the choice among them and the format of an answer, as OpenAI writes them → their neutral forms.

Source: OpenAI's API reference, POST /v1/chat/completions. What has no neutral form, like a server's own kind of tool,
is a Passthrough: a server of the same format may know it.
"""

from collections.abc import Collection
from typing import Any, Literal

import msgspec

from gpt_oss_proxy.chat.request import Passthrough, ResponseFormat, Tool, ToolChoice


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


_MODES = ("auto", "required", "none")
_NO_CHOICE = "it must be none, auto, required, name a function or list allowed_tools."
_KINDS = {"text": "text", "json_object": "object"}


def tool(value: dict[str, Any]) -> Tool | Passthrough:
    """Return a function's tool, or one of another kind as it is."""
    try:
        function = msgspec.convert(value, _Tool).function
    except msgspec.ValidationError as error:
        return Passthrough(value, f"{error}.")
    strict = value["function"].get("strict")
    known = ("name", "description", "parameters", *(("strict",) if isinstance(strict, bool | None) else ()))
    return Tool(
        function.name,
        function.description,
        function.parameters,
        strict if isinstance(strict, bool) else None,
        _extra(value, "function", known),
    )


def tool_choice(value: Any) -> ToolChoice | Passthrough | None:
    """Return the choice, a text or an object; a function that must be called is the only name of which one must be."""
    if not value:
        return None
    if value in _MODES:
        return ToolChoice(value)
    try:
        wanted = msgspec.convert(value, _Named | _Allowed)
    except msgspec.ValidationError:
        return Passthrough(value, _NO_CHOICE)
    if isinstance(wanted, _Named):
        return ToolChoice("required", (wanted.function.name,), _extra(value, "function", ("name",)))
    allowed = wanted.allowed_tools
    names = tuple(named.function.name for named in allowed.tools)
    inner = {name: item for name, item in value["allowed_tools"].items() if name != "mode"}  # tools may have more
    return ToolChoice(allowed.mode, names, {**_extra(value, "allowed_tools", ()), "allowed_tools": inner})


def response_format(value: dict[str, Any] | None) -> ResponseFormat | Passthrough | None:
    """Return the format."""
    if value is None:
        return None
    kind = value.get("type")
    if isinstance(kind, str) and kind in _KINDS:
        further = {name: item for name, item in value.items() if name != "type" and item is not None}
        return ResponseFormat(_KINDS[kind], extra=further)  # type: ignore[arg-type] # it is one of them
    if kind != "json_schema":
        return Passthrough(value, "it must be text, json_object or json_schema.", ("type",))
    described = value.get("json_schema")
    schema = described.get("schema") if isinstance(described, dict) else None
    if not isinstance(described, dict) or not isinstance(schema, dict):
        return Passthrough(value, "a JSON schema is needed here.", ("schema",))
    name, strict = described.get("name"), described.get("strict")
    known = {"name": str, "strict": bool, "schema": dict}
    fitting = [field for field, type_ in known.items() if isinstance(described.get(field), type_ | None)]
    return ResponseFormat(
        "schema",
        schema,
        name if isinstance(name, str) else None,
        strict if isinstance(strict, bool) else None,
        _extra(value, "json_schema", fitting),
    )


def _extra(value: Any, inner: str, known: Collection[str]) -> dict[str, Any]:
    """Return the further fields of an object, and under the name of its inner object those of that."""
    outer = {name: item for name, item in value.items() if name not in ("type", inner) and item is not None}
    inside = {name: item for name, item in value[inner].items() if name not in known and item is not None}
    return outer | ({inner: inside} if inside else {})
