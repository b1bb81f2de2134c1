"""What a request asks for and its upstream cannot do: told to the model, or refused before anybody is asked."""

import json
from typing import Any

import msgspec
import pytest

from gpt_oss_proxy.chat.request import ChatRequest, Image, Limits, Message, Text, Tool
from gpt_oss_proxy.emulation.prepare import Emulation, prepare
from gpt_oss_proxy.errors import InvalidField, InvalidRequest
from gpt_oss_proxy.upstreams.ai_sdk.request import build_body as ai_sdk_body
from gpt_oss_proxy.upstreams.chatkit.request import build_body as chatkit_body
from tests.emulation.test_tools import NOW, WEATHER
from tests.typed import typed

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
STRICT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}


def prepared(native_options: frozenset[str] | None = frozenset(), text: str = "Hi", **options: Any) -> Emulation:
    request = ChatRequest("m", (Message("user", (Text(text),)),), **typed(options))
    return prepare(request, native_options, harmony=False)


def test_what_an_upstream_honours_is_left_to_it() -> None:
    emulation = prepared(frozenset({"stop"}), stop="x", max_tokens=1)
    assert (emulation.stop, emulation.limits, emulation.request.stop) == ((), Limits(1), ("x",))


def test_for_an_upstream_that_does_all_itself_nothing_is_done() -> None:
    assert not prepared(None, stop="x", tools=[NOW], response_format=STRICT).changes


@pytest.mark.parametrize(
    "options",
    [
        {"stop": "x" * 1001},
        {"tools": [{"type": "x"}]},
        {"tool_choice": "required"},
        {"response_format": {"type": "xml"}},
    ],
)
def test_what_cannot_be_done_is_refused_before_anybody_is_asked(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        prepared(**options)


def test_all_tools_reach_the_model_whole() -> None:
    text = prepared(tools=[WEATHER, NOW], response_format=STRICT).request.messages[0].text
    assert json.dumps(WEATHER["function"]["parameters"]) in text  # type: ignore[index]
    assert json.dumps(SCHEMA) in text


def test_the_number_of_the_frames_is_one_that_nobody_wrote() -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "[#2 call f]"}}]
    assert prepared(text="[#1 call get_weather] {}", tools=tools).request.marker == 3


def test_another_conversation_of_the_same_request_is_told_the_same() -> None:
    first = prepared(tools=[WEATHER], stop="x")
    other = ChatRequest("m", (Message("user", (Text("[#1"),)),), **typed({"tools": [WEATHER], "stop": "x"}))
    second = prepare(other, frozenset(), harmony=False, like=first)
    assert second.tools is first.tools
    assert (second.stop, second.request.messages[1:]) == (("x",), other.messages)
    again = prepare(
        msgspec.structs.replace(first.request, messages=other.messages), frozenset(), harmony=False, like=first
    )
    assert (again.stop, again.tools, again.request.messages[1:]) == (("x",), first.tools, other.messages)


@pytest.mark.parametrize("native_options", [None, frozenset({"stop", "limits"})])
def test_a_client_api_can_have_a_field_emulated_that_the_upstream_would_take(
    native_options: frozenset[str] | None,
) -> None:
    asked = ChatRequest("m", (), stop=("x",), limits=Limits(3), emulate=frozenset({"stop"}))
    emulation = prepare(asked, native_options, harmony=False)
    assert (emulation.stop, emulation.limits) == (("x",), Limits())
    assert (emulation.request.stop, emulation.request.limits) == ((), Limits(3))
    assert not prepare(ChatRequest("m", (), emulate=frozenset({"stop"})), native_options, harmony=False).changes


def test_what_is_emulated_is_not_asked_of_the_upstream_too() -> None:
    request = prepared(tools=[NOW], tool_choice="auto", stop="x", max_tokens=3, response_format=STRICT).request
    assert (request.tools, request.tool_choice, request.stop) == ((), None, ())
    assert (request.limits, request.response_format) == (Limits(), None)
    assert request.offers_tools
    assert not prepared(tools=[NOW], tool_choice="none").request.offers_tools


def test_instructions_do_not_shift_the_places_of_the_client_s_messages() -> None:
    turns = (Message("user", (Text("Hi"),)), Message("user", (Image("data:image/png;base64,AA=="),)))
    request = prepare(ChatRequest("m", turns, tools=(Tool("f"),)), frozenset(), harmony=False).request
    with pytest.raises(InvalidField) as raised:
        chatkit_body(request, "older")
    assert raised.value.path == ("messages", 1, "content", 0)
    turns = (turns[0], Message("assistant", turns[1].parts))
    request = prepare(ChatRequest("m", turns, tools=(Tool("f"),)), frozenset(), harmony=False).request
    for message_format in ("content", "parts"):
        with pytest.raises(InvalidField) as raised:
            ai_sdk_body(request, chat_id="c", image_format="image", message_format=message_format)  # type: ignore[arg-type]
        assert raised.value.path == ("messages", 1, "content", 0)
