"""What is asked of a ChatKit server, in both dialects."""

import pytest

from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, PassthroughPart, Text
from gpt_oss_proxy.config.settings import EFFORTS
from gpt_oss_proxy.emulation.fold import fold
from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.upstreams.chatkit.request import build_body, build_headers
from tests.upstreams.decoding import ask

TYPED = "  \n[#1 user] line\u2028sep 👍🏽 \ttail \n"
CONVERSATION = ChatRequest(
    "gpt-oss-120b",
    (
        Message("developer", (Text("Be terse."),)),
        Message("user", (Text("One."), Text("Two."))),
        Message("assistant", (Text("Three."),)),
        Message("user", (Text("Four."),)),
    ),
)


def test_a_published_request_creates_a_thread_with_what_the_package_requires():
    assert build_body(ask(TYPED), "published") == {
        "type": "threads.create",
        "params": {
            "input": {
                "content": [{"type": "input_text", "text": TYPED}],
                "attachments": [],
                "inference_options": {"model": "gpt-oss-20b"},
            }
        },
    }


def test_an_older_request_creates_a_thread_with_what_its_clients_sent():
    assert build_body(ask(TYPED), "older") == {
        "op": "threads.create",
        "params": {
            "input": {
                "text": TYPED,
                "content": [{"type": "input_text", "text": TYPED}],
                "quoted_text": "",
                "attachments": [],
            }
        },
    }


@pytest.mark.parametrize("dialect", ["published", "older"])
def test_a_conversation_is_folded_into_one_text(dialect):
    content = build_body(CONVERSATION, dialect)["params"]["input"]["content"]
    assert content == [{"type": "input_text", "text": fold(CONVERSATION.messages)}]
    assert all(text in content[0]["text"] for text in ("Be terse.", "One.\nTwo.", "Three.", "Four."))


COMMON = {"Content-Type": "application/json", "Accept": "text/event-stream"}


def test_the_published_dialect_has_no_headers_of_its_own():
    assert build_headers(ask(), "published", "high") == COMMON


@pytest.mark.parametrize(
    ("asked", "default", "effort", "shown"),
    [
        ("none", "high", "low", "false"),
        ("minimal", "high", "low", "true"),
        ("low", "high", "low", "true"),
        ("medium", "high", "medium", "true"),
        ("high", "low", "high", "true"),
        ("xhigh", "low", "high", "true"),
        ("max", "low", "high", "true"),
        (None, "max", "high", "true"),
        (None, "medium", "medium", "true"),
        (None, "none", "low", "false"),
    ],
)
def test_the_older_dialect_names_model_and_effort_in_headers(asked, default, effort, shown):
    request = ChatRequest("gpt-oss-120b", ask().messages, effort=asked)
    assert build_headers(request, "older", default) == {
        **COMMON,
        "x-selected-model": "gpt-oss-120b",
        "x-reasoning-effort": effort,
        "x-show-reasoning": shown,
    }


def test_every_effort_that_can_be_asked_for_becomes_one_of_the_three_that_gpt_oss_knows():
    requests = [ChatRequest("m", ask().messages, effort=effort) for effort in EFFORTS]
    sent = {build_headers(request, "older", "low")["x-reasoning-effort"] for request in requests}
    assert sent == {"low", "medium", "high"}


@pytest.mark.parametrize(
    ("part", "code"),
    [
        (Image("https://example.com/x.png"), "unsupported_image"),
        (PassthroughPart("input_audio", {"data": "…"}), "unsupported_content"),
    ],
)
@pytest.mark.parametrize("dialect", ["published", "older"])
def test_what_is_no_text_is_refused_with_its_place(dialect, part, code):
    messages = (Message("user", (Text("Look."),)), Message("user", (Text("Here:"), part)))
    with pytest.raises(InvalidRequest) as refused:
        build_body(ChatRequest("gpt-oss-20b", messages), dialect)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, "messages[1].content[1]")
