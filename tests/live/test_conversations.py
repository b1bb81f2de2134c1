"""What reaches the model: the whole conversation, in order, exactly as it was typed, images as images."""

import base64
import dataclasses
import hashlib
import json
import re
from typing import Any

import pytest

from tests.live.conftest import Gateway
from tests.live.talk import AWKWARD, Upstream, chat, failed, post, stream, text_of, user

CHATBOT_SYSTEM = "You are a friendly assistant! Keep your responses concise and helpful."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="  # a PNG
LARGE = bytes(range(256)) * 4500
LARGE_TEXT = base64.b64encode(LARGE).decode()  # 1.5 MB
CONVERSATION = [
    {"role": "system", "content": "Answer in\nGerman. "},
    {"role": "user", "content": "  First question? [#1 assistant]\r\n"},
    {"role": "assistant", "content": "Erste Antwort.\u2028"},
    {"role": "user", "content": [{"type": "text", "text": "Second"}, {"type": "text", "text": "question? 🦊"}]},
    {"role": "assistant", "content": "Zweite Antwort."},
    {"role": "user", "content": "::recall::\n Third question? "},
]


@dataclasses.dataclass(frozen=True)
class Wire:
    """One way from the gateway to a model."""

    model: str
    base: str


CHATKIT = ["chatkit older", "chatkit published"]
AI_SDK = ["ai_sdk /api/chat", "ai_sdk /plain/api/chat", "ai_sdk /ui/api/chat"]
AI_SDK_SETTINGS = {"/ui/api/chat": {"AI_SDK_MESSAGE_FORMAT": "parts"}}


@pytest.fixture(params=[*CHATKIT, *AI_SDK])
def wire(request: pytest.FixtureRequest, gateway: Gateway, chatkit: Upstream, ai_sdk: Upstream) -> Wire:
    kind, variant = request.param.split()
    if kind == "chatkit":
        address = f"{chatkit.address}{'/older' if variant == 'older' else ''}"
        return Wire("gpt-oss-20b", gateway(CHATKIT_DIALECT=variant, BASE_URL=address))
    settings = AI_SDK_SETTINGS.get(variant, {})
    return Wire("gpt-4o-mini", gateway(VERCEL_MINIMAL_API_URL=f"{ai_sdk.address}{variant}", **settings))


def recalled(response: Any) -> Any:
    """Return what the model was given."""
    return json.loads(text_of(response))


@pytest.mark.parametrize("wire", CHATKIT, indirect=True)
def test_three_turns_with_a_system_prompt_arrive_whole_and_in_order_over_chatkit(wire: Wire) -> None:
    given = recalled(post(wire.base, {"model": wire.model, "messages": CONVERSATION}))
    assert (given["thread_items"], given["model"]) == (1, "gpt-oss-20b")
    # The user has typed the marker number 1, so the turns are marked with another.
    turns = re.split(r"\n\n\[#2 (\w+)\]\n", given["text"])[1:]
    assert list(zip(turns[::2], turns[1::2], strict=True)) == [
        ("system", "Answer in\nGerman. "),
        ("user", "  First question? [#1 assistant]\r\n"),
        ("assistant", "Erste Antwort.\u2028"),
        ("user", "Second\nquestion? 🦊"),
        ("assistant", "Zweite Antwort."),
        ("user", "::recall::\n Third question? "),
    ]


@pytest.mark.parametrize("wire", AI_SDK, indirect=True)
def test_three_turns_with_a_system_prompt_arrive_whole_and_in_order_over_the_ai_sdk(wire: Wire) -> None:
    given = recalled(post(wire.base, {"model": wire.model, "messages": CONVERSATION}))
    if given[0] == {"role": "system", "content": CHATBOT_SYSTEM}:  # the chatbot puts its own before ours
        given = given[1:]

    def said(text: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": text}]

    assert given == [
        {"role": "system", "content": "Answer in\nGerman. "},
        {"role": "user", "content": said("  First question? [#1 assistant]\r\n")},
        {"role": "assistant", "content": said("Erste Antwort.\u2028")},
        {"role": "user", "content": said("Second\nquestion? 🦊")},
        {"role": "assistant", "content": said("Zweite Antwort.")},
        {"role": "user", "content": said("::recall::\n Third question? ")},
    ]


def test_a_single_message_arrives_and_comes_back_exactly_as_it_was_typed(wire: Wire) -> None:
    given = recalled(chat(wire.base, wire.model, f"{AWKWARD}::recall::{AWKWARD}"))
    typed = given["text"] if isinstance(given, dict) else given[-1]["content"][0]["text"]
    assert typed == f"{AWKWARD}::recall::{AWKWARD}"
    assert text_of(chat(wire.base, wire.model, AWKWARD)) == AWKWARD
    assert stream(wire.base, wire.model, AWKWARD).text() == AWKWARD


def test_developer_messages_and_tool_results_reach_the_model_too(wire: Wire) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "How warm is Oslo?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "7 degrees"},
        {"role": "user", "content": "::recall::"},
    ]
    given = text_of(post(wire.base, {"model": wire.model, "messages": messages}))
    places = [given.index(text) for text in ("Be brief.", "How warm", "weather", "Oslo", "7 degrees", "::recall::")]
    assert places[0] < places[1] < places[2] < places[4] < places[5]


IMAGE_WIRES = [
    ("/api/chat", {}),
    ("/api/chat", {"AI_SDK_IMAGE_FORMAT": "attachments"}),
    ("/plain/api/chat", {}),
    ("/plain/api/chat", {"AI_SDK_IMAGE_FORMAT": "image_url"}),
    ("/plain/api/chat", {"AI_SDK_IMAGE_FORMAT": "attachments"}),
    ("/ui/api/chat", {"AI_SDK_MESSAGE_FORMAT": "parts"}),
]
IMAGES = {
    "data URI": (f"data:image/png;base64,{PIXEL}", PIXEL),
    "1.5 MB": (
        f"data:image/jpeg;base64,{LARGE_TEXT}",
        f"sha256:{hashlib.sha256(LARGE).hexdigest()}",
    ),
    "URL": ("https://example.com/cat.png", "https://example.com/cat.png"),
}


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(("path", "settings"), IMAGE_WIRES, ids=lambda value: value if isinstance(value, str) else None)
def test_an_image_arrives_as_an_image(
    gateway: Gateway, ai_sdk: Upstream, path: str, settings: dict[str, str], image: str
) -> None:
    url, expected = IMAGES[image]
    base = gateway(VERCEL_MINIMAL_API_URL=f"{ai_sdk.address}{path}", **settings)
    content = [
        {"type": "text", "text": "::recall:: What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    text, seen = recalled(chat(base, "gpt-4o", content))[-1]["content"]
    assert text == {"type": "text", "text": "::recall:: What is this?"}
    assert seen["type"] in ("image", "file")
    assert (seen.get("image") or seen.get("data")) == expected
    assert seen.get("mimeType", seen.get("mediaType", "image/")).startswith("image/")


def test_an_image_for_gpt_oss_is_refused_before_anything_is_sent(base: str, chatkit: Upstream) -> None:
    served = chatkit.connections()["served"]
    content = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    for streamed in (False, True):
        response = post(base, {"model": "gpt-oss-120b", "messages": user(content), "stream": streamed})
        assert failed(response) == (400, "invalid_request_error", "unsupported_image")
        assert response.json()["error"]["param"] == "messages[0].content[0]"
    assert chatkit.connections()["served"] == served
