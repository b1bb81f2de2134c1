"""What is said of completions is what is taken and answered."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.document import document, reference
from gpt_oss_proxy.apis.openai.completions import describe, parse, render, stream
from gpt_oss_proxy.app import CLIENT_APIS
from gpt_oss_proxy.chat.completion import Completion, CompletionChoice
from gpt_oss_proxy.chat.events import Choice, Finish, TextDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.errors import InvalidRequest
from tests.described import Described
from tests.doubles import chunks

DOCUMENT = document(CLIENT_APIS, version="1")
DESCRIBED = Described(DOCUMENT)
STAMP = Stamp("cmpl-1", 1_700_000_000, "m")
TAKEN = jsonschema_rs.Draft202012Validator({**reference("CompletionRequest"), "components": DOCUMENT["components"]})
ASKED = ChatRequest("m", (Message("user", (Text("Hello!"),)),), stream=True, n=2, spelling=frozenset({"echo"}))


def test_whole_answers_are_described() -> None:
    choices = (CompletionChoice("Hi", "Hm", (), "stop"), CompletionChoice("", "", (), "tool_calls"))
    body = render(Completion(choices, Usage(3, 5)), STAMP, ASKED)
    DESCRIBED.assert_valid(json.loads(body), reference("Completion"))


@pytest.mark.parametrize("include_usage", [False, True])
def test_chunks_are_described(include_usage: bool) -> None:
    renderer = stream(
        STAMP, ChatRequest("m", ASKED.messages, n=2, include_usage=include_usage, spelling=ASKED.spelling)
    )
    lists = ([], [], [Choice(1), TextDelta("a")], [Finish("stop", ("length",))])
    told = chunks(b"".join(renderer.render([*events]) for events in lists))
    assert len(told) == 7 + include_usage
    for chunk in told[:-1]:
        DESCRIBED.assert_valid(chunk, reference("CompletionChunk"))


def test_the_examples_are_requests() -> None:
    content = describe().paths[""]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert TAKEN.is_valid(example["value"])
        assert parse(json.dumps(example["value"]).encode(), default_model="m").messages[0].text == "Hello!"


WORDS = st.sampled_from(["", "a", "low", "END"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-101, 101) | st.floats(-3, 3) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.just("include_usage") | WORDS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(list(DOCUMENT["components"]["schemas"]["CompletionRequest"]["properties"]))


def refusal(body: Any) -> str | None:
    """Return why a body is refused, None if it is not. What no schema can say counts as `rules`."""
    try:
        parse(json.dumps(body).encode(), default_model="m")
    except InvalidRequest as error:
        return "rules" if error.code in ("unsupported_parameter", "invalid_value") else "types"
    return None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.dictionaries(FIELDS, VALUES, max_size=2), st.just("a") | st.lists(WORDS, max_size=66) | VALUES)
def test_what_the_description_rules_out_is_refused_for_its_types_and_nothing_else(
    fields: dict[str, Any], prompt: Any
) -> None:
    body = {"prompt": prompt, **fields}
    assert (refusal(body) == "types") == (not TAKEN.is_valid(body))
