"""Nulls that a JSON schema forbids but that are meant to be valid: OpenAPI's `nullable`, and optional members.

Models write null for what they leave out, whether the schema allows it or not. So if a member is optional (not in
`required`) and must not be null, null means that it is absent.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

_NULL = {"type": "null"}
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")
_DATA = ("enum", "const", "default", "example", "examples", "required", "dependentRequired")  # they hold no schemas
_BRANCHES = ("allOf", "anyOf", "oneOf")
_MOST_VISITS = 300_000  # of schemas, for all values together; some tenths of a second
_DEEPEST = 100  # brackets
_FARTHEST = 50  # nested schemas; beyond them null is assumed to fit


def target(root: Any, reference: str) -> Any:
    """Return the schema that a pointer (`#/$defs/name`) leads to. Raises ValueError if there is none."""
    found = root
    for step in reference[2:].split("/") if reference != "#" else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            raise ValueError("a $ref leads to nothing")
    return found


class Nulls:
    """Decides where null fits, and where it means an absent member. `root` is a schema with pointers as references."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[int, bool] = {}
        self._visits = 0

    def fits(self, schema: Any, far: int = 0) -> bool:
        """Return whether null fits this part of the schema, as far as can be decided without a validator."""
        if not isinstance(schema, dict) or far > _FARTHEST:
            return schema is not False
        key = id(schema)
        if key not in self._known:
            self._known[key] = schema.get("nullable") is True or self._is_allowed(schema, far + 1)
        return self._known[key]

    def without(self, value: Any) -> Any:
        """Return the value without the members that null marks as absent; the same object if there are none.

        They stay if the search for them has taken too long.
        """
        return self._without(value, (self._root,), 0) if _holds_null(value) else value

    def _is_allowed(self, schema: dict[str, Any], far: int) -> bool:
        kinds, values = schema.get("type"), schema.get("enum")
        if (isinstance(kinds, str | list) and "null" not in kinds) or schema.get("const") is not None:
            return False
        if isinstance(values, list) and None not in values:
            return False
        if isinstance(schema.get("$ref"), str) and not self.fits(target(self._root, schema["$ref"]), far):
            return False
        each, *either = ([self.fits(branch, far) for branch in _list(schema, name)] for name in _BRANCHES)
        return all(each) and all(any(branches) for branches in either if branches)

    def _without(self, value: Any, schemas: Iterable[Any], depth: int) -> Any:
        reached = self._reached(schemas) if isinstance(value, dict | list) and depth <= _DEEPEST else []
        self._visits += len(reached) * len(value) if reached else 0
        if not reached or self._visits > _MOST_VISITS:
            return value
        if isinstance(value, list):
            items = [
                self._without(inner, [below for schema in reached for below in _items(schema, index)], depth + 1)
                for index, inner in enumerate(value)
            ]
            return value if all(map(_is_same, items, value)) else items
        members = {
            name: self._without(inner, [below for schema in reached for below in _members(schema, name)], depth + 1)
            for name, inner in value.items()
            if inner is not None or not self._is_absent(name, reached)
        }
        return value if len(members) == len(value) and all(map(_is_same, members.values(), value.values())) else members

    def _is_absent(self, name: str, reached: list[dict[str, Any]]) -> bool:
        """Return whether null for this member means that it is absent."""
        if any(name in _list(schema, "required") for schema in reached):
            return False
        return not all(self.fits(_dict(schema, "properties").get(name, True)) for schema in reached)

    def _reached(self, schemas: Iterable[Any]) -> list[dict[str, Any]]:
        """Return these schemas and those that apply to the same value."""
        waiting, found = list(schemas), dict[int, dict[str, Any]]()
        while waiting:
            schema = waiting.pop()
            if not isinstance(schema, dict) or id(schema) in found:
                continue
            self._visits += 1
            found[id(schema)] = schema
            waiting += [branch for name in _BRANCHES for branch in _list(schema, name)]
            waiting += [schema.get("then"), schema.get("else")]
            if isinstance(schema.get("$ref"), str):
                waiting.append(target(self._root, schema["$ref"]))
        return list(found.values())


def with_nullable(root: Any) -> Any:
    """Return the schema with `nullable: true` in JSON Schema's own keywords. Pointers keep their targets."""
    return _rewritten(root, Nulls(root))


def _rewritten(schema: Any, nulls: Nulls) -> Any:
    if isinstance(schema, list):
        return [_rewritten(inner, nulls) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    new: dict[str, Any] = {}
    for name, inner in schema.items():
        if name in _DATA:
            new[name] = inner
        elif name in _BY_NAME and isinstance(inner, dict):
            new[name] = {key: _rewritten(value, nulls) for key, value in inner.items()}
        else:
            new[name] = _rewritten(inner, nulls)
    return _or_null(new, schema, nulls) if schema.get("nullable") is True else new


def _or_null(schema: Any, original: Any, nulls: Nulls) -> Any:
    """Return a schema that allows null, too. `original` is the schema before its parts were rewritten."""
    if not isinstance(schema, dict):
        return schema
    new = {name: inner for name, inner in schema.items() if name != "nullable"}
    kinds = new.get("type")
    if isinstance(kinds, str | list) and "null" not in kinds:
        new["type"] = [kinds, "null"] if isinstance(kinds, str) else [*kinds, "null"]
    if "const" in new and "enum" not in new:
        new["enum"] = [new.pop("const")]
    if isinstance(new.get("enum"), list) and None not in new["enum"]:
        new["enum"] = [*new["enum"], None]
    for name in ("anyOf", "oneOf"):
        if isinstance(original.get(name), list) and not any(map(nulls.fits, original[name])):
            new[name] = [*new[name], _NULL]
    if isinstance(new.get("allOf"), list):
        new["allOf"] = [_or_null(*both, nulls) for both in zip(new["allOf"], original["allOf"], strict=True)]
    if "$ref" in new:
        either = {"anyOf": [{"$ref": new.pop("$ref")}, _NULL]}
        new = {**new, "allOf": [*_list(new, "allOf"), either]} if "anyOf" in new else {**new, **either}
    return new


def _members(schema: dict[str, Any], name: str) -> Iterator[Any]:
    """Yield the schemas of an object's member."""
    properties = _dict(schema, "properties")
    yield properties[name] if name in properties else schema.get("additionalProperties")
    yield from _dict(schema, "patternProperties").values()


def _items(schema: dict[str, Any], index: int) -> Iterator[Any]:
    """Yield the schemas of an array's item, as drafts 7 and 2020-12 define them."""
    first = _list(schema, "prefixItems") or _list(schema, "items")
    if index < len(first):
        yield first[index]
    else:
        yield schema.get("items")
        yield schema.get("additionalItems")


def _dict(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found = schema.get(name)
    return found if isinstance(found, dict) else {}


def _list(schema: dict[str, Any], name: str) -> list[Any]:
    found = schema.get(name)
    return found if isinstance(found, list) else []


def _holds_null(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        inner: Iterable[Any] = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        if any(part is None for part in inner):
            return True
        waiting += inner
    return False


def _is_same(one: Any, other: Any) -> bool:
    return one is other
