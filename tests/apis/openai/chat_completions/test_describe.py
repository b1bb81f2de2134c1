"""What is said of chat completions is what is taken and answered."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.document import reference
from gpt_oss_proxy.apis.openai.chat_completions.render import render
from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.chat.completion import Completion, CompletionChoice
from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta, ToolCallDelta, Usage
from gpt_oss_proxy.chat.request import ToolCall
from gpt_oss_proxy.errors import InvalidRequest, UpstreamIncomplete
from tests.apis.openai.asked import CHATS, asked, parse
from tests.described import Described
from tests.doubles import HELLO, chunks, described

DOCUMENT = described()
DESCRIBED = Described(DOCUMENT)
STAMP = Stamp("chatcmpl-1", 1_700_000_000, "m")
USAGE = Usage(3, 5, reasoning_tokens=2, cached_tokens=1)
ASKED: list[dict[str, Any]] = [{}, {"has_functions": True}, {"reasoning": "reasoning"}]
TAKEN = jsonschema_rs.Draft202012Validator({**reference("ChatCompletionRequest"), "components": DOCUMENT["components"]})


@pytest.mark.parametrize(
    "completion",
    [
        Completion((CompletionChoice("Hi", "", (), "stop"), CompletionChoice("Ho", "", (), "length")), USAGE),
        Completion((CompletionChoice("", "Hm", (), "content_filter"),), Usage(0, 0)),
        Completion((CompletionChoice("", "", (ToolCall("c1", "f", "{}"),), "tool_calls"),), USAGE),
    ],
)
@pytest.mark.parametrize("fields", ASKED)
def test_whole_answers_are_described(completion: Completion, fields: dict[str, Any]) -> None:
    request = asked("m", (), **fields)
    DESCRIBED.assert_valid(json.loads(render(completion, STAMP, request)), reference("ChatCompletion"))


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("fields", ASKED)
def test_chunks_are_described(include_usage: bool, fields: dict[str, Any]) -> None:
    events: list[Event] = [
        *(Started("up-1"), ReasoningDelta("Hm"), TextDelta("Hi"), ToolCallDelta(0, "c1", "f")),
        *(ToolCallDelta(0, arguments="{}"), USAGE, Finish("tool_calls", ("stop",))),
    ]
    renderer = CHATS.stream(STAMP, asked("m", (), stream=True, wants_usage=include_usage, **fields))
    told = chunks(renderer.feed([]) + renderer.feed([]) + renderer.feed(events))
    assert len(told) == 10 + include_usage
    for chunk in told[:-1]:
        DESCRIBED.assert_valid(chunk, reference("ChatCompletionChunk"))


def test_errors_are_described() -> None:
    DESCRIBED.assert_valid(json.loads(error_body(UpstreamIncomplete())), reference("Error"))


def test_the_examples_are_requests() -> None:
    content = CHATS.describe().paths["/chat/completions"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert TAKEN.is_valid(example["value"])
        assert parse(CHATS, example["value"]).messages[0].text == "Hello!"


KEYS = st.sampled_from(
    [
        *("role", "content", "type", "text", "image_url", "url", "detail", "tool_calls", "function", "name", "id"),
        *("arguments", "tool_call_id", "include_usage", "input_audio", "file", "refusal"),
    ]
)
WORDS = st.sampled_from(["user", "assistant", "tool", "text", "image_url", "refusal", "low", "a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-101, 101) | st.floats(-3, 3) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(list(DOCUMENT["components"]["schemas"]["ChatCompletionRequest"]["properties"]))
TURNS = st.one_of(
    VALUES,
    st.fixed_dictionaries({"role": WORDS | VALUES, "content": WORDS | VALUES}, optional={"tool_calls": VALUES}),
    st.fixed_dictionaries({"role": st.just("user"), "content": st.lists(st.dictionaries(KEYS, VALUES, max_size=3))}),
)


def refusal(body: Any) -> str | None:
    """Return why a body is refused, None if it is not. Only its fields together, or their meaning, count as `rules`."""
    try:
        parse(CHATS, body)
    except InvalidRequest as error:
        of_rules = error.code in ("unsupported_parameter", "invalid_value") or "message needs" in error.message
        return "rules" if of_rules else "types"
    return None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(FIELDS, VALUES, max_size=2), st.just(HELLO) | st.lists(TURNS, max_size=2))
def test_what_the_description_rules_out_is_refused_for_its_types_and_nothing_else(
    fields: dict[str, Any], messages: list[Any]
) -> None:
    body = {**fields, "messages": messages}
    assert (refusal(body) == "types") == (not TAKEN.is_valid(body))
