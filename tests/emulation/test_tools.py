"""Which tools are offered, and how the model hears of them."""

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.emulation.prepare import prepare
from gpt_oss_proxy.emulation.tools import Tools, form, instruct, offered_tools
from gpt_oss_proxy.errors import InvalidRequest
from tests.doubles import Characters
from tests.emulation.filtered import PLACES, calls_of, cut, run, texts
from tests.typed import typed

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NOW = {"type": "function", "function": {"name": "now"}}


def offer(options: Mapping[str, Any]) -> Tools | None:
    return offered_tools(ChatRequest("m", (), **typed(options)))


def allowed(mode: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": "now"}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


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
    tools = offer({"tools": [WEATHER, NOW], **options})
    assert tools is not None
    assert (list(tools.tools), tools.must_call) == choice


@pytest.mark.parametrize(
    "options", [{}, {"tools": []}, {"tools": [NOW], "tool_choice": "none"}, {"tool_choice": "none"}]
)
def test_no_tools(options: dict[str, Any]) -> None:
    assert offer(options) is None


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0]"),
        ({"tools": [NOW, {"type": "function"}]}, "tools[1]"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].name"),
        ({"tools": [NOW, NOW]}, "tools[1].name"),
        (
            {"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "objekt"}}}]},
            "tools[0].parameters",
        ),
        ({"tools": [NOW], "tool_choice": "must"}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "then"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(129)]}, "tools"),
    ],
)
def test_tools_that_cannot_be_offered_are_refused(options: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        offer(options)
    assert (caught.value.param, caught.value.code) == (param, "invalid_value")


def offered(name: str) -> ChatRequest:
    tools = {"tools": [{"type": "function", "function": {"name": name}}]}
    return ChatRequest("m", (Message("user", (Text("Hi"),)),), **typed(tools))


@pytest.mark.parametrize(
    "name", ["", "a b", "a\n", "a[0]", "]", "brew:check", ":", "a{b", "{}", "a}", "<|end|>", "a<|call|>", "n" * 129]
)
def test_a_tool_whose_name_cannot_stand_in_a_frame_is_refused_before_the_model_is_asked(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        prepare(offered(name), frozenset(), harmony=True)
    assert (caught.value.param, caught.value.code) == ("tools[0].name", "invalid_value")


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
    tools = offered_tools(
        ChatRequest(
            "m", (), **typed({"tools": [WEATHER, NOW], "parallel_tool_calls": False, "tool_choice": "required"})
        )
    )
    assert tools is not None
    told = instruct(tools, 7)
    assert '{"name": "get_weather", "description": "The weather.", "parameters": {"type": "object"' in told
    assert "\n[#7 call NAME] ARGUMENTS\n" in told
    assert "at most one tool" in told
    assert told.endswith("In this turn you must call at least one tool.")
    assert "named example_0," in told
    named = offered_tools(
        ChatRequest(
            "m",
            (),
            **typed({"tools": [WEATHER, NOW], "tool_choice": {"type": "function", "function": {"name": "now"}}}),
        )
    )
    assert named is not None
    assert instruct(named, 7).endswith("In this turn you must call the tool now.")
    assert "get_weather" not in instruct(named, 7)
