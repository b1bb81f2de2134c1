"""JSON schemas of clients: checked, bounded in time, and never a reason to fetch anything."""

import contextlib
import http.server
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from gpt_oss_proxy.emulation.json_schema import Schema, SchemaError

NAMES = [f"a{number}" for number in range(90)]
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "x"},
        "nick": {"type": ["string", "null"]},
        "kind": {"enum": ["a", "b"]},
        "code": {"type": "string", "pattern": "^a+$"},
        "friend": {"$ref": "#/$defs/friend"},
        "a/b~c": {"type": "integer"},
        "any": {},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"friend": {"type": "object", "properties": {"age": {"type": "integer"}}}},
}


def test_faults_say_where_and_what() -> None:
    schema = Schema(PERSON)
    assert schema.fault({"name": "x", "friend": {"age": 1}}) == ""
    assert schema.fault({"name": "x", "friend": {"age": "1"}}) == 'friend.age: "1" is not of type "integer"'
    assert schema.fault({}) == '"name" is a required property'


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("name", "x", True),
        ("name", 1, False),
        ("friend", {"age": 3}, True),
        ("friend", {"age": "3"}, False),
        ("a/b~c", 1, True),
        ("a/b~c", "1", False),
        ("unknown", 1, False),
        ("any", [1], True),
    ],
)
def test_members_are_checked_alone(name: str, value: Any, fits: bool) -> None:
    assert (Schema(PERSON).member_fault(name, value) == "") == fits


@pytest.mark.parametrize(
    ("name", "value", "kept", "fault"),
    [
        ("name", "x", ..., ""),
        ("name", None, ..., 'name: null is not of type "string"'),  # it is required
        ("nick", None, ..., ""),
        ("kind", None, {}, ""),
        ("friend", None, {}, ""),
        ("friend", {"age": None}, {"friend": {}}, ""),
        ("friend", {"age": "3"}, ..., 'friend: age: "3" is not of type "integer"'),
        ("unknown", None, ..., "unknown: False schema does not allow null"),
        ("any", None, ..., ""),
        ("any", {"age": None}, ..., ""),
    ],
)
@pytest.mark.parametrize(
    "around", [lambda person: person, lambda person: {"$ref": "#/$defs/it", "$defs": {"it": person}}]
)
def test_a_member_that_null_says_is_absent_is_left_out(
    around: Callable[[Any], Any], name: str, value: Any, kept: Any, fault: str
) -> None:
    person = {**PERSON, "$defs": {}, "properties": {**PERSON["properties"], "friend": PERSON["$defs"]["friend"]}}  # type: ignore[dict-item,index]
    schema = Schema(around(person))
    found = schema.fitted_member(name, value)
    assert found == ({name: value} if kept is ... else kept, fault)
    assert kept is not ... or found[0][name] is value


def test_where_a_members_schema_is_not_known_alone_null_says_the_same() -> None:
    either = {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "null"}}}]}
    assert Schema(either).fitted_member("a", None) == ({}, "")
    assert Schema(either).fitted_member("b", None) == ({"b": None}, "")
    assert Schema({"type": "object"}).fitted_member("b", None) == ({"b": None}, "")


def test_a_whole_value_loses_its_absent_members_only_if_it_does_not_fit() -> None:
    schema = Schema(PERSON)
    value = {"name": "x", "nick": None, "any": {"age": None}}
    assert schema.fitted(value)[0] is value
    assert schema.fitted({**value, "kind": None, "friend": {"age": None}}) == ({**value, "friend": {}}, "")
    assert schema.fitted({"kind": None}) == ({}, '"name" is a required property')
    wrong = {"name": 7, "nick": None}
    assert schema.fitted(wrong) == (wrong, 'name: 7 is not of type "string"')


def test_nulls_of_what_fits_stay_even_if_another_branch_would_leave_them_out() -> None:
    branches = [{"properties": {"a": {"type": "null"}}}, {"properties": {"a": {"type": "integer"}}}]
    value = {"a": None}
    assert Schema({"anyOf": branches}).fitted(value)[0] is value
    assert Schema({"properties": {"x": {"anyOf": branches}}}).fitted_member("x", value)[0]["x"] is value


