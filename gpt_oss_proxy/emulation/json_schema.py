"""JSON schemas from clients, and the check whether a model's JSON fits them. Bounded in time; nothing is fetched.

The rules are those of the package jsonschema-rs (draft 2020-12, or 7 if `$schema` names that or an earlier one). Some
schemas take practically unlimited time even for small values, because they apply the same schemas to the same value
again and again. That number is estimated from the schema's own references, and such schemas are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jsonschema_rs

from gpt_oss_proxy.emulation.schema_nulls import Nulls, target, with_nullable

_MOST_STEPS = 1_000_000  # of a check, as estimated; some tenths of a second
_MOST_VALUES = 10_000  # in a schema; compiling them takes a tenth of a second
_DEEPEST = 100  # brackets; deeper nesting overflows stacks, here or at the client
_LONGEST_FAULT = 300
_ROOT = "urn:schema"
_OLDER = ("draft-04", "draft-06", "draft-07")  # checked by the last one's rules

_IN_PLACE = ("allOf", "anyOf", "oneOf", "prefixItems")
_ALONE = (
    *("not", "if", "then", "else", "items", "additionalItems", "additionalProperties", "contains", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "dependencies")
_LISTS = ("enum", "const", "required", "dependentRequired", "dependencies")  # their entries are compared one by one
_LOOKED_AT_TWICE = ("unevaluatedItems", "unevaluatedProperties")  # evaluated again with everything beside them
# Keywords that change the target of other references.
_MOVING = ("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor")
# Keywords beside `type` that do not restrict strings.
_HARMLESS_FOR_TEXT = frozenset(
    {"type", "title", "description", "default", "examples", "deprecated", "$comment", "nullable"}
)
# Keywords beside `$ref` that do not restrict objects.
_ANNOTATIONS = frozenset({"$ref", "$defs", "definitions", "title", "description", "default", "examples", "$comment"})
_FARTHEST = 10  # references from the whole schema to that of its object


class SchemaError(Exception):
    """Why this is not a JSON schema, or not one that can be used here."""


class Schema:
    """A JSON schema. Raises SchemaError if it is invalid."""

    def __init__(self, schema: Any) -> None:
        depth, values = _measure(schema)
        if depth > _DEEPEST:
            raise SchemaError("it is nested too deeply")
        if values > _MOST_VALUES:
            raise SchemaError(f"it holds more than {_MOST_VALUES} values")
        self._rules: Any = jsonschema_rs.Draft202012Validator
        if isinstance(schema, dict):
            if str(schema.get("$schema", "")).rstrip("#/").endswith(tuple(f"{older}/schema" for older in _OLDER)):
                self._rules = jsonschema_rs.Draft7Validator
            # Its own id and version would only make its references ambiguous.
            schema = {name: value for name, value in schema.items() if name not in ("$id", "$schema")}
        _refuse_what_moves(schema)
        try:
            schema = with_nullable(schema) if _says_nullable(schema) else schema
            self._validator = self._rules(schema, retriever=_refuse_to_fetch)
            self._registry = jsonschema_rs.Registry([(_ROOT, schema)], retriever=_refuse_to_fetch)
            self._steps, self._again = _Steps(schema).count()
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            raise SchemaError(_explain(error)) from error
        except RecursionError as error:
            raise SchemaError("its references lead too far") from error
        if self._steps > _MOST_STEPS:
            raise SchemaError("its references multiply too often")
        self._nulls = Nulls(schema)
        self._object, self._pointer = _object(schema)
        self._members: dict[str, Any] = {}

    def fault(self, value: Any) -> str:
        """Return why a value does not fit, '' if it does."""
        return self._fault(self._validator, value)

    def fitted(self, value: Any) -> tuple[Any, str]:
        """Return (the value, if need be without members that null marks as absent; why it does not fit, or '')."""
        fault = self.fault(value)
        kept = self._nulls.without(value) if fault else value
        return kept, fault if kept is value else self.fault(kept)

    def fitted_member(self, name: str, value: Any) -> tuple[dict[str, Any], str]:
        """Return the same for one member of an object: ({} if null marks it as absent, fault)."""
        fault, member = self.member_fault(name, value), {name: value}
        is_known = self._member(name)[1] is not True
        kept = member if is_known and not fault else self._nulls.without(member)
        if kept is not member:
            fault = self.member_fault(name, kept[name]) if kept else ""
        return kept, fault

    def member_fault(self, name: str, value: Any) -> str:
        """Return why one member does not fit, while the object's other members are unknown; '' if it does."""
        pointer, schema = self._member(name)
        if pointer not in self._members:
            self._members[pointer] = self._member_validator(pointer) if schema is not True else None
        validator = self._members[pointer]
        fault = self._fault(validator, value) if validator else ""
        return f"{name}: {fault}" if fault else ""

    def takes_any_text(self, name: str) -> bool:
        """Return whether the member may be any string, so that its text is valid before it is complete."""
        _, schema = self._member(name)
        if schema is True:
            return True
        if not isinstance(schema, Mapping) or set(schema) - _HARMLESS_FOR_TEXT:
            return False
        kind = schema.get("type", "string")
        return kind == "string" or "string" in kind

    def _member(self, name: str) -> tuple[str, Any]:
        """Return the pointer to the schema that applies to this member only, and the schema; ('', True) if unknown."""
        schema = self._object
        properties = schema.get("properties", {})
        if name in properties:
            escaped = name.replace("~", "~0").replace("/", "~1").replace("%", "%25")
            return f"{self._pointer}/properties/{escaped}", properties[name]
        if "patternProperties" in schema or "additionalProperties" not in schema:
            return "", True
        return f"{self._pointer}/additionalProperties", schema["additionalProperties"]

    def _member_validator(self, pointer: str) -> Any:
        try:
            wanted = {"$ref": f"{_ROOT}#{pointer}"}
            return self._rules(wanted, registry=self._registry, retriever=_refuse_to_fetch)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError):
            return None  # it cannot be checked alone: the whole object will be

    def _fault(self, validator: Any, value: Any) -> str:
        depth, values = _measure(value)
        if depth > _DEEPEST:
            return "it is nested too deeply"
        if self._steps * values * max(self._again, 1) ** depth > _MOST_STEPS:
            return ""  # checking could take practically unlimited time, and it may well fit
        try:
            validator.validate(value)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            return _explain(error)
        return ""


