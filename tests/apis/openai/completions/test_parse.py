"""A body becomes a chat of one user message for each prompt, or a 400 with the path of its fault."""

from typing import Any

import pytest

from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.errors import InvalidRequest
from tests.apis.openai.asked import TEXTS, asked, parse


def parsed(**body: Any) -> ChatRequest:
    return parse(TEXTS, body)


def turns(prompt: str) -> tuple[Message, ...]:
    return (Message("user", (Text(prompt),)),)


@pytest.mark.parametrize("prompt", ["Hello!", "", " \n Hi\u2028 ", "[#1 user]\nx"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_prompt_is_one_user_message_exactly_as_it_was_typed(prompt: str, listed: bool) -> None:
    assert parsed(prompt=[prompt] if listed else prompt) == asked("default", turns(prompt))


def test_everything_finds_its_place() -> None:
    request = parsed(
        model="org/m",
        prompt=["a", "b", "c"],
        n=2,
        best_of=2,
        echo=True,
        suffix="",
        logprobs=None,
        stream=True,
        stream_options={"include_usage": True},
        reasoning_effort="low",
        temperature=0,
        stop=["x"],
        max_tokens=16,
        user="ada",
        tools=[],
        new_field={"deep": [1]},
    )
    assert request == asked(
        "org/m",
        turns("a"),
        stream=True,
        wants_usage=True,
        effort="low",
        n=2,
        further_prompts=(turns("b"), turns("c")),
        options={"temperature": 0, "stop": ["x"], "max_tokens": 16, "user": "ada", "new_field": {"deep": [1]}},
        has_echo=True,
    )


NAMES = [
    *("model", "n", "stream", "stream_options", "reasoning_effort", "echo", "suffix", "best_of", "logprobs", "stop"),
    *("max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "logit_bias", "user"),
    *("tools", "messages", "response_format", "unknown"),
]


@pytest.mark.parametrize("name", NAMES)
def test_null_is_as_good_as_absent(name: str) -> None:
    assert parsed(prompt="a", **{name: None}) == asked("default", turns("a"))


@pytest.mark.parametrize("fields", [{"best_of": 1, "n": 2}, {"best_of": 2, "n": 2}, {"best_of": 1}, {"echo": False}])
def test_what_asks_for_nothing_is_fine(fields: dict[str, Any]) -> None:
    assert parsed(prompt="a", **fields) == asked("default", turns("a"), n=fields.get("n", 1))


def fault(**body: Any) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as raised:
        parsed(**body)
    assert raised.value.status == 400
    return raised.value.code, raised.value.param


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        *(("prompt", value, "prompt") for value in (None, 1, True, {}, [], ["a"] * 65)),
        *(("prompt", value, "prompt") for value in ([1, 2], [[1, 2], [3]], [[]])),
        ("prompt", ["a", 1], "prompt[1]"),
        ("prompt", [None], "prompt[0]"),
        ("prompt", [True], "prompt[0]"),
        *(("n", value, "n") for value in (0, 9, 1.5, "1")),
        *(("best_of", value, "best_of") for value in (0, "1", [])),
        *(("logprobs", value, "logprobs") for value in (True, "1", 1.5)),
        ("echo", 1, "echo"),
        ("suffix", 1, "suffix"),
        ("stream", "true", "stream"),
        ("stream_options", {"include_usage": 1}, "stream_options.include_usage"),
        ("reasoning_effort", "much", "reasoning_effort"),
        ("stop", ["a"] * 5, "stop"),
        ("max_tokens", 0, "max_tokens"),
        ("temperature", 3, "temperature"),
        ("seed", "x", "seed"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(name: str, value: object, param: str) -> None:
    assert fault(**{"prompt": "a", name: value}) == ("invalid_type", param)


def test_token_ids_are_refused_in_words() -> None:
    with pytest.raises(InvalidRequest, match=r"^prompt: token ids are not taken, for each model has its own\. Send"):
        parsed(prompt=[1, 2])


def test_a_prompt_is_needed() -> None:
    assert fault(model="m") == ("missing_required_parameter", "prompt")


@pytest.mark.parametrize(
    "fields",
    [
        *({"suffix": "b"}, {"best_of": 2}, {"best_of": 3, "n": 2}, {"logprobs": 0}, {"logprobs": 5}),
        *({"tools": [{}]}, {"tool_choice": "auto"}, {"functions": [{}]}, {"messages": [{}]}, {"audio": {"a": 1}}),
        *({"modalities": ["text"]}, {"top_logprobs": 1}, {"parallel_tool_calls": True}, {"function_call": "none"}),
    ],
)
def test_what_would_change_the_answers_shape_is_refused(fields: dict[str, Any]) -> None:
    assert fault(prompt="a", **fields) == ("unsupported_parameter", next(iter(fields)))


@pytest.mark.parametrize(("prompts", "n"), [(64, 1), (32, 2), (8, 8)])
def test_there_are_at_most_64_choices(prompts: int, n: int) -> None:
    assert len(parsed(prompt=["a"] * prompts, n=n).further_prompts) == prompts - 1
    if n > 1:
        assert fault(prompt=["a"] * (prompts + 1), n=n) == ("invalid_value", "prompt")