def test_what_does_not_fit_without_its_nulls_is_a_fault_of_the_member() -> None:
    friend = {"properties": {"age": {"type": "integer"}, "name": {"type": "string"}}}
    found = Schema({"properties": {"friend": friend}}).fitted_member("friend", {"age": None, "name": 7})
    assert found == ({"friend": {"name": 7}}, 'friend: name: 7 is not of type "string"')


@pytest.mark.parametrize("draft", ["https://json-schema.org/draft/2020-12/schema", DRAFT_7])
def test_nullable_is_understood(draft: str) -> None:
    age = {"type": "integer", "nullable": True}
    person = {"type": "object", "properties": {"age": age, "text": {"type": "string", "nullable": True}}}
    friend = {"allOf": [{"$ref": "#/definitions/person"}], "nullable": True}
    properties = {**person["properties"], "friend": friend}  # type: ignore[dict-item]
    root = {**person, "properties": properties, "required": ["age", "friend"], "definitions": {"person": person}}
    schema = Schema({"$schema": draft, **root})
    assert schema.fault({"age": None, "friend": None, "text": None}) == ""
    assert schema.fault({"age": 1, "friend": {"age": None}}) == ""
    assert schema.fault({"age": None}) != ""
    assert schema.fault({"age": "x", "friend": None}) != ""
    assert schema.fitted_member("age", None) == ({"age": None}, "")
    assert schema.takes_any_text("text")


def test_an_object_that_is_a_reference_has_its_members_checked_alone() -> None:
    properties = {"name": {"type": "string"}, "a/b~c": {"type": "integer"}, "code": {"pattern": "^a+$"}}
    schema = Schema({"$ref": "#/definitions/a%20b", "title": "x", "definitions": {"a b": {"properties": properties}}})
    assert schema.member_fault("name", 1) == 'name: 1 is not of type "string"'
    assert schema.member_fault("a/b~c", "1") != ""
    assert not schema.takes_any_text("code")
    both = Schema(
        {"$ref": "#/$defs/a", "properties": {"x": {"type": "string"}}, "$defs": {"a": {"properties": {"y": {}}}}}
    )
    assert both.member_fault("x", 1) != ""
    assert Schema({"$ref": "#"}).member_fault("x", 1) == ""


def test_which_members_may_be_any_text() -> None:
    schema = Schema(PERSON)
    assert [name for name in PERSON["properties"] if schema.takes_any_text(name)] == ["name", "nick", "any"]  # type: ignore[attr-defined]
    assert not schema.takes_any_text("unknown")
    assert Schema({"type": "object"}).takes_any_text("unknown")
    assert not Schema({"additionalProperties": {"maxLength": 3}}).takes_any_text("unknown")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"$ref": "#/nowhere"},
        {"$ref": "file:///etc/hostname"},
        {"pattern": "["},
        7,
        {"properties": {"a": {"minimum": "x"}}},
    ],
)
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError):
        Schema(schema)


def test_nothing_is_fetched() -> None:
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/schema"
            for schema in ({"$ref": address}, {"$dynamicRef": address}, {"items": {"$id": address, "$ref": "other"}}):
                with pytest.raises(SchemaError):
                    Schema(schema)
            assert Schema({"$schema": address, "$id": address, "type": "string"}).fault(1) != ""
        finally:
            server.shutdown()
    assert asked == []


def doubling(levels: int) -> dict[str, Any]:
    """Return a schema that asks the same of a value 2 to the power of `levels` times."""
    steps = {f"a{level}": {"anyOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{levels}": {"type": "string"}}}


def nested(depth: int) -> Any:
    value: Any = 3
    for _ in range(depth):
        value = [value]
    return value


