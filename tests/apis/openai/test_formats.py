"""Tools, choices and formats become typed values, and what has no such form is kept as it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.apis.openai.formats import response_format, tool, tool_choice
from gpt_oss_proxy.chat.request import ChatRequest, Passthrough, ResponseFormat, Tool, ToolChoice
from gpt_oss_proxy.upstreams.openai.request import build_body

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
NO_CHOICE = "it must be none, auto, required, name a function or list allowed_tools."


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **fields}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [function(name=name) for name in names]}}


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (function(), Tool("f")),
        (function(description="", parameters={}), Tool("f", "", {})),
        (function(description="F.", parameters=SCHEMA, strict=True), Tool("f", "F.", SCHEMA, True)),
        (function(description=None, parameters=None, strict=None), Tool("f")),
        (function(strict=False), Tool("f", strict=False)),
        (function(strict="yes"), Tool("f", extra={"function": {"strict": "yes"}})),
        (function(strict=1), Tool("f", extra={"function": {"strict": 1}})),
        (function(parameters={"a": None}), Tool("f", None, {"a": None})),
        ({**function(x=None), "cache": None}, Tool("f")),
        ({**function(), "name": "g", "x": [None]}, Tool("f", extra={"name": "g", "x": [None]})),
        ({**function(x=1), "cache": {}}, Tool("f", extra={"cache": {}, "function": {"x": 1}})),
    ],
)
def test_a_function_is_a_tool_and_its_further_fields_are_kept(value: dict[str, Any], parsed: Tool) -> None:
    assert tool(value) == parsed


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"type": "web_search", "x": 1}, "Invalid enum value 'web_search' - at `$.type`."),
        ({}, "Object missing required field `type`."),
        ({"type": "function"}, "Object missing required field `function`."),
        ({"type": "function", "function": {}}, "Object missing required field `name` - at `$.function`."),
        ({"type": "function", "function": "f"}, "Expected `object`, got `str` - at `$.function`."),
        (function(parameters=[]), "Expected `object | null`, got `array` - at `$.function.parameters`."),
        (function(name=5), "Expected `str`, got `int` - at `$.function.name`."),
        (function(description=5), "Expected `str | null`, got `int` - at `$.function.description`."),
    ],
)
def test_a_tool_of_another_kind_is_kept_with_what_is_wrong_with_it(value: dict[str, Any], fault: str) -> None:
    assert tool(value) == Passthrough(value, fault, ())


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (None, None),
        ("", None),
        ({}, None),
        ({**function(x=1), "y": 2}, ToolChoice("required", ("f",), {"y": 2, "function": {"x": 1}})),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (function(), ToolChoice("required", ("f",))),
    ],
)
def test_a_choice(value: Any, parsed: object) -> None:
    assert tool_choice(value) == parsed


@pytest.mark.parametrize(
    "value",
    [
        *("any", "AUTO", "f"),
        *({"type": "hosted"}, {"type": "function"}, function(name=5), {"type": "allowed_tools"}, {"type": "auto"}),
        *(allowed("none", "f"), allowed("any", "f")),
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [function(), {"type": "web_search"}]}},
    ],
)
def test_a_choice_that_is_not_known_is_kept_with_what_it_must_be(value: Any) -> None:
    assert tool_choice(value) == Passthrough(value, NO_CHOICE, ())


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        (None, None),
        ({"type": "text"}, ResponseFormat("text")),
        ({"type": "text", "x": 1, "y": None}, ResponseFormat("text", extra={"x": 1})),
        ({"type": "json_object"}, ResponseFormat("object")),
        ({"type": "json_object", "schema": SCHEMA}, ResponseFormat("object", extra={"schema": SCHEMA})),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, ResponseFormat("schema", {})),
        (
            {"type": "json_schema", "y": None, "json_schema": {"name": None, "schema": {"a": None}, "strict": None}},
            ResponseFormat("schema", {"a": None}),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "", "schema": SCHEMA, "strict": False, "z": None}},
            ResponseFormat("schema", SCHEMA, "", False),
        ),
        (
            {"type": "json_schema", "schema": 7, "json_schema": {"name": 5, "type": "q", "schema": SCHEMA}},
            ResponseFormat("schema", SCHEMA, extra={"schema": 7, "json_schema": {"name": 5, "type": "q"}}),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            ResponseFormat("schema", SCHEMA, "n", True),
        ),
        (
            {"type": "json_schema", "x": 1, "json_schema": {"schema": SCHEMA, "description": "d", "strict": "no"}},
            ResponseFormat("schema", SCHEMA, extra={"x": 1, "json_schema": {"description": "d", "strict": "no"}}),
        ),
    ],
)
def test_a_format(value: Any, parsed: object) -> None:
    assert response_format(value) == parsed


NO_KIND = "it must be text, json_object or json_schema."
NO_SCHEMA = "a JSON schema is needed here."


@pytest.mark.parametrize(
    ("value", "fault", "path"),
    [
        ({"type": "grammar", "x": 1}, NO_KIND, ("type",)),
        ({}, NO_KIND, ("type",)),
        ({"type": None}, NO_KIND, ("type",)),
        ({"type": ["text"]}, NO_KIND, ("type",)),
        ({"type": "object"}, NO_KIND, ("type",)),
        ({"type": "json_schema"}, NO_SCHEMA, ("schema",)),
        ({"type": "json_schema", "json_schema": "x"}, NO_SCHEMA, ("schema",)),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, NO_SCHEMA, ("schema",)),
        ({"type": "json_schema", "json_schema": {"schema": 5}}, NO_SCHEMA, ("schema",)),
    ],
)
def test_a_format_that_is_not_known_is_kept_with_the_place_of_its_fault(
    value: dict[str, Any], fault: str, path: tuple[str, ...]
) -> None:
    assert response_format(value) == Passthrough(value, fault, path)


NAMES = st.sampled_from(["f", "g", "é", ""])
WITH_NULLS = {"a": None, "properties": {"b": {"default": None}}}  # the client's own: they stay
SCHEMAS = st.sampled_from([SCHEMA, {}, WITH_NULLS])
MORE = st.dictionaries(
    st.sampled_from(["x", "cache_control", "name", "schema"]),
    st.none() | st.integers() | st.lists(st.none() | st.text(), max_size=2),
)
FUNCTIONS = st.builds(
    lambda more, known: {**more, **known},
    MORE,
    st.fixed_dictionaries(
        {"name": NAMES | st.just(5)},
        optional={
            "description": st.none() | st.text(),
            "parameters": st.none() | SCHEMAS | st.just([]),
            "strict": st.none() | st.booleans() | st.sampled_from(["odd", 1]),
        },
    ),
)
NAMED = st.builds(lambda inner, more: {**more, "type": "function", "function": inner}, FUNCTIONS, MORE)
BARE = st.builds(lambda name: {"type": "function", "function": {"name": name}}, NAMES)
TOOLS = NAMED | st.builds(lambda more: {**more, "type": "web_search"}, MORE)
CHOICES = (
    st.sampled_from([None, "auto", "none", "required", "any", {"type": "hosted", "x": None}])
    | BARE
    | st.builds(
        lambda mode, tools: {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}},
        st.sampled_from(["auto", "required", "odd"]),
        st.lists(BARE | st.just({"type": "web_search"}), max_size=3),
    )
)
DESCRIBED = st.builds(
    lambda more, known: {**more, **known},
    MORE,
    st.fixed_dictionaries(
        {"schema": SCHEMAS | st.just(5)},
        optional={
            "name": st.none() | st.text() | st.just(5),
            "strict": st.none() | st.booleans() | st.just("odd"),
            "description": st.text(),
        },
    ),
)
FORMATS = (
    st.none()
    | st.builds(lambda kind, more: {**more, "type": kind}, st.sampled_from(["text", "json_object", "odd"]), MORE)
    | st.builds(lambda inner, more: {**more, "type": "json_schema", "json_schema": inner}, DESCRIBED, MORE)
)


def without_nulls(value: dict[str, Any], inner: str) -> dict[str, Any]:
    """Return the object without members that are null, its inner object likewise; what is further in stays."""
    kept = {name: item for name, item in value.items() if item is not None}
    if isinstance(kept.get(inner), dict):
        kept[inner] = {name: item for name, item in kept[inner].items() if item is not None}
    return kept


@pytest.mark.parametrize(
    ("mode", "names"),
    [("required", ("f",)), ("required", ("g", "f")), ("auto", ("f",)), ("auto", ()), ("auto", ("f", "g"))],
)
def test_allowed_tools_are_a_choice_among_them(mode: str, names: tuple[str, ...]) -> None:
    found = tool_choice(allowed(mode, *names))
    assert isinstance(found, ToolChoice)
    assert (found.mode, found.names) == (mode, names)


def test_further_fields_of_a_choice_reach_a_server_of_the_same_format() -> None:
    inner = {"mode": "required", "tools": [{**function(x=1), "y": 2}], "z": 1}
    for choice in ({**function(x=1), "y": 2}, {"type": "allowed_tools", "y": 2, "allowed_tools": inner}):
        assert build_body(ChatRequest("m", (), tool_choice=tool_choice(choice)))["tool_choice"] == choice


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        *(
            (choice, choice)
            for choice in ("auto", "none", "required", "any", function(), {"type": "hosted", "x": None})
        ),
        *((choice, choice) for choice in (allowed("auto"), allowed("auto", "f"), allowed("auto", "f", "g"))),
        *((choice, choice) for choice in (allowed("required"), allowed("required", "g", "f"))),
        (allowed("required", "f"), allowed("required", "f")),
    ],
)
def test_a_choice_goes_to_a_server_of_the_same_format_as_it_came(choice: Any, sent: Any) -> None:
    assert build_body(ChatRequest("m", (), tool_choice=tool_choice(choice)))["tool_choice"] == sent


@given(st.lists(TOOLS, min_size=1, max_size=3), CHOICES, FORMATS)
def test_a_server_of_the_same_format_gets_what_the_client_wrote(tools: Any, choice: Any, form: Any) -> None:
    request = ChatRequest(
        "m",
        (),
        tools=tuple(map(tool, tools)),
        tool_choice=tool_choice(choice),
        response_format=response_format(form),
    )
    body = build_body(request)
    assert [without_nulls(one, "function") for one in body["tools"]] == [
        without_nulls(one, "function") for one in tools
    ]
    assert body.get("tool_choice") == choice
    formats = [without_nulls(one, "json_schema") for one in (body.get("response_format"), form) if one is not None]
    assert len(formats) == (0 if form is None else 2)
    assert formats[:1] == formats[1:]
