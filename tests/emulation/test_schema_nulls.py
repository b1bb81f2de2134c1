"""Which nulls fit, which say that a member is absent, and that to find out costs little."""

import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.emulation.schema_nulls import Nulls, target, with_nullable

INTEGER, NULL = {"type": "integer"}, {"type": "null"}


def fits(schema: Any, value: Any, *, draft_7: bool = False) -> bool:
    rules: Any = jsonschema_rs.Draft7Validator if draft_7 else jsonschema_rs.Draft202012Validator
    return bool(rules(with_nullable(schema)).is_valid(value))


@pytest.mark.parametrize("draft_7", [True, False])
@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 1),
        ({"type": ["integer", "string"]}, "a"),
        ({"type": "object", "properties": {"a": INTEGER}, "required": ["a"]}, {"a": 1}),
        ({"type": "array", "items": INTEGER}, [1]),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": "string", "enum": ["a", "b"], "description": "x"}, "b"),
        ({"const": "a"}, "a"),
        ({"type": "string", "const": "a"}, "a"),
        ({"$ref": "#/$defs/a"}, 1),
        ({"description": "x", "$ref": "#/$defs/a"}, 1),
        ({"allOf": [{"$ref": "#/$defs/a"}]}, 1),
        ({"allOf": [{"type": "integer"}, {"minimum": 1}, {"enum": [1, 2]}]}, 1),
        ({"allOf": [{"$ref": "#/$defs/a", "nullable": True}]}, 1),
        ({"anyOf": [{"$ref": "#/$defs/a"}, {"type": "string"}]}, "a"),
        ({"anyOf": [INTEGER, NULL]}, 1),
        ({"oneOf": [{"$ref": "#/$defs/a"}, {"type": "string"}]}, 1),
        ({"oneOf": [INTEGER, NULL]}, 1),
        ({"oneOf": [{"type": "integer", "nullable": True}, {"type": "string"}]}, "a"),
        ({"$ref": "#/$defs/a", "anyOf": [INTEGER, {"type": "string"}], "allOf": [{"minimum": 0}]}, 1),
        ({}, "anything"),
    ],
)
def test_nullable_allows_null_and_nothing_else(schema: dict[str, Any], value: Any, draft_7: bool) -> None:
    def inside(member: Any) -> Any:
        return {"properties": {"x": member, "y": {"items": member}}, "$defs": {"a": INTEGER}}

    nullable = inside({**schema, "nullable": True})
    assert fits(nullable, {"x": None}, draft_7=draft_7)
    assert fits(nullable, {"x": value}, draft_7=draft_7)
    assert not schema or not fits(nullable, {"x": 1.5}, draft_7=draft_7)
    assert fits(nullable, {"y": [None, value]}, draft_7=draft_7)
    unmarked = inside({**schema, "nullable": False})
    assert fits(unmarked, {"x": None}) == fits(inside(schema), {"x": None})


def test_what_stands_beside_a_reference_holds_as_well() -> None:
    schema = {
        "nullable": True,
        "$ref": "#/$defs/a",
        "anyOf": [{"minimum": 5}, {"type": "string"}],
        "$defs": {"a": INTEGER},
    }
    assert [value for value in (None, 1, 7, 7.5, "a") if fits(schema, value)] == [None, 7]


def test_pointers_lead_where_they_led() -> None:
    schema = {
        "properties": {
            "a": {"nullable": True, "anyOf": [INTEGER, {"type": "string"}]},
            "b": {"$ref": "#/properties/a/anyOf/1"},
            "c": {"nullable": True, "oneOf": [{"type": "boolean"}, INTEGER]},
            "d": {"$ref": "#/properties/c/oneOf/0"},
            "e": {"$ref": "#/properties/c"},
            "f": {"nullable": True, "allOf": [{"properties": {"g": INTEGER}}]},
            "g": {"$ref": "#/properties/f/allOf/0/properties/g"},
        },
        "components": {"schemas": {"nullable": {"type": "string", "nullable": True}}},
    }
    assert fits(schema, {"a": None, "b": "x", "c": None, "d": True, "e": None, "f": None, "g": 1})
    assert not any(fits(schema, value) for value in ({"b": 1}, {"b": None}, {"d": 1}, {"d": None}, {"g": None}))
    assert fits({**schema, "$ref": "#/components/schemas/nullable"}, None)