def test_a_schema_that_asks_twice_of_each_inner_value_is_checked_only_to_some_depth() -> None:
    """Each level doubles the time of a check that fails; at depth 16 it would take seconds, at 90 for ever."""
    schema = Schema({"type": "array", "anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]})
    assert schema.fault(nested(8)) != ""
    assert schema.fault(nested(14)) == ""


def test_hostile_schemas_and_values_take_no_time() -> None:
    started = time.process_time()
    with pytest.raises(SchemaError, match="multiply"):
        Schema(doubling(40))
    recursive = {"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]}
    assert Schema(recursive).fault(nested(90)) == ""  # not checked: it could take for ever, and it may well fit
    assert "too deeply" in Schema({}).fault(nested(101))
    assert Schema(recursive).fault(nested(10)) == ""
    assert Schema({"$ref": "#"}).fault({"a": 1}) == ""
    assert Schema({"pattern": "(a+)+$"}).fault("a" * 5000 + "!") != ""
    assert Schema({"pattern": "(?=a)(a+)+$(?<=b)"}).fault("a" * 5000 + "!") != ""
    deep: Any = {}
    for _ in range(900):
        deep = {"items": deep}
    with pytest.raises(SchemaError, match="deeply"):
        Schema(deep)
    wide = Schema({"properties": {f"p{index}": {"type": "string"} for index in range(3000)}})
    assert wide.fault({"p1": 1}) != ""
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    "refer",
    [
        lambda name: f"#/$defs/{name}",
        lambda name: f"#/$defs/%{ord(name[0]):x}{name[1:]}",
        lambda name: f"#{name}",
        lambda name: f"urn:x#/$defs/{name}",
        lambda name: f"#/%24defs/{name}",
    ],
)
@pytest.mark.parametrize("place", ["allOf", "anyOf", "dependencies", "prefixItems"])
def test_however_references_are_written_they_do_not_multiply(refer: Callable[[str], str], place: str) -> None:
    steps: dict[str, Any] = {f"a{level}": {"$anchor": f"a{level}"} for level in range(41)}
    for level in range(40):
        two = [{"$ref": refer(f"a{level + 1}")}, {"$ref": refer(f"a{level + 1}")}]
        steps[f"a{level}"][place] = dict(zip("xy", two, strict=True)) if place == "dependencies" else two
    if "$defs" in refer("a0") or "%24" in refer("a0"):
        for step in steps.values():
            del step["$anchor"]
    with pytest.raises(SchemaError):
        Schema(
            {"$schema": "http://json-schema.org/draft-07/schema#", "$id": "urn:x", "$ref": refer("a0"), "$defs": steps}
        )
    with pytest.raises(SchemaError):
        Schema({"$ref": refer("a0"), "$defs": steps})


def test_nested_unevaluated_properties_do_not_multiply() -> None:
    schema: Any = {}
    for _ in range(45):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    with pytest.raises(SchemaError, match="multiply"):
        Schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"prefixItems": 5},
        {"dependentSchemas": [1]},
        {"properties": {"b": {"$ref": "#/definitions/q", "properties": {"c": 3}}}, "definitions": {"q": {}}},
        {"if": 5, "unevaluatedProperties": 3, "contains": 2},
        {"$ref": "#/allOf/x", "allOf": [{}]},
        {"$ref": 5},
        {
            "definitions": {f"a{n}": {"$ref": f"#/definitions/a{n + 1}"} for n in range(5000)},
            "$ref": "#/definitions/a0",
        },
    ],
)
@pytest.mark.parametrize("draft", ["draft-04", "draft-07"])
def test_odd_schemas_are_schemas_or_refused(schema: dict[str, Any], draft: str) -> None:
    with contextlib.suppress(SchemaError):
        Schema({"$schema": f"http://json-schema.org/{draft}/schema#", **schema}).fault({"b": {}})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": list(range(9000))}}, list(range(9000, 12_000))),
        ({"items": {"anyOf": [{"const": number} for number in range(3000)]}}, ["x"] * 5000),
        ({"allOf": [{"contains": {"const": number}} for number in range(1000)]}, ["x"] * 20_000),
        ({"items": {"oneOf": [{"type": "object"}] * 4000}}, [{}] * 500),
        (
            {"dependentRequired": {f"a{n}": [f"b{m}" for m in range(90)] for n in range(90)}},
            {f"a{n}": 1 for n in range(90)},
        ),
    ],
)
def test_many_rules_for_many_values_take_no_time(schema: dict[str, Any], value: Any) -> None:
    started = time.process_time()
    Schema(schema).fault(value)
    assert time.process_time() - started < 1.5


def test_a_schema_has_a_largest_size() -> None:
    with pytest.raises(SchemaError, match="more than 10000 values"):
        Schema({"enum": list(range(10_001))})


def test_ordinary_recursion_is_fine() -> None:
    tree = Schema({"properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "label": {"type": "string"}}})
    value: dict[str, Any] = {"label": "leaf"}
    for _ in range(40):
        value = {"label": "x", "children": [value, {"label": "y"}]}
    assert tree.fault(value) == ""