def _object(schema: Any) -> tuple[Mapping[str, Any], str]:
    """Return the object schema that this one is or merely refers to, and the pointer to it."""
    pointer, followed, root = "", 0, schema
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and followed < _FARTHEST:
        if not _ANNOTATIONS.issuperset(schema):
            break
        pointer, schema, followed = schema["$ref"][1:], target(root, schema["$ref"]), followed + 1
    return (schema if isinstance(schema, Mapping) else {}), pointer


def _says_nullable(schema: Any) -> bool:
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict) and item.get("nullable") is True:
            return True
        waiting.extend(_inside(item))
    return False


def _refuse_to_fetch(_uri: str) -> NoReturn:
    raise ValueError("a $ref leads out of the schema")


def _explain(error: Exception) -> str:
    text = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
    path = ".".join(map(str, getattr(error, "instance_path", ())))
    text = text.replace(_ROOT, "")
    text = text if len(text) <= _LONGEST_FAULT else f"{text[:_LONGEST_FAULT]}…"
    return f"{path}: {text}" if path else text


def _measure(value: Any) -> tuple[int, int]:
    """Return (how deeply the innermost value is nested in brackets, how many values there are)."""
    depth, values, level = 0, 1, [value]
    while level := [inner for item in level for inner in _inside(item)]:
        depth += 1
        values += len(level)
    return depth, values


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _refuse_what_moves(schema: Any) -> None:
    """Raise SchemaError for names of subschemas and their use: only pointers can be followed."""
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            for name in _MOVING:
                if isinstance(item.get(name), str | bool):
                    raise SchemaError(f"{name} is not supported, only $ref with a pointer such as #/$defs/name")
            if isinstance(item.get("$ref"), str) and not item["$ref"].startswith("#"):
                raise SchemaError("a $ref leads out of it")
            if isinstance(item.get("$ref"), str) and item["$ref"] != "#" and not item["$ref"].startswith("#/"):
                raise SchemaError("a $ref must be a pointer such as #/$defs/name")
        waiting.extend(_inside(item))


class _Steps:
    """Estimates how many schemas are applied to one value, following references as a check does.

    For each schema it stores (how many, how many of them lead back to one that is being followed). Both are upper
    bounds, and grow only as far as needed to refuse.
    """

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._known: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def count(self) -> tuple[int, int]:
        """Return both for the whole schema. Raises ValueError for a pointer without a target."""
        return self._count(self._root)

    def _count(self, schema: Any) -> tuple[int, int]:
        if not isinstance(schema, dict):
            return 1, 0
        key = id(schema)
        if key in self._open:
            return 1, 1
        if key not in self._known:
            self._open.add(key)
            counted = [self._count(inner) for inner in self._followed(schema)]
            self._open.remove(key)
            times = 2 if any(name in schema for name in _LOOKED_AT_TWICE) else 1
            listed = sum(_measure(schema[name])[1] for name in _LISTS if name in schema)
            steps = 1 + listed + times * sum(steps for steps, _ in counted)
            again = times * sum(again for _, again in counted)
            self._known[key] = min(steps, _MOST_STEPS + 1), min(again, _MOST_STEPS)
        return self._known[key]

    def _followed(self, schema: dict[str, Any]) -> Iterator[Any]:
        for name in _IN_PLACE:
            yield from schema[name] if isinstance(schema.get(name), list) else ()
        for name in _ALONE:
            inner = schema.get(name)
            yield from inner if isinstance(inner, list) else (inner,)
        for name in _BY_NAME:
            yield from schema[name].values() if isinstance(schema.get(name), dict) else ()
        if isinstance(schema.get("$ref"), str):
            yield target(self._root, schema["$ref"])