def test_a_member_or_a_value_named_nullable_is_no_word_of_the_schema() -> None:
    schema = {
        "properties": {"nullable": True, "a": {"enum": [{"nullable": True, "type": "x"}]}},
        "type": "object",
        "default": {"nullable": True, "type": "y"},
    }
    assert with_nullable(schema) == schema
    assert not fits(schema, None)


@pytest.mark.parametrize("odd", [7, "x", None, [], ["x"], {}, {"x": 1}, True])
@pytest.mark.parametrize(
    "name", ["type", "enum", "const", "anyOf", "oneOf", "allOf", "properties", "items", "nullable"]
)
def test_what_is_no_schema_stays_none(name: str, odd: Any) -> None:
    for schema in ({"nullable": True, name: odd}, {"properties": {"a": {name: odd, "nullable": True}}, name: odd}):
        rewritten = with_nullable(schema)
        Nulls(rewritten).without({"a": None})
        assert name == "nullable" or name in rewritten or (name, "enum" in rewritten) == ("const", True)


VALUES = st.one_of(
    st.none(), st.integers(0, 3), st.sampled_from(["", "a"]), st.lists(st.none() | st.integers(0, 1), max_size=2)
)
SCHEMAS = st.recursive(
    st.sampled_from([{}, INTEGER, {"type": "string"}, NULL, {"enum": ["a", None]}, {"const": 1}, {"minLength": 1}]),
    lambda inner: st.one_of(
        st.builds(
            lambda kind, branches: {kind: branches}, st.sampled_from(["anyOf", "allOf"]), st.lists(inner, min_size=1)
        ),
        st.builds(lambda item: {"type": "array", "items": item}, inner),
    ),
    max_leaves=4,
)


@given(SCHEMAS, VALUES)
def test_any_schema_that_is_nullable_takes_what_it_took_and_null(schema: dict[str, Any], value: Any) -> None:
    rewritten = with_nullable({**schema, "nullable": True})
    assert jsonschema_rs.is_valid(rewritten, value) == (value is None or jsonschema_rs.is_valid(schema, value))
    assert Nulls(schema).fits(schema) == jsonschema_rs.is_valid(schema, None)


POINT = {"type": "object", "properties": {"x": INTEGER, "label": {"type": "string"}}, "required": ["x"]}
DRAWING = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "zoom": {"type": ["integer", "null"]},
        "unit": {"enum": ["cm", None]},
        "scale": {"type": "integer", "nullable": True},
        "origin": {"$ref": "#/$defs/point"},
        "points": {"type": "array", "items": {"$ref": "#/$defs/point"}},
        "pair": {"prefixItems": [{"$ref": "#/$defs/point"}, {"type": "string"}], "items": {"$ref": "#/$defs/point"}},
        "old pair": {"items": [{"$ref": "#/$defs/point"}], "additionalItems": {"$ref": "#/$defs/point"}},
        "by name": {"type": "object", "additionalProperties": {"$ref": "#/$defs/point"}},
        "by pattern": {"patternProperties": {"^a": {"$ref": "#/$defs/point"}}},
        "either": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/point"}]},
        "both": {"allOf": [{"$ref": "#/$defs/point"}], "properties": {"more": {"type": "string"}}},
        "branched": {"if": {}, "then": {"$ref": "#/$defs/point"}},
        "children": {"type": "array", "items": {"$ref": "#"}},
        "anything": {},
        "nothing": False,
    },
    "required": ["title"],
    "$defs": {"point": POINT},
}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"title": "a", "origin": None}, {"title": "a"}),
        ({"origin": None}, {}),
        (
            {"title": None, "zoom": None, "unit": None, "scale": None, "anything": None},
            ...,
        ),  # required, or it may be null
        ({"unknown": None}, ...),
        ({"nothing": None}, {}),
        ({"origin": {"x": 1, "label": None}}, {"origin": {"x": 1}}),
        ({"origin": {"x": None, "label": "a"}}, ...),
        ({"points": [{"x": 1}, {"x": 2, "label": None}, None]}, {"points": [{"x": 1}, {"x": 2}, None]}),
        ({"points": None, "title": "a"}, {"title": "a"}),
        ({"pair": [{"label": None}, {"label": None}, {"label": None}]}, {"pair": [{}, {"label": None}, {}]}),
        ({"old pair": [{"label": None}, {"label": None}]}, {"old pair": [{}, {}]}),
        ({"by name": {"a": {"label": None}, "b": None}}, {"by name": {"a": {}, "b": None}}),
        ({"by pattern": {"a": {"label": None}}}, {"by pattern": {"a": {}}}),
        ({"either": {"x": 1, "label": None}}, {"either": {"x": 1}}),
        ({"both": {"x": 1, "label": None, "more": None}}, {"both": {"x": 1}}),
        ({"branched": {"label": None}}, {"branched": {}}),
        (
            {"children": [{"children": [{"title": "a", "origin": None}]}]},
            {"children": [{"children": [{"title": "a"}]}]},
        ),
        ({"anything": {"label": None}}, ...),
        ([{"label": None}], ...),
        (None, ...),
    ],
)
def test_null_says_that_an_optional_member_is_absent(value: Any, kept: Any) -> None:
    found = Nulls(DRAWING).without(value)
    assert found == (value if kept is ... else kept)
    assert (found is value) == (kept is ...)


