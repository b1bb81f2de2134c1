"""What OpenAI's APIs share: routes, how fields are spelled, bare text."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.apis.base import Incoming, ModelRoute
from gpt_oss_proxy.apis.openai.api import OpenAIApi, Own, own
from gpt_oss_proxy.apis.openai.chat_completions import ChatCompletions
from gpt_oss_proxy.apis.openai.completions import Completions
from gpt_oss_proxy.chat.events import ReasoningDelta, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.emulation.prepare import prepare
from gpt_oss_proxy.errors import InvalidField, NotFound, Unauthorized
from tests.apis.openai.asked import CHATS, TEXTS, asked, parse
from tests.doubles import HELLO

REQUEST = asked("m", ())
OF_FUNCTIONS = asked("m", (), has_functions=True)


@pytest.mark.parametrize(
    ("api", "name", "path", "id_prefix"),
    [
        (CHATS, "chat_completions", "/chat/completions", "chatcmpl-"),
        (TEXTS, "completions", "/completions", "cmpl-"),
    ],
)
def test_it_is_posted_to_its_path_and_below_each_deployment(
    api: OpenAIApi, name: str, path: str, id_prefix: str
) -> None:
    assert (api.name, api.id_prefix) == (name, id_prefix)
    assert [(type(route), route.method, route.path) for route in api.routes] == [
        (ModelRoute, "POST", path),
        (ModelRoute, "POST", f"/openai/deployments/<path:model>{path}"),
        (ModelRoute, "POST", f"/deployments/<path:model>{path}"),
    ]


@pytest.mark.parametrize(
    ("api", "fields"),
    [
        (ChatCompletions(default_model="d", reasoning="hidden"), {"messages": HELLO}),
        (Completions(default_model="d", reasoning="hidden"), {"prompt": "Hello!"}),
    ],
)
def test_each_route_reads_a_body_with_the_operator_s_defaults_and_the_path_s_model(
    api: OpenAIApi, fields: dict[str, Any]
) -> None:
    body = json.dumps(fields).encode()
    for route in api.routes:
        assert isinstance(route, ModelRoute)
        requests = [route.parse(Incoming(body, path=path)) for path in ({}, {"model": "org/m"})]
        assert [request.model for request in requests] == ["d", "org/m"]
        assert [own(request).reasoning for request in requests] == ["hidden", "hidden"]


def test_a_request_keeps_what_its_renderer_needs() -> None:
    functions = [{"name": "f"}]
    assert own(parse(CHATS, {"messages": HELLO})) == Own("both", (), has_functions=False, has_echo=False)
    assert own(parse(CHATS, {"user": "u", "messages": HELLO, "functions": functions, "seed": 1, "top_p": None})) == Own(
        "both", ("user", "seed", "tools", "parallel_tool_calls"), has_functions=True
    )
    assert own(parse(TEXTS, {"seed": 1, "prompt": "a", "user": "u", "echo": True})) == Own(
        "both", ("seed", "user"), has_echo=True
    )


@pytest.mark.parametrize(
    ("path", "of_tools", "of_functions", "of_a_text"),
    [
        (("tools",), "tools", "functions", "tools"),
        (("tools", 0), "tools[0]", "functions[0]", "tools[0]"),
        (("tools", 0, "name"), "tools[0].function.name", "functions[0].name", "tools[0].name"),
        (("tools", 2, "name"), "tools[2].function.name", "functions[2].name", "tools[2].name"),
        (
            ("tools", 1, "parameters", "a"),
            "tools[1].function.parameters.a",
            "functions[1].parameters.a",
            "tools[1].parameters.a",
        ),
        (("tool_choice",), "tool_choice", "function_call", "tool_choice"),
        (("response_format", "schema"), *["response_format.json_schema.schema"] * 3),
        (("response_format", "type"), *["response_format.type"] * 3),
        (("response_format",), *["response_format"] * 3),
        (("messages", 1, "content", 0), *["messages[1].content[0]"] * 2, "prompt"),
        (("messages",), *["messages"] * 2, "prompt"),
        (("stop",), *["stop"] * 3),
        ((), *[""] * 3),
    ],
)
def test_a_field_is_named_as_the_client_has_spelled_it(
    path: tuple[str | int, ...], of_tools: str, of_functions: str, of_a_text: str
) -> None:
    spelled = (CHATS.spell(path, REQUEST), CHATS.spell(path, OF_FUNCTIONS), TEXTS.spell(path, REQUEST))
    assert spelled == (of_tools, of_functions, of_a_text)


F = {"name": "f"}
TOOL = {"type": "function", "function": F}
ODD = {"name": "a b"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL, {"type": "function", "function": ODD}]}, "tools[1].function.name"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        (
            {"tools": [{"type": "function", "function": {**F, "parameters": {"type": 5}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [TOOL, {"type": "x"}]}, "tools[1]"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [F, ODD]}, "functions[1].name"),
        ({"functions": [{**F, "parameters": {"type": 5}}]}, "functions[0].parameters"),
        ({"functions": [F] * 129}, "functions"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string"}}}},
            "response_format.json_schema.schema",
        ),
        ({"stop": "x" * 1001}, "stop"),
    ],
)
def test_a_field_that_cannot_be_emulated_is_named_where_the_client_has_written_it(
    fields: dict[str, Any], param: str
) -> None:
    request = parse(CHATS, {"messages": HELLO, **fields})
    with pytest.raises(InvalidField) as raised:
        prepare(request, frozenset(), harmony=False)
    raised.value.spell(lambda path: CHATS.spell(path, request))
    assert (raised.value.param, raised.value.code) == (param, "invalid_value")
    assert raised.value.message.startswith(f"{param}: ")


def ignored(fields: dict[str, Any], *names: str) -> tuple[str, ...]:
    return CHATS.spell_ignored(names, parse(CHATS, {"messages": HELLO, **fields}))


def test_ignored_fields_are_named_in_the_order_of_the_body_then_the_effort_then_those_within_messages() -> None:
    fields = {"user": "u", "seed": 1, "reasoning_effort": "low", "logit_bias": {"5": 1}, "temperature": 0}
    in_messages = ("messages.name", "messages.content.cache")
    names = ("effort", "sampling.temperature", "sampling.seed", "sampling.bias", "passthrough.user")
    spelled = ("user", "seed", "logit_bias", "temperature", "reasoning_effort", *in_messages)
    assert ignored(fields, *names, *in_messages) == ignored(fields, *in_messages, *reversed(names)) == spelled
    assert ignored(fields, "passthrough.user") == ("user",)
    assert ignored(fields, "sampling.temperature", "sampling.seed") == ("seed", "temperature")
    assert ignored({"bias": 1, "effort": 2}, "passthrough.bias", "passthrough.effort") == ("bias", "effort")
    assert ignored({"sampling.x": 1}, "passthrough.sampling.x") == ("sampling.x",)
    assert ignored({}) == ()


@pytest.mark.parametrize("field", ["messages.name", "passthrough.messages.name"])
def test_a_field_that_is_called_like_one_within_messages_is_named_once(field: str) -> None:
    assert ignored({"messages.name": 1}, field) == ("messages.name",)


def test_an_effort_that_a_header_asks_for_is_named_as_the_body_s_would_be() -> None:
    request = parse(CHATS, {"messages": HELLO, "user": "u"}, HTTP_X_REASONING_EFFORT="high")
    assert CHATS.spell_ignored(("effort", "passthrough.user"), request) == ("user", "reasoning_effort")


def test_every_way_to_choose_tokens_is_named_as_openai_names_it() -> None:
    fields = {
        "temperature": 0,
        "top_p": 1,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "seed": 0,
        "logit_bias": {},
    }
    names = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "bias")
    assert ignored(fields, *(f"sampling.{name}" for name in names)) == tuple(fields)


HARMLESS: dict[str, Any] = {"logprobs": False, "modalities": ["text"], "store": False}


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (HARMLESS, ()),
        *(({name: value}, ()) for name, value in HARMLESS.items()),
        ({**HARMLESS, "user": "u"}, ("user",)),
        ({"logprobs": True}, ("logprobs",)),
        ({"modalities": ["text", "audio"]}, ("modalities",)),
        ({"store": True}, ("store",)),
        ({"user": False}, ("user",)),
        ({"new": ["text"]}, ("new",)),
    ],
)
def test_what_asks_for_nothing_is_not_named(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    request = asked("m", (), options=fields)
    assert CHATS.spell_ignored(tuple(f"passthrough.{name}" for name in fields), request) == names


def test_bare_text_begins_with_the_prompt_that_is_to_be_echoed() -> None:
    hello = (Message("user", (Text("Hello!"),)),)
    for request, text in ((asked("m", hello), b"Hi"), (asked("m", hello, has_echo=True), b"Hello!Hi")):
        assert TEXTS.bare_text(request).end([TextDelta("Hi")]) == text


@pytest.mark.parametrize(("where", "text"), [("both", b"Hi"), ("think-tags", b"<think>Hm</think>Hi")])
def test_bare_text_shows_reasoning_only_where_it_is_wanted_within_the_text(where: str, text: bytes) -> None:
    renderer = CHATS.bare_text(asked("m", (), reasoning=where))
    assert renderer.end([ReasoningDelta("Hm"), TextDelta("Hi")]) == text


@pytest.mark.parametrize("api", [CHATS, TEXTS])
@pytest.mark.parametrize("error", [NotFound(), Unauthorized()])
def test_an_error_has_its_status_and_openai_s_body(api: OpenAIApi, error: Any) -> None:
    answer = api.render_error(error, "req_1")
    assert (answer.status, answer.content_type, answer.headers) == (error.status, "application/json", ())
    assert json.loads(answer.body)["error"]["code"] == error.code


def test_an_api_of_openai_s_says_how_it_parses() -> None:
    class Other(OpenAIApi):
        path = "/other"

    with pytest.raises(TypeError, match=r"\bparse\b"):
        Other(default_model="m", reasoning="both")  # type: ignore[abstract]
    assert isinstance(parse(TEXTS, {"prompt": "a"}), ChatRequest)
