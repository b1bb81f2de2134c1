"""What the official SDKs make of the answers: text, reasoning, usage, finish reason, typed errors, cut answers."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.children import free_port, wait_for
from tests.live.conftest import Gateway, StartUpstream, needs
from tests.live.sdks import Node, Python, PythonAsync, Sdk, SdkError
from tests.live.talk import AWKWARD, Upstream, user

BOTH = pytest.mark.parametrize("model", ["gpt-oss-120b", "gpt-4o"])
THOUGHTS = {  # the AI SDK tells where a step ends, but not where a thought does
    "gpt-oss-120b": "The user wants an answer.\n\nLet me check the facts — **carefully**.",
    "gpt-4o": "The user wants an answer.Let me check the facts — **carefully**.",
}


@pytest.fixture(scope="module", params=["python", "python async", "node"])
def sdk(request: pytest.FixtureRequest) -> Iterator[Sdk]:
    if request.param == "node":
        request.getfixturevalue("node_modules")
        sdk = Node(needs("node"))
    else:
        sdk = Python() if request.param == "python" else PythonAsync()
    with contextlib.closing(sdk):
        yield sdk


def delta_of(chunk: dict[str, Any], name: str) -> str:
    return "".join(choice["delta"].get(name) or "" for choice in chunk["choices"])


def told(chunks: list[dict[str, Any]], name: str = "content") -> str:
    return "".join(delta_of(chunk, name) for chunk in chunks)


def finishes(chunks: list[dict[str, Any]]) -> list[str]:
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk["choices"]]
    return [reason for reason in reasons if reason]


def listen(stream: Iterator[dict[str, Any]]) -> tuple[list[dict[str, Any]], SdkError]:
    """Return the chunks of a stream that must fail, and how it failed."""
    chunks = []
    with pytest.raises(SdkError) as raised:
        chunks.extend(stream)
    return chunks, raised.value


# Answers


@BOTH
def test_the_text_is_exact(sdk: Sdk, base: str, model: str) -> None:
    completion = sdk.create(base, model=model, messages=user(AWKWARD))
    assert completion["choices"][0]["message"]["content"] == AWKWARD
    assert completion["choices"][0]["finish_reason"] == "stop"
    chunks = list(sdk.stream(base, model=model, messages=user(AWKWARD)))
    assert told(chunks) == AWKWARD
    assert finishes(chunks) == ["stop"]
    assert {chunk["model"] for chunk in chunks} == {model}


@BOTH
def test_reasoning_stands_in_both_fields(sdk: Sdk, base: str, model: str) -> None:
    messages = user("::echo think=2:: done")
    message = sdk.create(base, model=model, messages=messages)["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"]) == (THOUGHTS[model], THOUGHTS[model])
    assert message["content"] == "done"
    chunks = list(sdk.stream(base, model=model, messages=messages))
    assert (told(chunks, "reasoning"), told(chunks, "reasoning_content")) == (THOUGHTS[model], THOUGHTS[model])
    assert told(chunks) == "done"


def test_usage_is_the_upstreams_own(sdk: Sdk, base: str) -> None:
    text = "::echo think=2:: four words of text"
    messages = user(text)
    expected = (len(text), 4 + 2)  # what the server says: characters in, words and thoughts out
    usage = sdk.create(base, model="gpt-4o", messages=messages)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (*expected, sum(expected))
    options = {"include_usage": True}
    *chunks, last = sdk.stream(base, model="gpt-4o", messages=messages, stream_options=options)
    assert (last["choices"], last["usage"]) == ([], usage)
    assert [chunk["usage"] for chunk in chunks] == [None] * len(chunks)


def test_usage_is_counted_where_the_upstream_reports_none(sdk: Sdk, base: str) -> None:
    messages = user("::echo think=1:: Hello world")
    usage = sdk.create(base, model="gpt-oss-20b", messages=messages)["usage"]
    # o200k: 6 tokens of thought, "The user wants an answer.", and 2 of text.
    assert usage["completion_tokens"] == 8
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 6
    assert usage["total_tokens"] == usage["prompt_tokens"] + 8
    *_, last = sdk.stream(base, model="gpt-oss-20b", messages=messages, stream_options={"include_usage": True})
    assert last["usage"] == usage


@pytest.mark.parametrize(
    ("model", "text", "reason"),
    [
        ("gpt-4o", "::echo:: x", "stop"),
        ("gpt-oss-120b", "::onlydone:: x", "stop"),
        ("gpt-4o", "::echo length=1:: x", "length"),
        ("gpt-oss-120b", "::removed:: x", "content_filter"),
    ],
)
def test_the_finish_reason_says_how_it_ended(sdk: Sdk, base: str, model: str, text: str, reason: str) -> None:
    completion = sdk.create(base, model=model, messages=user(text))
    assert completion["choices"][0]["finish_reason"] == reason
    assert finishes(list(sdk.stream(base, model=model, messages=user(text)))) == [reason]


@BOTH
def test_the_sdks_own_stream_helper_understands_the_stream(sdk: Sdk, base: str, model: str) -> None:
    completion = sdk.helper(base, model=model, messages=user("::echo think=1:: It all fits."))
    choice = completion["choices"][0]
    assert (choice["message"]["role"], choice["message"]["content"]) == ("assistant", "It all fits.")
    assert choice["finish_reason"] == "stop"


def test_models_can_be_listed_and_retrieved(sdk: Sdk, base: str) -> None:
    assert sdk.models(base) == ["gpt-oss-20b", "gpt-oss-120b", "gpt-4o", "gpt-4o-mini"]
    model = sdk.model(base, "gpt-4o")
    assert (model["id"], model["object"], type(model["created"])) == ("gpt-4o", "model", int)
    with pytest.raises(SdkError) as raised:
        sdk.model(base, "org/none")
    assert (raised.value.name, raised.value.code) == ("NotFoundError", "model_not_found")


# Errors


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"model": "gpt-5"}, ("NotFoundError", 404, "model_not_found", "model", "invalid_request_error")),
        ({"temperature": "hot"}, ("BadRequestError", 400, "invalid_type", "temperature", "invalid_request_error")),
        (
            {"messages": [{"role": "user", "content": 7}]},
            ("BadRequestError", 400, "invalid_type", "messages[0].content", "invalid_request_error"),
        ),
        (
            {"messages": user("::status code=429 retry_after=7::")},
            ("RateLimitError", 429, "upstream_rate_limited", None, "rate_limit_error"),
        ),
        (
            {"messages": user("::status code=500 body=html::")},
            ("InternalServerError", 502, "upstream_error", None, "upstream_error"),
        ),
        (
            {"messages": user("::status code=503 retry_after=3::")},
            ("InternalServerError", 503, "upstream_unavailable", None, "overloaded_error"),
        ),
        (
            {"messages": user("::status code=401::")},
            ("InternalServerError", 502, "upstream_auth_required", None, "upstream_error"),
        ),
        (
            {"messages": user("::status code=422 message=too much::")},
            ("BadRequestError", 400, "upstream_rejected", None, "upstream_error"),
        ),
        (
            {"messages": user("::error after=0 message=the model is gone::")},
            ("InternalServerError", 502, "upstream_error", None, "upstream_error"),
        ),
    ],
    ids=lambda value: str(next(iter(value.values())))[:40] if isinstance(value, dict) else None,
)
@BOTH
def test_errors_have_their_own_class_and_fields(
    sdk: Sdk, base: str, model: str, body: dict[str, Any], expected: tuple[Any, ...], streamed: bool
) -> None:
    asked = {"model": model, "messages": user("hi"), **body}
    with pytest.raises(SdkError) as raised:
        list(sdk.stream(base, **asked)) if streamed else sdk.create(base, **asked)
    error = raised.value
    assert (error.name, error.status, error.code, error.param, error.type) == expected
    assert error.retry_after == {429: "7", 503: "3"}.get(error.status)
    assert error.request_id.startswith("req_")


@BOTH
def test_an_error_in_mid_stream_is_raised_with_its_message(sdk: Sdk, base: str, model: str) -> None:
    messages = user("::error after=2 message=the model is gone::")
    chunks, error = listen(sdk.stream(base, model=model, messages=messages))
    assert told(chunks).strip() == "w0 w1"
    assert finishes(chunks) == []
    assert (error.name, error.code, error.type) == ("APIError", "upstream_error", "upstream_error")
    assert "the model is gone" in error.message
    with pytest.raises(SdkError) as raised:
        sdk.helper(base, model=model, messages=messages)
    assert "the model is gone" in raised.value.message


def test_what_a_repeat_cannot_mend_is_asked_only_once(sdk: Sdk, base: str, chatkit: Upstream) -> None:
    served = chatkit.connections()["served"]
    with pytest.raises(SdkError) as raised:
        sdk.create(base, retries=2, model="gpt-oss-120b", messages=user("::signin::"))
    assert (raised.value.status, raised.value.code) == (502, "upstream_auth_required")
    assert chatkit.connections()["served"] == served + 1


# Cut answers


@pytest.mark.parametrize("clean", ["", " clean=1"], ids=["broken", "clean end of the body"])
@pytest.mark.parametrize("after", [0, 2])
@BOTH
def test_a_cut_answer_is_never_a_normal_end(sdk: Sdk, base: str, model: str, after: int, clean: str) -> None:
    messages = user(f"::drop after={after}{clean}::")
    with pytest.raises(SdkError) as raised:
        sdk.create(base, model=model, messages=messages)
    # ChatKit, cleanly ended before any item: nothing was begun, so nothing is incomplete, but it is no answer.
    codes = {"upstream_incomplete", "upstream_empty_response"} if after == 0 else {"upstream_incomplete"}
    assert (raised.value.name, raised.value.status) == ("InternalServerError", 502)
    assert raised.value.code in codes
    chunks, error = listen(sdk.stream(base, model=model, messages=messages))
    assert told(chunks).strip() == ("w0 w1" if after else "")
    assert finishes(chunks) == []
    assert error.code in codes


@pytest.fixture(scope="module")
def mortal_ports() -> dict[str, int]:
    """Where the upstreams listen that will be killed."""
    return {"gpt-oss-120b": free_port(), "gpt-4o": free_port()}


@pytest.fixture(scope="module")
def mortal_base(gateway: Gateway, mortal_ports: dict[str, int]) -> str:
    chatkit, ai_sdk = (f"http://127.0.0.1:{port}" for port in mortal_ports.values())
    return gateway(BASE_URL=chatkit, VERCEL_MINIMAL_API_URL=f"{ai_sdk}/plain/api/chat")


@pytest.mark.parametrize("sdk", ["python", "node"], indirect=True)
@BOTH
def test_an_upstream_process_that_is_killed_is_never_a_normal_end(
    sdk: Sdk, model: str, mortal_ports: dict[str, int], mortal_base: str, request: pytest.FixtureRequest
) -> None:
    start_upstream: StartUpstream = request.getfixturevalue(
        "start_chatkit" if model == "gpt-oss-120b" else "start_ai_sdk"
    )
    child, _ = start_upstream(mortal_ports[model])
    base = mortal_base
    chunks = []
    stream = sdk.stream(base, model=model, messages=user("::echo words=1000 gap=50::"))
    while "w2" not in told(chunks):
        chunks.append(next(stream))
    child.kill()
    rest, error = listen(stream)
    assert error.code == "upstream_incomplete"
    assert finishes(chunks + rest) == []
    with pytest.raises(SdkError) as raised:
        sdk.create(base, model=model, messages=user("again"))
    assert (raised.value.status, raised.value.code) == (502, "upstream_unreachable")


@BOTH
def test_a_stream_that_the_sdk_closes_ends_at_the_upstream(
    sdk: Sdk, base: str, model: str, chatkit: Upstream, ai_sdk: Upstream, settled: None
) -> None:
    upstream = chatkit if model == "gpt-oss-120b" else ai_sdk
    before = upstream.connections()["closed_early"]
    stream = sdk.stream(base, model=model, messages=user("::stall after=2::"))
    chunks = []
    while "w1" not in told(chunks):
        chunks.append(next(stream))
    left_at = time.time()
    stream.close()
    wait_for("the upstream's end", lambda: upstream.connections()["closed_early"] == before + 1, seconds=10)
    assert upstream.connections()["last_closed_at"] - left_at < 1