def test_what_is_not_changed_is_the_same_object() -> None:
    same = {"x": 1, "label": "a"}
    found = Nulls(DRAWING).without({"origin": same, "points": [same, {"x": 2, "label": None}]})
    assert found["origin"] is found["points"][0] is same


def doubling(levels: int, place: str) -> dict[str, Any]:
    steps = {f"a{level}": {place: [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(levels)}
    return {"$defs": {**steps, f"a{levels}": {"type": "integer"}}}


@pytest.mark.parametrize("place", ["anyOf", "oneOf", "allOf"])
def test_hostile_schemas_take_no_time(place: str) -> None:
    started = time.process_time()
    chain = {f"a{level}": {"$ref": f"#/$defs/a{level + 1}"} for level in range(5000)}
    for schema in (
        {"properties": {"a": {"$ref": "#/$defs/a0"}}, **doubling(60, place)},
        {"properties": {"a": {place: [{"$ref": "#/properties/a"}] * 3}}},
        {"properties": {"a": {"$ref": "#"}}},
        {"properties": {"a": {"$ref": "#/$defs/a0"}}, "$defs": {**chain, "a5000": INTEGER}},
    ):
        nullable = {**schema, "items": {"nullable": True, place: [schema["properties"]["a"]] * 2}}
        with_nullable(nullable)
        value: Any = {"a": None}
        for _ in range(3000):
            value = {"a": value}
        Nulls(schema).without(value)
    wide = {"properties": {f"p{number}": INTEGER for number in range(3000)}}
    many = {"anyOf": [wide] * 3000, **wide}
    value = [dict.fromkeys(wide["properties"])] * 100
    assert Nulls({"items": many}).without(value) is not value
    slow = Nulls({"items": {"anyOf": [dict(wide) for _ in range(3000)]}})
    assert all(slow.without(value) is value for _ in range(100))  # it would take too long
    assert time.process_time() - started < 3


def test_values_without_nulls_spend_nothing_of_what_may_be_spent() -> None:
    nulls = Nulls({"anyOf": [{"properties": {"a": dict(INTEGER)}} for _ in range(3000)]})
    for _ in range(1000):
        nulls.without({"a": 1, "b": [{"c": 2}]})
    assert nulls.without({"a": None, "b": 1}) == {"b": 1}


def test_pointers() -> None:
    root = {"a/b~c": [{"d": 1}], "%": 2}
    assert target(root, "#") is root
    assert (target(root, "#/a~1b~0c/0/d"), target(root, "#/%25")) == (1, 2)
    for wrong in ("#/a", "#/a~1b~0c/1", "#/a~1b~0c/x", "#/%25/a"):
        with pytest.raises(ValueError, match="leads to nothing"):
            target(root, wrong)
