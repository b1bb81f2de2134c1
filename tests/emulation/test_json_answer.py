"""JSON taken out of what a model writes around it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.apis.openai.formats import response_format
from gpt_oss_proxy.chat.events import Finish, ToolCallDelta
from gpt_oss_proxy.emulation.json_answer import JsonAnswer, WantedJson, instruct, wanted_json
from gpt_oss_proxy.errors import InvalidRequest
from tests.emulation.filtered import PLACES, cut, run, text_of, texts
from tests.emulation.test_json_text import JSON, OBJECT

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ANY = {"type": "json_object"}
BEFORE = [
    "",
    "\n",
    "Here you are:\n```json\n",
    "I use {braces} and [1].\n",
    "{ } is empty? No: { not\n".replace("{ }", "{x}"),
]


def wanted(**described: Any) -> WantedJson:
    form = {"type": "json_schema", "json_schema": {"name": "n", **described}} if described else ANY
    found = wanted_json(response_format(form))
    assert found is not None
    return found


@given(st.sampled_from(BEFORE), OBJECT, st.sampled_from(["", '\n```\nDone {"a": 1}', " }"]), st.booleans(), PLACES)
def test_only_the_json_comes_out(before: str, value: Any, after: str, hold: bool, places: list[int]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    step = JsonAnswer(wanted(), hold=hold)
    out = run(step, texts(cut(before + text + after, places)))
    assert step.fault is None
    assert (text_of(out), out[-1]) == (text, Finish("stop"))


@given(st.lists(JSON, min_size=1, max_size=4), PLACES)
def test_an_array_where_the_schema_wants_one(value: Any, places: list[int]) -> None:
    text = json.dumps(value)
    out = run(JsonAnswer(wanted(schema={"type": "array"}), hold=False), texts(cut(f"Well: {text}.", places)))
    assert text_of(out) == text


@given(st.text('{}[]":,a1 \n\\', max_size=30), PLACES)
def test_pieces_give_what_the_whole_gives(text: str, places: list[int]) -> None:
    for hold in (False, True):
        whole, pieces = JsonAnswer(wanted(), hold=hold), JsonAnswer(wanted(), hold=hold)
        told = [run(whole, texts([text])), run(pieces, texts(cut(text, places)))]
        assert text_of(told[0]) == text_of(told[1])
        assert (whole.fault is None) == (pieces.fault is None)
        if whole.fault is None:
            assert isinstance(json.loads(text_of(told[0])), dict)


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}]', '```\n[ {\n"a": 1}]'])
def test_a_list_is_not_taken_for_the_object_in_it(text: str) -> None:
    for pieces in ([text], list(text)):
        step = JsonAnswer(wanted(), hold=False)
        assert text_of(run(step, texts(pieces))) == ""
        assert step.fault is not None
        assert step.fault.repairable


def test_it_streams_as_it_comes() -> None:
    step = JsonAnswer(wanted(), hold=False)
    assert [text_of(step.feed(texts([piece]))) for piece in ("```", "{", '"a": ', '"b', '"', "}", "```")] == [
        *("", "", '{"a": ', '"b', '"', "}", ""),
    ]


@pytest.mark.parametrize(
    "text",
    ["I cannot.", "", '{"city": 7}', '{"town": "Paris"}', '{"city": "Paris"', '{"city": Paris}', '{"city": NaN}'],
)
@pytest.mark.parametrize("hold", [True, False])
def test_what_is_no_answer_is_a_fault(text: str, hold: bool) -> None:
    step = JsonAnswer(wanted(schema=SCHEMA), hold=hold)
    out = run(step, texts([text]))
    assert step.fault is not None
    assert step.fault.error.code == "response_format_invalid"
    assert step.fault.repairable == (hold or not out)
    assert not any(isinstance(event, Finish) for event in out)
    assert "Your answer is not as it must be" in step.fault.correction


@pytest.mark.parametrize("hold", [True, False])
def test_a_cut_answer_is_what_it_is(hold: bool) -> None:
    out = run(JsonAnswer(wanted(schema=SCHEMA), hold=hold), texts(['{"city": "Par']), "length")
    assert (text_of(out), out[-1]) == ('{"city": "Par', Finish("length"))


def test_an_answer_that_calls_a_tool_need_not_be_json() -> None:
    call = ToolCallDelta(0, "c", "now", "{}")
    step = JsonAnswer(wanted(schema=SCHEMA), hold=True)
    assert run(step, [*texts(["Let me see."]), call], "tool_calls") == [call, Finish("tool_calls")]


@pytest.mark.parametrize("hold", [True, False])
def test_nullable_is_understood(hold: bool) -> None:
    schema = {**SCHEMA, "properties": {"city": {"type": "string", "nullable": True}}}
    step = JsonAnswer(wanted(schema=schema), hold=hold)
    assert text_of(run(step, texts(['{"city": null}']))) == '{"city": null}'
    assert step.fault is None


@given(PLACES)
def test_null_for_an_optional_member_leaves_it_out_where_the_answer_is_held(places: list[int]) -> None:
    text = '{"city": "Zü\\ud83drich", "zip": null, "parts": [{"name": null}]}'
    parts = {"type": "array", "items": {"properties": {"name": {"type": "string"}}}}
    schema = {**SCHEMA, "properties": {"city": {}, "zip": {"type": "integer"}, "parts": parts}}
    step = JsonAnswer(wanted(schema=schema), hold=True)
    told = text_of(run(step, texts(cut(text, places))))
    assert step.fault is None
    assert told.encode()
    assert json.loads(told) == {"city": "Zü\ud83drich", "parts": [{}]}
    streamed = JsonAnswer(wanted(schema=schema), hold=False)
    assert text_of(run(streamed, texts(cut(text, places)))) == text  # so it does not fit what the client asked for
    assert streamed.fault is not None
    for same in ('{"city":  null}', '{"zip": null}'):
        step = JsonAnswer(wanted(schema={"type": "object"}), hold=True)
        assert text_of(run(step, texts([same]))) == same


def test_line_ends_that_models_write_into_strings_are_escaped() -> None:
    assert text_of(run(JsonAnswer(wanted(), hold=False), texts(['{"a": "b\nc"}']))) == '{"a": "b\\nc"}'


@pytest.mark.parametrize("options", [{}, {"response_format": {"type": "text"}}, {"response_format": None}])
def test_text_is_no_format(options: dict[str, Any]) -> None:
    assert wanted_json(response_format(options.get("response_format"))) is None


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "grammar"}, "response_format.type"),
        ({}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.schema"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "response_format.schema"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}, "response_format.schema"),
        ({"type": "json_schema", "json_schema": {"schema": {"type": "objekt"}}}, "response_format.schema"),
    ],
)
def test_a_format_that_cannot_be_had_is_refused(form: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wanted_json(response_format(form))
    assert caught.value.param == param


def test_the_model_is_told() -> None:
    assert instruct(wanted()).startswith("Answer with one JSON object and nothing else")
    assert '{"type": "object", "properties": {"city"' in instruct(wanted(schema=SCHEMA))
    assert "one JSON array" in instruct(wanted(schema={"type": "array"}))
