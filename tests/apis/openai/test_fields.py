"""What both APIs ask for by the same names."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.apis.base import Incoming
from gpt_oss_proxy.apis.json_body import convert
from gpt_oss_proxy.apis.openai.api import Own
from gpt_oss_proxy.apis.openai.fields import Asked, StreamOptions, chat_request, options_of, typed_fields
from gpt_oss_proxy.chat.request import (
    Limits,
    Message,
    Passthrough,
    ResponseFormat,
    Sampling,
    Text,
    Tool,
    ToolChoice,
)
from gpt_oss_proxy.config.settings import EFFORTS
from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.upstreams.openai.request import build_body
from tests.apis.openai.asked import CHATS, TEXTS, asked, parse

HELLO = (Message("user", (Text("Hello!"),)),)
NOTHING = Incoming(b"")


def test_what_is_not_said_is_the_default() -> None:
    assert chat_request(Asked(), HELLO, {}, NOTHING, Own(), default_model="d") == asked("d", HELLO)


def test_what_is_said_finds_its_place() -> None:
    said = Asked(model="m", n=2, stream=True, stream_options=StreamOptions(include_usage=True), reasoning_effort="low")
    request = chat_request(
        said,
        HELLO,
        {"seed": 1},
        NOTHING,
        Own("hidden", ("seed",), has_echo=True),
        default_model="d",
        further_prompts=(HELLO,),
    )
    assert request == asked(
        model="m",
        messages=HELLO,
        stream=True,
        wants_usage=True,
        effort="low",
        n=2,
        further_prompts=(HELLO,),
        options={"seed": 1},
        reasoning="hidden",
        has_echo=True,
    )


def test_options_are_all_other_fields_that_are_set() -> None:
    value = {"model": "m", "n": 1, "stop": "", "seed": None, "new": 0}
    assert options_of(value, Asked()) == {"stop": "", "new": 0}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *((None, {}), ({}, {})),
        ({"include_usage": True}, {}),
        ({"include_usage": True, "new": 1}, {"stream_options": {"new": 1}}),
        ({"new": None}, {"stream_options": {"new": None}}),
    ],
)
def test_of_the_options_of_streams_those_that_are_not_known_are_kept(given: Any, kept: dict[str, Any]) -> None:
    assert options_of({"stream_options": given}, Asked()) == kept


def test_every_effort_of_the_settings_can_be_asked_for() -> None:
    assert [convert({"reasoning_effort": effort}, Asked).reasoning_effort for effort in EFFORTS] == list(EFFORTS)


@pytest.mark.parametrize(
    ("asking", "headers", "effort"),
    [
        (None, {}, None),
        (None, {"HTTP_X_REASONING_EFFORT": "HIGH"}, "high"),
        ("low", {"HTTP_X_REASONING_EFFORT": "high"}, "low"),
    ],
)
def test_the_body_s_effort_goes_before_the_header_s(asking: Any, headers: dict[str, str], effort: str | None) -> None:
    said = Asked(reasoning_effort=asking)
    request = chat_request(said, HELLO, {}, Incoming(b"", headers), Own(), default_model="d")
    assert request.effort == effort


def test_the_path_s_model_goes_before_the_body_s_and_the_header_s_format_before_the_operator_s() -> None:
    incoming = Incoming(b"", {"HTTP_X_REASONING_FORMAT": "Hidden"}, {"model": "of-path"})
    request = chat_request(Asked(model="m"), HELLO, {}, incoming, Own(), default_model="d")
    assert (request.model, request.own.reasoning) == ("of-path", "hidden")


@pytest.mark.parametrize("name", ["x-reasoning-effort", "x-reasoning-format"])
def test_an_unknown_value_of_a_header_is_refused(name: str) -> None:
    incoming = Incoming(b"", {f"HTTP_{name.upper().replace('-', '_')}": "nonsense"})
    with pytest.raises(InvalidRequest, match=f"The header {name} must be one of") as raised:
        chat_request(Asked(), HELLO, {}, incoming, Own(), default_model="d")
    assert (raised.value.param, raised.value.code) == (name, "invalid_value")


def test_what_has_a_neutral_form_is_typed_and_all_else_is_passed_through() -> None:
    fields = typed_fields(
        {
            "stop": ["a", ""],
            "max_tokens": 1,
            "max_completion_tokens": 2,
            "temperature": 0,
            "top_p": 1,
            "presence_penalty": -1,
            "frequency_penalty": 0.5,
            "seed": 7,
            "logit_bias": {"5": 1},
            "parallel_tool_calls": False,
            "user": "ada",
            "stream_options": {"x": 1},
        }
    )
    assert fields["stop"] == ("a",)
    assert fields["limits"] == Limits(1, 2)
    assert fields["sampling"] == Sampling(0, 1, -1, 0.5, 7, {"5": 1})
    assert fields["parallel_calls"] is False
    assert fields["passthrough"] == {"user": "ada", "stream_options": {"x": 1}}
    assert (fields["tools"], fields["tool_choice"], fields["response_format"]) == ((), None, None)


@pytest.mark.parametrize(
    ("stop", "words"),
    [("a", ("a",)), ("", ()), (None, ()), ([], ()), (["", "b", ""], ("b",)), ([""], ()), (["a", "a"], ("a", "a"))],
)
def test_an_empty_stop_word_stops_nothing(stop: Any, words: tuple[str, ...]) -> None:
    assert typed_fields({"stop": stop})["stop"] == words


def test_tools_their_choice_and_the_format_are_typed_one_by_one() -> None:
    odd = {"type": "web_search"}
    fields = typed_fields(
        {
            "tools": [{"type": "function", "function": {"name": "f"}}, odd],
            "tool_choice": "required",
            "response_format": {"type": "json_object"},
        }
    )
    assert fields["tools"] == (Tool("f"), Passthrough(odd, "Invalid enum value 'web_search' - at `$.type`."))
    assert (fields["tool_choice"], fields["response_format"]) == (ToolChoice("required"), ResponseFormat("object"))
    assert fields["passthrough"] == {}


@pytest.mark.parametrize(
    ("stream", "include_usage", "wants"),
    [(True, True, True), (True, False, False), (True, None, False), (False, True, False), (None, True, False)],
)
def test_usage_is_wanted_of_a_stream_that_is_to_have_it(
    stream: bool | None, include_usage: bool | None, wants: bool
) -> None:
    said = Asked(stream=stream, stream_options=StreamOptions(include_usage=include_usage))
    request = chat_request(said, HELLO, {}, NOTHING, Own(), default_model="d")
    assert (request.stream, request.wants_usage) == (bool(stream), wants)


def number(least: float, most: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.integers(math.ceil(least), math.floor(most)) | st.floats(least, most)


SAID = st.fixed_dictionaries(
    {},
    optional={
        "stop": st.none() | st.text(max_size=2) | st.lists(st.text(max_size=2), max_size=4),
        "max_tokens": st.none() | st.integers(1, 2**63),
        "max_completion_tokens": st.none() | st.integers(1, 2**63),
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "presence_penalty": number(-2, 2),
        "frequency_penalty": number(-2, 2),
        "seed": st.none() | st.integers(-(2**63), 2**63),
        "logit_bias": st.none()
        | st.dictionaries(st.text(max_size=2), number(-100, 100).filter(lambda one: one is not None)),
        "user": st.none() | st.text(max_size=2),
        "metadata": st.none() | st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
        "store": st.none() | st.booleans(),
        "service_tier": st.none() | st.text(max_size=2),
        "reasoning_effort": st.none() | st.sampled_from(EFFORTS),
        "stream_options": st.none()
        | st.fixed_dictionaries({}, optional={"new": st.just(1), "include_usage": st.booleans()}),
        "limits": st.just({"deep": [None]}),
        "sampling": st.none() | st.just(0),
    },
)


@given(SAID, st.none() | st.booleans())
def test_a_server_of_the_same_format_gets_each_field_as_the_client_wrote_it(
    said: dict[str, Any], parallel: bool | None
) -> None:
    for api, fields in (
        (CHATS, {"messages": [{"role": "user", "content": "Hello!"}], **said, "parallel_tool_calls": parallel}),
        (TEXTS, {"prompt": "Hello!", **said}),
    ):
        body = build_body(parse(api, fields))
        wanted = {name: value for name, value in fields.items() if value is not None and name != "prompt"}
        stop = wanted.pop("stop", ())
        assert tuple(body.pop("stop", ())) == ((stop,) if stop and isinstance(stop, str) else tuple(filter(None, stop)))
        assert body == {
            **wanted,
            "model": "default",
            "messages": [{"role": "user", "content": "Hello!"}],
            "stream": True,
            "stream_options": {**wanted.get("stream_options", {}), "include_usage": True},
        }
