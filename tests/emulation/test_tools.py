"""Tools described, and calls found in text."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.events import Finish
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.emulation.prepare import prepare
from gpt_oss_proxy.emulation.tools import Frames, form, instruct, read_tools
from gpt_oss_proxy.errors import InvalidRequest
from tests.doubles import Characters
from tests.emulation.filtered import PLACES, calls_of, cut, run, text_of, texts

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NOW = {"type": "function", "function": {"name": "now"}}


def allowed(mode: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": "now"}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


PROSE = st.text('a[#7] {}\n"call', max_size=12).filter(
    lambda text: "[#7 " not in text and not text.endswith(("[", "[#", "[#7"))
)
ARGUMENTS = st.dictionaries(st.text('a"[#7 ', max_size=4), st.text('x"{}[]#7 call\n', max_size=10), max_size=3)


@given(PROSE, st.lists(ARGUMENTS, max_size=3), PROSE, st.booleans(), PLACES)
def test_calls_are_found_and_prose_is_not_lost(
    before: str, calls: list[dict[str, str]], after: str, with_id: bool, places: list[int]
) -> None:
    name = "[#7 call f call_1]" if with_id else "[#7 call f]"
    frames = "\n".join(f"{name} {json.dumps(arguments)}" for arguments in calls)
    out = run(Frames(7), texts(cut(before + frames + after, places)))
    assert text_of(out) == before + (after.lstrip() if calls else after)
    assert [(found, json.loads(arguments)) for found, arguments in calls_of(out)] == [("f", call) for call in calls]
    assert out[-1] == Finish("stop")


@given(st.text('[#7 cal]{}"\n', max_size=40), PLACES)
def test_pieces_give_what_the_whole_gives(text: str, places: list[int]) -> None:
    whole, pieces = run(Frames(7), texts([text])), run(Frames(7), texts(cut(text, places)))
    assert (text_of(whole), calls_of(whole)) == (text_of(pieces), calls_of(pieces))
    assert "[#7 " not in text_of(pieces)


def test_text_waits_only_while_it_may_become_a_frame() -> None:
    frames = Frames(7)
    assert text_of(frames.feed(texts(["Let me [see"]))) == "Let me [see"
    assert text_of(frames.feed(texts([" ["]))) == " "
    assert text_of(frames.feed(texts(["#"]))) == ""
    assert text_of(frames.feed(texts(["8"]))) == "[#8"


@pytest.mark.parametrize("marker", ["[#7 user]\nMore?", "[#7 tool result call_1]\n22 degrees", "[#7 system]"])
def test_a_model_that_goes_on_with_the_conversation_by_itself_is_stopped(marker: str) -> None:
    frames = Frames(7)
    out = run(frames, texts(["It is warm.", f"\n{marker}"]))
    assert (text_of(out), out[-1], frames.finished) == ("It is warm.\n", Finish("stop"), True)


def test_a_model_that_begins_with_its_own_marker_is_understood() -> None:
    assert text_of(run(Frames(7), texts("[#7 assistant]\nHello"))) == "Hello"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("[#7 call now]", ""),
        ("[#7 call now]\n[#7 call now] {}", ""),
        ("[#7 call now] [1]", "[1]"),
        ("[#7 call now] Paris", "Paris"),
        ('[#7 call now] {"a": ', '{"a": '),
    ],
)
def test_what_stands_in_place_of_arguments_is_given_on(text: str, arguments: str) -> None:
    for pieces in ([text], list(text)):
        assert calls_of(run(Frames(7), texts(pieces)))[0] == ("now", arguments)


@pytest.mark.parametrize(
    "text",
    [
        '[#7 call f {"a": "]}"}] done',
        '[#7 f] {"a": "]}"} done',
        '[#7 Call f] {"a": "]}"} done',
        '[#7 call: f] {"a": "]}"} done',
        '[#7 tool f] {"a": "]}"} done',
        '[#7 call f]: {"a": "]}"} done',
        '[#7 call f]\n```json\n{"a": "]}"} done',
        '**[#7 call f]** `{"a": "]}"} done',
        '[#7 call f] arguments: {"a": "]}"} done',
    ],
)
def test_what_comes_near_to_a_call_is_one(text: str) -> None:
    for pieces in ([text], list(text)):
        out = run(Frames(7), texts(pieces))
        assert calls_of(out) == [("f", '{"a": "]}"}')]
        assert text_of(out).removeprefix("**") == "done"


def test_a_frame_that_is_nothing_else_is_a_call_too_and_so_found_faulty() -> None:
    assert calls_of(run(Frames(7), texts("[#7 !?] Hello")))[0] == ("!?", "Hello")
    assert calls_of(run(Frames(7), texts("[#7 " + "long " * 100)))[0][0] == "long"


def test_a_frame_that_is_cut_is_not_text() -> None:
    out = run(Frames(7), texts("A [#7 call get_wea"))
    assert (text_of(out), calls_of(out)) == ("A ", [("call get_wea", "")])
    out = run(Frames(7), texts("A [#7 call get_wea"), "length")
    assert (text_of(out), calls_of(out), out[-1]) == ("A ", [], Finish("length"))


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({}, (["get_weather", "now"], False)),
        ({"tool_choice": None}, (["get_weather", "now"], False)),
        ({"tool_choice": "required"}, (["get_weather", "now"], True)),
        ({"tool_choice": {"type": "function", "function": {"name": "now"}}}, (["now"], True)),
        ({"tool_choice": allowed("auto")}, (["now"], False)),
        ({"tool_choice": allowed("required")}, (["now"], True)),
    ],
)
def test_the_choice_of_tools(options: dict[str, Any], choice: tuple[list[str], bool]) -> None:
    tools = read_tools({"tools": [WEATHER, NOW], **options})
    assert tools is not None
    assert (list(tools.tools), tools.must_call) == choice


@pytest.mark.parametrize(
    "options", [{}, {"tools": []}, {"tools": [NOW], "tool_choice": "none"}, {"tool_choice": "none"}]
)
def test_no_tools(options: dict[str, Any]) -> None:
    assert read_tools(options) is None


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tools": [NOW, {"type": "function"}]}, "tools[1]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [NOW, NOW]}, "tools[1].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "objekt"}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [NOW], "tool_choice": "must"}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "then"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(129)]}, "tools"),
    ],
)
def test_tools_that_cannot_be_offered_are_refused(options: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tools(options)
    assert (caught.value.param, caught.value.code) == (param, "invalid_value")


def offered(name: str) -> ChatRequest:
    tools = {"tools": [{"type": "function", "function": {"name": name}}]}
    return ChatRequest("m", (Message("user", (Text("Hi"),)),), options=tools)


@pytest.mark.parametrize(
    "name", ["", "a b", "a\n", "a[0]", "]", "brew:check", ":", "a{b", "{}", "a}", "<|end|>", "a<|call|>", "n" * 129]
)
def test_a_tool_whose_name_cannot_stand_in_a_frame_is_refused_before_the_model_is_asked(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepare(offered(name), frozenset(), harmony=True)
    assert (caught.value.param, caught.value.code) == ("tools[0].function.name", "invalid_value")


def test_what_takes_tools_itself_judges_their_names_itself() -> None:
    request = offered("brew:check")
    assert prepare(request, None, harmony=False).request is request


SIGNS = st.characters(exclude_categories=["Cs"]) | st.sampled_from(':{}[]<|>.-_/`*"\\#7 ')
NAMES = st.text(SIGNS, max_size=20) | st.sampled_from(
    [*("call", "Call:", "tool", "function.x", "functions.x", "user", "system", "assistant", "tool_result", "#1"),
     *("<|start|>", "<|message|>", "a<|channel|>b", "<|endoftext|>", "to=functions.x", "json", "arguments", "n" * 128)]
)  # fmt: skip


@given(NAMES, PLACES)
def test_a_tool_that_is_offered_can_be_called(name: str, places: list[int]) -> None:
    with contextlib.suppress(InvalidRequest):  # else it is not offered
        emulation = prepare(offered(name), frozenset(), harmony=True)
        frame = form(emulation.request.marker).replace("ARGUMENTS", "{}").replace("NAME", name)
        filters = emulation.filters(Characters(), emulation.calls(lambda: "call_1"))
        assert calls_of(run(filters, texts(cut(frame, places)))) == [(name, "{}")]


def test_the_model_is_told_of_each_tool_and_how_to_call_it() -> None:
    tools = read_tools({"tools": [WEATHER, NOW], "parallel_tool_calls": False, "tool_choice": "required"})
    assert tools is not None
    told = instruct(tools, 7)
    assert '{"name": "get_weather", "description": "The weather.", "parameters": {"type": "object"' in told
    assert "\n[#7 call NAME] ARGUMENTS\n" in told
    assert "at most one tool" in told
    assert told.endswith("In this turn you must call at least one tool.")
    assert "named example_0," in told
    named = read_tools({"tools": [WEATHER, NOW], "tool_choice": {"type": "function", "function": {"name": "now"}}})
    assert named is not None
    assert instruct(named, 7).endswith("In this turn you must call the tool now.")
    assert "get_weather" not in instruct(named, 7)
