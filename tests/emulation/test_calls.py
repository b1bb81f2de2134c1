"""Calls that fit their tools, as early as that is certain, and mended once if they do not."""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Event, Finish, TextDelta, ToolCallDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.calls import Calls
from gpt_oss_proxy.emulation.tools import Tools, offered_tools
from tests.emulation.filtered import PLACES, calls_of, cut, run, text_of
from tests.typed import typed

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1},
        "places": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city"],
    "additionalProperties": False,
}
FITTING = st.fixed_dictionaries(
    {"city": st.text('Par"\\is\né😀', max_size=8)},
    optional={
        "unit": st.sampled_from(["celsius", "fahrenheit"]),
        "days": st.integers(1, 9),
        "places": st.lists(st.text("a,]}", max_size=3), max_size=2),
    },
)


def offer(options: Mapping[str, Any]) -> Tools | None:
    return offered_tools(ChatRequest("m", (), **typed(options)))


def offered(**options: Any) -> Tools:
    functions = [{"name": "weather", "parameters": SCHEMA}, {"name": "now"}]
    tools = offered_tools(
        ChatRequest(
            "m",
            (),
            **typed({"tools": [{"type": "function", "function": function} for function in functions], **options}),
        )
    )
    assert tools is not None
    return tools


def calls(tools: Tools | None = None, first: Calls | None = None, **options: Any) -> Calls:
    ids = iter(f"call_{number}" for number in range(10 if first is None else 100, 200))
    return Calls(tools or offered(**options), form="FORM", new_id=lambda: next(ids), first=first)


def written(name: str, *pieces: str, index: int = 0) -> list[Event]:
    return [ToolCallDelta(index, name=name), *(ToolCallDelta(index, arguments=piece) for piece in pieces)]


def said(events: Iterable[Event]) -> str:
    return "".join(event.arguments for event in events if isinstance(event, ToolCallDelta))


@given(st.lists(FITTING, min_size=1, max_size=3), st.booleans(), PLACES)
def test_calls_that_fit_come_out_as_they_were_written(values: list[Any], ascii_only: bool, places: list[int]) -> None:
    texts = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    step = calls()
    out = run(step, [event for text in texts for event in written("weather", *cut(text, places))])
    assert step.fault is None
    assert calls_of(out) == [("weather", text) for text in texts]
    assert out[-1] == Finish("tool_calls")


@given(FITTING, PLACES)
def test_what_went_out_is_a_beginning_that_parsers_of_beginnings_understand(value: Any, places: list[int]) -> None:
    text = json.dumps(value)
    step, out = calls(), ""
    for event in written("weather", *cut(text, places)):
        out += said(step.feed([event]))
        assert text.startswith(out)
        assert not out.endswith("\\") or out.endswith("\\\\") or len(out) - len(out.rstrip("\\")) % 2 == 0


def test_the_first_delta_names_and_the_others_grow() -> None:
    out = run(calls(), written("weather", '{"city": "Pa', 'ris", "unit": "cel', 'sius"', "}"))
    assert out == [
        ToolCallDelta(0, "call_10", "weather"),
        ToolCallDelta(0, arguments='{"city": "Pa'),
        ToolCallDelta(0, arguments='ris"'),
        ToolCallDelta(0, arguments=', "unit": "celsius"}'),
        Finish("tool_calls"),
    ]


FAULTS = {
    "wrong type": '{"city": "Paris", "days": "two"}',
    "out of range": '{"city": "Paris", "days": 0}',
    "not in the enumeration": '{"city": "Paris", "unit": "kelvin"}',
    "an unknown member": '{"city": "Paris", "country": "France"}',
    "a missing member": '{"unit": "celsius"}',
    "no object": '["Paris"]',
    "prose": "Paris",
    "a comma too much": '{"city": "Paris",}',
    "no quotes": "{city: 'Paris'}",
    "not ended": '{"city": "Paris"',
    "cut in a string": '{"city": "Par',
    "twice": '{"city": "Paris", "city": "Rome"}',
    "NaN": '{"city": "Paris", "days": NaN}',
    "bottomless": '{"city": "Paris", "places": ' + "[" * 5000 + "]" * 5000 + "}",
}


