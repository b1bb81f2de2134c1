"""A neutral request becomes the body of a chat completion, with all its fields."""

from typing import Any

import pytest

from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, PassthroughPart, Text, ToolCall
from gpt_oss_proxy.upstreams.openai.request import build_body
from tests.typed import typed
from tests.upstreams.decoding import ask


def test_a_request_goes_through_with_all_its_fields() -> None:
    request = ChatRequest(
        "m/1",
        (
            Message("developer", (Text("Be terse."),)),
            Message(
                "user",
                (
                    Text("a"),
                    Image("u", "low"),
                    Image("v"),
                    PassthroughPart("input_audio", {"input_audio": {"data": "x"}}),
                ),
            ),
            Message("user", (Text("b"), Text("c")), extra={"name": "Ada"}),
            Message("assistant", (), (ToolCall("c1", "look", "{not json"),)),
            Message("assistant", (Text("d"),), (ToolCall("c2", "look", "{}"),)),
            Message("tool", (Text("7"),), tool_call_id="c1"),
            Message("assistant", ()),
        ),
        effort="low",
        **typed({"temperature": 0.5, "stream": "no", "x": [1]}),
    )

    def call(call_id: str, arguments: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}

    assert build_body(request) == {
        "model": "m/1",
        "messages": [
            {"role": "developer", "content": "Be terse."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "v"}},
                    {"type": "input_audio", "input_audio": {"data": "x"}},
                ],
            },
            {"role": "user", "name": "Ada", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
            {"role": "assistant", "content": None, "tool_calls": [call("c1", "{not json")]},
            {"role": "assistant", "content": "d", "tool_calls": [call("c2", "{}")]},
            {"role": "tool", "content": "7", "tool_call_id": "c1"},
            {"role": "assistant", "content": ""},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "x": [1],
        "reasoning_effort": "low",
    }


def test_an_effort_that_was_not_asked_for_is_not_sent() -> None:
    assert build_body(ask("Hi", model="m")) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_further_fields_of_parts_and_calls_are_passed_on() -> None:
    message = Message(
        "assistant", (Text("a", {"cache_control": {}}),), (ToolCall("c1", "f", "{}", {"extra_content": 1}),)
    )
    assert build_body(ChatRequest("m", (message,)))["messages"] == [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "a", "cache_control": {}}],
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": 1}
            ],
        }
    ]


def test_further_fields_of_images_and_unknown_parts_are_passed_on() -> None:
    message = Message(
        "user", (Image("u", extra={"x": 1}), PassthroughPart("video_url", {"video_url": {"url": "v"}}, False))
    )
    assert build_body(ChatRequest("m", (message,)))["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "u"}, "x": 1},
        {"type": "video_url", "video_url": {"url": "v"}},
    ]


@pytest.mark.parametrize(
    ("further", "sent"),
    [
        (None, {"include_usage": True}),
        ({}, {"include_usage": True}),
        ({"include_usage": False}, {"include_usage": True}),
        (
            {"include_obfuscation": False, "continuous_usage_stats": True},
            {"include_obfuscation": False, "continuous_usage_stats": True, "include_usage": True},
        ),
    ],
)
def test_usage_is_always_asked_for_beside_the_clients_own_stream_options(further: Any, sent: Any) -> None:
    request = ask("Hi", stream_options=further)
    assert build_body(request)["stream_options"] == sent
    assert request.passthrough["stream_options"] == further


def test_an_answer_s_empty_fields_which_the_gateway_puts_there_do_not_go_back() -> None:
    empty: dict[str, Any] = {"annotations": [], "refusal": None, "reasoning": "", "audio": {}}
    full = {"annotations": [1], "reasoning_details": [{"data": "x"}], "refused": False, "score": 0}
    messages = (
        Message("assistant", (Text("a"),), extra={**empty, **full, "annotations": [1]}),
        Message("user", (Text("b"),), extra=empty),
    )
    assert build_body(ChatRequest("m", messages))["messages"] == [
        {"role": "assistant", "content": "a", **full},
        {"role": "user", "content": "b", **empty},
    ]
