"""What is asked of an AI SDK endpoint, in both message formats."""

import pytest

from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, PassthroughPart, Text, ToolCall
from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.upstreams.ai_sdk.request import build_body

URL = "https://example.com/a%20b/cat.JPG?x=1"
DATA = "data:image/webp;base64,UklGRg=="
PICTURES = ChatRequest(
    "gpt-4o",
    (Message("user", (Text("Is this "), Image(URL, "low"), Text("\nor this?"), Image(DATA))),),
)
CONVERSATION = ChatRequest(
    "gpt-4o",
    (
        Message("system", (Text("Be "), Text("terse."))),
        Message("developer", (Text("Really."),)),
        Message("user", (Text(" Weather in Oslo? [#1 user]"),)),
        Message("assistant", (), (ToolCall("c1", "weather", '{"city":"Oslo"}'),)),
        Message("tool", (Text("7 degrees"),), tool_call_id="c1"),
        Message("assistant", (Text("7."),)),
        Message("user", (Text("Thanks"),)),
    ),
)
TURNS = [
    ("system", "Be \nterse."),
    ("system", "Really."),
    ("user", " Weather in Oslo? [#1 user]"),
    ("assistant", '[#2 call weather c1] {"city":"Oslo"}'),
    ("user", "[#2 tool result c1]\n7 degrees"),
    ("assistant", "7."),
    ("user", "Thanks"),
]


def build(request: ChatRequest, image_format: str = "image", message_format: str = "content") -> dict[str, object]:
    return build_body(request, chat_id="chat-1", image_format=image_format, message_format=message_format)


def test_every_turn_goes_out_as_a_string_with_one_of_the_three_roles_that_the_endpoint_takes():
    assert build(CONVERSATION) == {
        "id": "chat-1",
        "modelId": "gpt-4o",
        "messages": [{"role": role, "content": content} for role, content in TURNS],
    }


def test_ui_messages_have_parts_ids_and_no_content():
    body = build(CONVERSATION, message_format="parts")
    ids = [message.pop("id") for message in body["messages"]]
    assert body == {
        "id": "chat-1",
        "modelId": "gpt-4o",
        "messages": [{"role": role, "parts": [{"type": "text", "text": text}]} for role, text in TURNS],
        "trigger": "submit-message",
    }
    assert len(set(ids)) == len(TURNS)


FIRST, SECOND = {"type": "text", "text": "Is this "}, {"type": "text", "text": "\nor this?"}


def test_images_keep_their_place_and_carry_both_keys():
    assert build(PICTURES)["messages"] == [
        {
            "role": "user",
            "content": [
                FIRST,
                {"type": "image", "image": URL, "image_url": {"url": URL, "detail": "low"}},
                SECOND,
                {"type": "image", "image": DATA, "image_url": {"url": DATA}},
            ],
        }
    ]


def test_images_can_go_as_openais_own_parts():
    assert build(PICTURES, "image_url")["messages"] == [
        {
            "role": "user",
            "content": [
                FIRST,
                {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
                SECOND,
                {"type": "image_url", "image_url": {"url": DATA}},
            ],
        }
    ]


def test_images_can_go_as_attachments():
    assert build(PICTURES, "attachments")["messages"] == [
        {
            "role": "user",
            "content": "Is this \n\nor this?",
            "experimental_attachments": [
                {"contentType": "image/jpeg", "url": URL},
                {"contentType": "image/webp", "url": DATA},
            ],
        }
    ]


def test_images_of_ui_messages_are_files_in_their_place():
    (message,) = build(PICTURES, message_format="parts")["messages"]
    assert message["parts"] == [
        FIRST,
        {"type": "file", "mediaType": "image/jpeg", "url": URL},
        SECOND,
        {"type": "file", "mediaType": "image/webp", "url": DATA},
    ]


@pytest.mark.parametrize(
    ("url", "media_type"),
    [
        ("https://example.com/x.gif", "image/gif"),
        ("https://example.com/x", "image/png"),
        ("https://example.com/x.pdf", "image/png"),
        ("https://example.com", "image/png"),
        ("data:IMAGE/GIF,x", "image/gif"),
        ("data:,x", "image/png"),
        ("data:text/html;base64,x", "image/png"),
        ("data:", "image/png"),
    ],
)
def test_an_attachment_always_has_an_image_type(url, media_type):
    request = ChatRequest("gpt-4o", (Message("user", (Image(url),)),))
    (message,) = build(request, "attachments")["messages"]
    assert message["experimental_attachments"] == [{"contentType": media_type, "url": url}]


@pytest.mark.parametrize(
    ("role", "part", "code"),
    [
        ("user", PassthroughPart("input_audio", {}), "unsupported_content"),
        ("assistant", Image(URL), "unsupported_image"),
    ],
)
@pytest.mark.parametrize("message_format", ["content", "parts"])
def test_what_cannot_be_sent_is_refused_with_its_place(message_format, role, part, code):
    messages = (Message("user", (Text("Hi"),)), Message(role, (Text("Hm"), part)))
    with pytest.raises(InvalidRequest) as refused:
        build(ChatRequest("gpt-4o", messages), message_format=message_format)
    assert (refused.value.code, refused.value.param) == (code, "messages[1].content[1]")


def test_a_turn_without_content_is_an_empty_string():
    assert build(ChatRequest("gpt-4o", (Message("user"),)))["messages"] == [{"role": "user", "content": ""}]


@pytest.mark.parametrize("message_format", ["content", "parts"])
def test_where_only_the_system_speaks_its_last_turn_is_a_users(message_format: str) -> None:
    alone = ChatRequest("gpt-4o", (Message("system", (Text("Be terse."),)), Message("developer", (Text("Hi"),))))
    roles = [message["role"] for message in build(alone, message_format=message_format)["messages"]]
    assert roles == ["system", "user"]
    answered = ChatRequest("gpt-4o", (Message("system", (Text("Hi"),)), Message("assistant", (Text("Ho"),))))
    assert [message["role"] for message in build(answered)["messages"]] == ["system", "assistant"]


@pytest.mark.parametrize("message_format", ["content", "parts"])
def test_parts_of_unknown_types_are_left_out_and_known_ones_refused(message_format: str) -> None:
    parts = (Text("Is this "), Image(URL), PassthroughPart("video_url", {"video_url": {"url": URL}}, is_known=False))
    built = str(build(ChatRequest("gpt-4o", (Message("user", parts),)), message_format=message_format))
    assert ("video" in built, "Is this " in built) == (False, True)
    with pytest.raises(InvalidRequest):
        build(ChatRequest("gpt-4o", (Message("user", (PassthroughPart("file", {}),)),)))