@pytest.mark.parametrize("text", FAULTS.values(), ids=list(FAULTS))
@pytest.mark.parametrize("size", [1, 1000])
def test_a_faulty_call_goes_on_with_its_correction(text: str, size: int) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    first = calls()
    out = run(first, written("weather", *pieces))
    assert first.fault is not None
    assert first.fault.repairable
    assert "FORM" in first.fault.correction
    assert not any(isinstance(event, Finish) for event in out)
    second = calls(first=first)
    right = '{"city": "Paris", "unit": "celsius"}'
    again = run(second, [TextDelta("Sorry! "), *written("weather", right), TextDelta("Done.")])
    assert second.fault is None
    assert text_of(again) == ""
    assert [(name, json.loads(arguments)) for name, arguments in calls_of([*out, *again])] == [
        ("weather", json.loads(right))
    ]
    assert again[-1] == Finish("tool_calls")


@pytest.mark.parametrize("text", [text for text in FAULTS.values() if "Paris" in text])
@given(places=PLACES)
def test_wherever_a_faulty_call_is_cut_what_has_gone_out_and_its_correction_are_one(
    text: str, places: list[int]
) -> None:
    first = calls()
    out = run(first, written("weather", *cut(text, places)))
    right = {"city": "Paris", "unit": "celsius", "days": 2, "places": ['a"\n', "😀"]}
    second = calls(first=first)
    again = run(second, written("weather", json.dumps(right)))
    assert second.fault is None
    assert [(name, json.loads(arguments)) for name, arguments in calls_of([*out, *again])] == [("weather", right)]


@given(PLACES)
def test_members_of_which_nothing_has_gone_out_may_be_corrected(places: list[int]) -> None:
    """What is certain goes out with the piece that it came in, and not if that piece is faulty."""
    text = '{"city": "Paris", "days": 1, "places": ["a"], "unit": "kelvin"}'
    first = calls()
    out = run(first, written("weather", *cut(text, places)))
    days, named = 1 if "1" in said(out) else 2, "a" if '"a"' in said(out) else "b"
    right = {"city": "Paris", "days": days, "places": [named], "unit": "celsius"}
    second = calls(first=first)
    again = run(second, written("weather", json.dumps(right)))
    assert second.fault is None
    assert [json.loads(arguments) for _, arguments in calls_of([*out, *again])] == [right]


def test_half_a_character_in_a_correction_is_written_as_the_model_wrote_it() -> None:
    first = calls()
    out = run(first, written("now", '{"a": "Pa', 'ris", "b": }'))
    again = run(calls(first=first), written("now", '{"a": "Paris \\ud83d", "b": ["é", "\\ude00"]}'))
    [(_, arguments)] = calls_of([*out, *again])
    assert arguments.encode()
    assert json.loads(arguments) == {"a": "Paris \ud83d", "b": ["é", "\ude00"]}


# Nulls


PLAN: Any = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "note": {"type": "string", "nullable": True},
        "stay": {"$ref": "#/$defs/stay"},
        "stays": {"type": "array", "items": {"$ref": "#/$defs/stay"}},
        "unit": {"type": ["string", "null"]},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {
        "stay": {
            "type": "object",
            "properties": {
                "hotel": {"type": "string"},
                "nights": {"type": "integer"},
                "stay": {"$ref": "#/$defs/stay"},
            },
            "required": ["hotel"],
        }
    },
}


def plans(parameters: Any = PLAN, first: Calls | None = None) -> Calls:
    tools = offered_tools(
        ChatRequest(
            "m", (), **typed({"tools": [{"type": "function", "function": {"name": "plan", "parameters": parameters}}]})
        )
    )
    assert tools is not None
    return calls(tools, first)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"city": "Rome", "days": null}', '{"city": "Rome"}'),
        ('{"days": null, "city": "Rome"}', '{"city": "Rome"}'),
        ('{"days": null,\n"stay": null,\n"city": "Rome"\n}', '{"city": "Rome"\n}'),
        ('{"city": "Rome", "days": null, "unit": "km"}', '{"city": "Rome", "unit": "km"}'),
        ('{"city": "Rome", "note": null, "unit": null}', '{"city": "Rome", "note": null, "unit": null}'),
        (
            '{"city": "Rome", "stay": {"hotel": "A", "nights": null}, "days": 2}',
            '{"city": "Rome", "stay": {"hotel": "A"}, "days": 2}',
        ),
        (
            '{"city": "", "stays": [{"hotel": "", "stay": null}, {"hotel": "é", "stay": {"hotel": "", "stay": null}}]}',
            '{"city": "", "stays": [{"hotel": ""}, {"hotel": "é", "stay": {"hotel": ""}}]}',
        ),
    ],
)
@given(places=PLACES)
def test_null_for_an_optional_member_leaves_it_out_and_one_that_may_be_null_stays(
    text: str, told: str, places: list[int]
) -> None:
    step = plans()
    out: list[Event] = []
    for event in [*written("plan", *cut(text, places)), Finish("stop")]:
        out += step.feed([event])
        assert told.startswith(said(out))
    assert step.fault is None
    assert calls_of(out) == [("plan", told)]


