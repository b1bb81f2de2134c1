"""A body becomes a request, or a 400 with the path of its fault."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Part, PassthroughPart, Text, Tool, ToolCall
from gpt_oss_proxy.errors import InvalidRequest
from tests.apis.openai.asked import CHATS, asked, parse

HELLO = [{"role": "user", "content": "Hello!"}]
PARSED_HELLO = (Message("user", (Text("Hello!"),)),)


def parsed(**body: Any) -> ChatRequest:
    return parse(CHATS, body)


def message(**fields: Any) -> Message:
    return parsed(messages=[fields]).messages[0]


def test_the_least_that_can_be_asked() -> None:
    assert parsed(messages=HELLO) == asked("default", PARSED_HELLO)


def test_everything_finds_its_place() -> None:
    request = parsed(
        model="org/m",
        messages=HELLO,
        stream=True,
        stream_options={"include_usage": True, "new": 1},
        reasoning_effort="xhigh",
        temperature=0,
        stop=["a"],
        new_field={"deep": [1]},
    )
    assert request == asked(
        "org/m",
        PARSED_HELLO,
        stream=True,
        wants_usage=True,
        effort="xhigh",
        options={"temperature": 0, "stop": ["a"], "new_field": {"deep": [1]}, "stream_options": {"new": 1}},
    )


def test_usage_is_a_matter_of_streams_alone() -> None:
    assert parsed(messages=HELLO, stream_options={"include_usage": True}) == asked("default", PARSED_HELLO)


@pytest.mark.parametrize(
    "name",
    [
        *("model", "stream", "stream_options", "reasoning_effort", "stop", "max_tokens", "max_completion_tokens", "n"),
        *(
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "functions",
            "function_call",
            "response_format",
            "temperature",
        ),
        *("top_p", "presence_penalty", "frequency_penalty", "seed", "logit_bias", "logprobs", "top_logprobs", "user"),
        *("metadata", "store", "service_tier", "modalities", "audio", "unknown"),
    ],
)
def test_null_is_as_good_as_absent(name: str) -> None:
    assert parsed(messages=HELLO, **{name: None}) == asked("default", PARSED_HELLO)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", (Text(""),)),
        (" \n Hi\u2028 ", (Text(" \n Hi\u2028 "),)),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": ""}], (Text("a"), Text(""))),
        (
            [
                {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": None}},
                {"type": "image_url", "image_url": "https://a.example/c.png"},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f"}},
                {"type": "refusal", "refusal": "No."},
                {"type": "video_url", "video_url": {"url": "https://a.example/d.mp4"}},
            ],
            (
                Text("a", {"cache_control": {"type": "ephemeral"}}),
                Image("data:image/png;base64,AA==", "low"),
                Image("https://a.example/b.png"),
                Image("https://a.example/c.png"),
                PassthroughPart("input_audio", {"input_audio": {"data": "AA==", "format": "wav"}}),
                PassthroughPart("file", {"file": {"file_id": "f"}}),
                Text("No."),
                PassthroughPart("video_url", {"video_url": {"url": "https://a.example/d.mp4"}}, is_known=False),
            ),
        ),
    ],
)
def test_content_is_a_text_or_a_list_of_parts(content: object, parts: tuple[Part, ...]) -> None:
    assert message(role="user", content=content) == Message("user", parts)


def look(detail: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": detail}}


@pytest.mark.parametrize("detail", ["auto", "low", "high", "original"])
def test_an_images_detail_is_kept(detail: str) -> None:
    assert message(role="user", content=[look(detail)]).parts == (Image("https://a.example/b.png", detail),)


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_a_role_is_kept(role: Any) -> None:
    assert message(role=role, content="a") == Message(role, (Text("a"),))


def test_tool_calls_and_their_results_are_turns() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert message(role="assistant", content=None, tool_calls=[call]) == Message(
        "assistant", tool_calls=(ToolCall("call_1", "f", "{}"),)
    )
    assert message(role="assistant", tool_calls=[{"function": {"name": "f"}}]).tool_calls == (ToolCall("", "f", ""),)
    assert message(role="assistant", content="a", tool_calls=[]) == Message("assistant", (Text("a"),))
    assert message(role="tool", tool_call_id="call_1", content="42") == Message(
        "tool", (Text("42"),), tool_call_id="call_1"
    )


def test_the_older_function_calls_are_tool_calls() -> None:
    assert message(role="assistant", function_call={"name": "f", "arguments": "{}"}) == Message(
        "assistant", tool_calls=(ToolCall("f", "f", "{}"),)
    )
    assert message(role="function", name="f", content="42") == Message("tool", (Text("42"),), tool_call_id="f")
    assert message(role="function", name="f", content=None) == Message("tool", tool_call_id="f")


def test_further_fields_of_a_message_are_kept_as_they_came() -> None:
    assert message(role="user", content="a", name="Ada", weight=0, gone=None) == Message(
        "user", (Text("a"),), extra={"name": "Ada", "weight": 0}
    )


AUTHORS = ["system", "developer", "user", "assistant"]


@pytest.mark.parametrize("role", AUTHORS)
@pytest.mark.parametrize("name", ["Ada", "ада", "a.b-c_d:e@f", "🦊", "n" * 64])
def test_an_authors_name_is_kept(role: str, name: str) -> None:
    assert message(role=role, content="a", name=name).extra == {"name": name}


@pytest.mark.parametrize("role", AUTHORS)
@pytest.mark.parametrize(
    "name", ["", "Ada Lovelace", "Ada\n", "\tAda", "a\u2028b", "a<b", "a|b", "a\\b", "a/b", "a>b", "n" * 65]
)
def test_an_authors_name_that_openai_would_refuse_is_refused(role: str, name: str) -> None:
    wrong = {"role": role, "content": "a", "name": name}
    assert fault(messages=[*HELLO, wrong]) == ("invalid_value", "messages[1].name")


def test_a_tools_name_is_no_authors_and_passes() -> None:
    found = message(role="tool", tool_call_id="c1", content="42", name="files/read me")
    assert found.extra == {"name": "files/read me"}
    assert message(role="function", name="files/read me", content="42").tool_call_id == "files/read me"


def fault(**body: Any) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as raised:
        parsed(**body)
    assert raised.value.status == 400
    return raised.value.code, raised.value.param


WRONG: dict[str, list[Any]] = {
    "messages": [None, {}, "Hello!", 1, True],
    "model": [1, [], {}, False],
    "stream": [1, "true", []],
    "stream_options": [True, [], "x"],
    "reasoning_effort": ["HIGH", "", "maximum", 1, {"effort": "high"}],
    "stop": [1, {}, True],
    "max_tokens": [0, -1, 1.5, 10.0, "10", True],
    "max_completion_tokens": [0, "10", []],
    "n": [0, 9, -1, 1.5, "1", True],
    "tools": [{}, "x", 1],
    "tool_choice": [1, True, []],
    "parallel_tool_calls": [1, "true"],
    "functions": ["x", {}],
    "function_call": [1, [], "required"],
    "response_format": ["json", [], 1],
    "temperature": [-0.1, 2.1, "hot", True, []],
    "top_p": [-0.1, 1.1, "x"],
    "presence_penalty": [-2.1, 2.1, "x"],
    "frequency_penalty": [-2.1, 2.1, {}],
    "seed": ["x", 1.5, True],
    "logit_bias": [[], "x"],
    "logprobs": [1, "true"],
    "top_logprobs": [-1, 21, "x", 1.5],
    "user": [1, {}],
    "metadata": ["x", [], {"k" * 65: "v"}, {f"k{index}": "v" for index in range(17)}],
    "store": [1, "true"],
    "service_tier": [1],
    "modalities": ["text", {}],
    "audio": ["x", []],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_of_a_field_is_refused_with_its_name(name: str, value: object) -> None:
    assert fault(**{"messages": HELLO, name: value}) == ("invalid_type", name)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tools": [{}, 1]}, "tools[1]"),
        ({"functions": [None]}, "functions[0]"),
        ({"functions": [{"name": 1}]}, "functions[0].name"),
        ({"functions": [{"name": "f", "parameters": "{}"}]}, "functions[0].parameters"),
        ({"function_call": {"name": 1}}, "function_call.name"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"logit_bias": {"1": "x"}}, "logit_bias[...]"),
        ({"metadata": {"k": "v" * 513}}, "metadata[...]"),
        ({"metadata": {"k": 1}}, "metadata[...]"),
        ({"metadata": {"k": None}}, "metadata[...]"),
        ({"metadata": {"k": {"deep": "v"}}}, "metadata[...]"),
        ({"modalities": [1]}, "modalities[0]"),
        ({"messages": []}, "messages"),
        ({"messages": [*HELLO, None]}, "messages[1]"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": None, "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "a - at `$.evil`", "content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"type": "text"}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [*HELLO, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "system"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "tool_call_id": "a"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "developer", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": []}]}, "messages[0].content"),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": "a", "content": []}]}, "messages[1].content"),
        ({"messages": [{"role": "function", "name": "f", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [None]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": 1}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": 1}]}]},
            "messages[0].content[0].image_url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": None}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "", "detail": 1}}]}]},
            "messages[0].content[0].image_url.detail",
        ),
        (
            {"messages": [{"role": "user", "content": [look("LOW")]}]},
            "messages[0].content[0].image_url.detail",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, look("")]}]},
            "messages[0].content[1].image_url.detail",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": "x"}]}]},
            "messages[0].content[0].input_audio",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": "x"}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages[0].tool_calls[0]"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": 1, "function": {"name": "f"}}]}]},
            "messages[0].tool_calls[0].id",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 1}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"messages": [{"role": "assistant", "function_call": "f"}]}, "messages[0].function_call"),
        ({"messages": [{"role": "user", "content": "a", "name": 1}]}, "messages[0].name"),
        ({"messages": [{"role": "tool", "content": "a", "tool_call_id": 1}]}, "messages[0].tool_call_id"),
    ],
)
def test_a_wrong_value_further_down_is_refused_with_its_path(fields: dict[str, Any], path: str) -> None:
    assert fault(**{"messages": HELLO, **fields}) == ("invalid_type", path)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "messages"),
        ({"messages": [{"content": "a"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function"),
        ({"messages": [*HELLO, {"role": "tool", "content": "a"}]}, "messages[1].tool_call_id"),
        ({"messages": HELLO, "functions": [{}]}, "functions[0].name"),
        ({"messages": HELLO, "function_call": {}}, "function_call.name"),
    ],
)
def test_what_is_missing_is_named(body: dict[str, Any], path: str) -> None:
    assert fault(**body) == ("missing_required_parameter", path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logprobs", True),
        ("top_logprobs", 1),
        ("modalities", ["text", "audio"]),
        ("modalities", ["audio"]),
        ("modalities", []),
        ("audio", {"voice": "alloy", "format": "wav"}),
    ],
)
def test_what_would_change_the_answers_shape_is_refused(name: str, value: object) -> None:
    assert fault(**{"messages": HELLO, name: value}) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("logprobs", False), ("top_logprobs", 0), ("modalities", ["text"]), ("stop", "")),
        *(("stop", []), ("temperature", 0), ("temperature", 2), ("top_p", 1), ("logit_bias", {"50256": -100})),
        *(("seed", -1), ("seed", 2**63), ("max_tokens", 1), ("max_tokens", 2**64 - 1), ("user", ""), ("metadata", {})),
        ("metadata", {"k" * 64: "🦊" * 512, "": "", **{f"k{index}": "v" for index in range(14)}}),
        *(("tool_choice", "auto"), ("tool_choice", {"type": "function"}), ("response_format", {"type": "text"})),
        *(("x" * 10_000, 1), ("", 1), ("a.b[0]\r\nx: y", 1)),
    ],
)
def test_other_fields_pass_through(name: str, value: object) -> None:
    assert parsed(**{"messages": HELLO, name: value}) == asked("default", PARSED_HELLO, options={name: value})


def test_a_refusal_is_short_however_long_the_value_is() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parsed(messages=[{"role": "x" * 1_000_000, "content": "a"}])
    assert len(raised.value.message) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "image_url", "url", "tool_calls", "function", "name"])
            | st.text(max_size=3),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*WRONG, "x"]), json_values, max_size=4), json_values)
def test_any_json_is_a_request_or_a_refusal_that_names_what_the_body_has_or_lacks(
    fields: dict[str, Any], turn: object
) -> None:
    body = {"messages": [turn], **fields}
    try:
        blamed = [parsed(**body).model]
    except InvalidRequest as error:
        blamed = [f"{error.status}", *re.split(r"[.\[]", error.param or "")]
    assert blamed[0] in ("default", fields.get("model")) or (blamed[0] == "400" and blamed[1] in {"", *body})


def test_further_fields_of_parts_and_calls_are_kept_for_an_upstream_that_knows_them() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "cache": 1}
    found = message(role="assistant", content=None, tool_calls=[call])
    assert found.tool_calls == (ToolCall("c1", "f", "{}", {"cache": 1}),)


@pytest.mark.parametrize("n", [1, 2, 8])
def test_so_many_choices_are_wanted(n: int) -> None:
    assert parsed(messages=HELLO, n=n) == asked("default", PARSED_HELLO, n=n)


# The older spelling of tools

FUNCTION = {"name": "f", "description": "Says f.", "parameters": {"type": "object"}, "strict": None}
TOOLS = [{"type": "function", "function": FUNCTION}]
TOOL = Tool("f", "Says f.", {"type": "object"})


@pytest.mark.parametrize(
    ("chosen", "choice"),
    [
        (None, {}),
        ("none", {"tool_choice": "none"}),
        ("auto", {"tool_choice": "auto"}),
        ({"name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
    ],
)
def test_functions_are_tools_of_which_one_is_called_and_answered_as_a_function(
    chosen: object, choice: dict[str, Any]
) -> None:
    assert parsed(messages=HELLO, functions=[FUNCTION], function_call=chosen, parallel_tool_calls=True) == asked(
        "default",
        PARSED_HELLO,
        options={"parallel_tool_calls": False, "tools": TOOLS, **choice},
        has_functions=True,
    )


@pytest.mark.parametrize(
    "fields", [{"functions": []}, {"function_call": "none"}, {"functions": [], "function_call": "auto"}]
)
def test_no_functions_are_nothing(fields: dict[str, Any]) -> None:
    assert parsed(messages=HELLO, **fields) == asked("default", PARSED_HELLO)
    of_tools = parsed(messages=HELLO, functions=[], tools=TOOLS)
    assert of_tools == asked("default", PARSED_HELLO, options={"tools": TOOLS})
    assert of_tools.tools == (TOOL,)
    assert parsed(messages=HELLO, functions=[FUNCTION], tools=[]).tools == (TOOL,)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [FUNCTION], "tools": TOOLS}, "functions"),
        ({"functions": [FUNCTION], "tool_choice": "auto"}, "functions"),
        ({"function_call": "none", "tools": TOOLS}, "function_call"),
    ],
)
def test_two_spellings_at_once_are_refused(fields: dict[str, Any], param: str) -> None:
    assert fault(messages=HELLO, **fields) == ("unsupported_parameter", param)


@pytest.mark.parametrize("functions", [[FUNCTION], [], None])
def test_a_function_that_is_not_offered_cannot_be_chosen(functions: object) -> None:
    asked = fault(messages=HELLO, functions=functions, function_call={"name": "g"})
    assert asked == ("invalid_value", "function_call.name")
