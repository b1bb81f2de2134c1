"""What is said of completions is what is taken and answered."""

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.document import reference
from gpt_oss_proxy.apis.openai.completions.render import render
from gpt_oss_proxy.chat.completion import Completion, CompletionChoice
from gpt_oss_proxy.chat.events import Choice, Finish, TextDelta, Usage
from gpt_oss_proxy.chat.request import Message, Text
from gpt_oss_proxy.errors import InvalidRequest
from tests.apis.openai.asked import TEXTS, asked, parse
from tests.described import Described
from tests.doubles import chunks, described

DOCUMENT = described()
DESCRIBED = Described(DOCUMENT)
STAMP = Stamp("cmpl-1", 1_700_000_000, "m")
TAKEN = jsonschema_rs.Draft202012Validator({**reference("CompletionRequest"), "components": DOCUMENT["components"]})
ASKED = asked("m", (Message("user", (Text("Hello!"),)),), stream=True, n=2, has_echo=True)


def test_whole_answers_are_described() -> None:
    choices = (CompletionChoice("Hi", "Hm", (), "stop"), CompletionChoice("", "", (), "tool_calls"))
    body = render(Completion(choices, Usage(3, 5)), STAMP, ASKED)
    DESCRIBED.assert_valid(json.loads(body), reference("Completion"))


@pytest.mark.parametrize("include_usage", [False, True])
def test_chunks_are_described(include_usage: bool) -> None:
    renderer = TEXTS.stream(STAMP, asked("m", ASKED.messages, n=2, wants_usage=include_usage, has_echo=True))
    lists = ([], [], [Choice(1), TextDelta("a")], [Finish("stop", ("length",))])
    told = chunks(b"".join(renderer.feed([*events]) for events in lists))
    assert len(told) == 7 + include_usage
    for chunk in told[:-1]:
        DESCRIBED.assert_valid(chunk, reference("CompletionChunk"))


def test_the_examples_are_requests() -> None:
    content = TEXTS.describe().paths["/completions"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        assert TAKEN.is_valid(example["value"])
        assert parse(TEXTS, example["value"]).messages[0].text == "Hello!"


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
        parse(TEXTS, body)
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