@pytest.mark.parametrize(
    "around",
    [
        PLAN,
        {"$ref": "#/$defs/plan", "$defs": {**PLAN["$defs"], "plan": PLAN}},
        {"allOf": [PLAN], "$defs": PLAN["$defs"]},
    ],
)
@pytest.mark.parametrize(
    "text", ['{"days": null}', '{ "days" : null , "stay":null }', '{"days": null,"stay":null,"stays":null}']
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_call_whose_members_are_all_absent_is_one_without_arguments(around: Any, text: str, size: int) -> None:
    schema = json.loads(json.dumps(around).replace('"required": ["city"], ', ""))
    out = run(plans(schema), written("plan", *(text[start : start + size] for start in range(0, len(text), size))))
    assert [(name, json.loads(arguments)) for name, arguments in calls_of(out)] == [("plan", {})]


@pytest.mark.parametrize(
    "text",
    [
        '{"city": null}',
        '{"city": "Rome", "country": null}',
        '{"city": "Rome", "stay": {"hotel": null}}',
        '{"city": "Rome", "stays": [null]}',
        '{"city": "Rome", "days": null, "days": 2}',
        '{"city": "Rome", "days": null,}',
        '{"days": null}',
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_other_nulls_are_faults(text: str, size: int) -> None:
    step = plans()
    run(step, written("plan", *(text[start : start + size] for start in range(0, len(text), size))))
    assert step.fault is not None


def test_a_correction_goes_on_behind_members_that_were_left_out() -> None:
    right = '{"stay": null, "city": "Rome", "days": 2, "unit": null}'
    for sent in ('{"stay": null, ', '{"stay": null, "city": "Ro', '{"stay": null, "city": "Rome", "days": 2, '):
        first = plans()
        out = run(first, written("plan", sent, '"stays": 7}'))
        again = run(plans(first=first), written("plan", right))
        assert [json.loads(arguments) for _, arguments in calls_of([*out, *again])] == [
            {"city": "Rome", "days": 2, "unit": None}
        ]


def test_a_cut_call_is_what_it_is_but_for_members_that_were_left_out() -> None:
    out = run(plans(), written("plan", '{"days": null, "stay": null, "city": "Ro'), "length")
    assert calls_of(out) == [("plan", '{"city": "Ro')]
    out = run(plans(), written("plan", '{"city": "Rome", "days": nul'), "length")
    assert calls_of(out) == [("plan", '{"city": "Rome", "days": nul')]


def test_a_corrected_call_loses_its_absent_members_too() -> None:
    first = plans()
    run(first, written("nope", "{}"))
    out = run(plans(first=first), written("plan", '{"city": "Rome", "days": null}'))
    assert calls_of(out) == [("plan", '{"city": "Rome"}')]


def test_a_call_that_was_right_but_for_a_null_is_not_made_twice() -> None:
    first = plans()
    out = run(first, [*written("plan", '{"city": "Rome", "days": null}'), *written("nope", "{}")])
    out += run(plans(first=first), written("plan", '{"city": "Rome"}'))
    assert calls_of(out) == [("plan", '{"city": "Rome"}')]


@pytest.mark.parametrize(
    "correction",
    [
        written("weather", '{"city": 7}'),
        written("weather", '{"city": "Rome"}'),  # Paris has gone out
        written("now", "{}"),
        [TextDelta("I cannot.")],
    ],
)
def test_a_correction_that_mends_nothing_is_a_fault(correction: list[Event]) -> None:
    first = calls()
    run(first, written("weather", '{"city": "Paris",', ' "unit": "kelvin"}'))
    second = calls(first=first)
    out = run(second, correction)
    assert second.fault is not None
    assert second.fault.error.code == "tool_call_invalid"
    assert not any(isinstance(event, Finish) for event in out)


def test_calls_that_were_right_are_not_made_twice() -> None:
    first = calls()
    out = run(first, [*written("now", "{}"), *written("weather", '{"town": "Paris"}')])
    second = calls(first=first)
    out += run(second, [*written("now", "{ }"), *written("weather", '{"city": "Paris"}'), *written("now", '{"a":1}')])
    assert calls_of(out) == [("now", "{}"), ("weather", '{"city": "Paris"}'), ("now", '{"a":1}')]


def test_an_unknown_tool_is_a_fault_before_anything_goes_out() -> None:
    first = calls()
    assert run(first, written("wether", "{}")) == []
    second = calls(first=first)
    out = run(second, [TextDelta("I have no such tool.")])  # nothing demands a call
    assert (text_of(out), out[-1], second.fault) == ("I have no such tool.", Finish("stop"), None)


def test_without_tools_a_call_is_a_fault_and_the_second_try_is_text() -> None:
    first = Calls(None, form="", new_id=str)
    assert run(first, written("browser", "{}")) == []
    assert first.fault is not None
    assert "answer in plain text" in first.fault.correction
    second = Calls(None, form="", new_id=str, first=first)
    assert text_of(run(second, [TextDelta("Hello")])) == "Hello"


def test_a_call_without_arguments_is_one_with_none() -> None:
    out = run(calls(), [*written("now"), *written("now")])
    assert calls_of(out) == [("now", "{}"), ("now", "{}")]
    first = calls()
    run(first, written("weather"))
    assert first.fault is not None


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}])
def test_a_call_that_must_be_is_asked_for_again(choice: Any) -> None:
    first = calls(tool_choice=choice)
    assert text_of(run(first, [TextDelta("No.")])) == "No."
    assert first.fault is not None
    second = calls(tool_choice=choice, first=first)
    assert calls_of(run(second, written("now", "{}"))) == [("now", "{}")]
    third = calls(tool_choice=choice, first=first)
    run(third, [TextDelta("No!")])
    assert third.fault is not None


@pytest.mark.parametrize("after", [[], written("nope", "{}")])
def test_an_answer_ends_once_however_its_last_call_ends(after: list[Event]) -> None:
    step = calls(parallel_tool_calls=False)
    out = run(step, [*written("now"), *after])
    assert (calls_of(out), [event for event in out if isinstance(event, Finish)]) == (
        [("now", "{}")],
        [Finish("tool_calls")],
    )
    assert step.fault is None


def test_text_behind_half_a_call_is_a_fault() -> None:
    step = calls()
    assert text_of(run(step, [*written("weather", '{"city": "Pa'), TextDelta("bla")])) == ""
    assert step.fault is not None


def test_only_the_named_tool_may_be_called() -> None:
    first = calls(tool_choice={"type": "function", "function": {"name": "now"}})
    assert run(first, written("weather", '{"city": "Paris"}')) == []
    assert first.fault is not None


def test_one_call_is_enough_where_they_may_not_be_parallel() -> None:
    step = calls(parallel_tool_calls=False)
    out = run(step, [*written("now", "{}"), *written("now", "{}"), TextDelta("more")])
    assert (calls_of(out), out[-1], step.finished) == ([("now", "{}")], Finish("tool_calls"), True)


@pytest.mark.parametrize("size", [1, 1000])
def test_what_follows_the_object_means_nothing(size: int) -> None:
    text = '{"city": "Paris"}}\n.'
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert calls_of(run(calls(), written("weather", *pieces))) == [("weather", '{"city": "Paris"}')]


def test_a_cut_answer_is_what_it_is() -> None:
    out = run(calls(), written("weather", '{"city": "Paris", "da'), "length")
    assert (calls_of(out), out[-1]) == ([("weather", '{"city": "Paris", "da')], Finish("length"))


def test_an_upstreams_own_id_is_kept() -> None:
    out = run(calls(), [ToolCallDelta(0, "own", "now", "{}")])
    assert out[0] == ToolCallDelta(0, "own", "now")


def test_long_arguments_cost_in_proportion() -> None:
    def seconds(pieces: int) -> float:
        step = calls()
        started = time.process_time()
        step.feed(written("weather", '{"city": "'))
        for _ in range(pieces):
            step.feed([ToolCallDelta(0, arguments='some \\"ten ')])
        return time.process_time() - started

    seconds(1000)
    assert seconds(40_000) < 16 * (seconds(10_000) + 0.01)
