"""The shapes are those of the recordings aisdk-v1/ and aisdk-ui/."""

import json

import pytest

from gpt_oss_proxy.demo import ai_sdk_wire
from gpt_oss_proxy.demo.ai_sdk_wire import AiSdkRequest, DataStreamEncoder, UiMessageEncoder
from gpt_oss_proxy.demo.conversation import Event, Failure, Finish, Message, Question, Refused, TextDelta

USER = {"role": "user", "content": "hello"}
PNG = "data:image/png;base64,iVBORw0KGgo="


def parse(*messages: object, model: object = "gpt-4o-mini") -> AiSdkRequest:
    return ai_sdk_wire.parse(json.dumps({"id": "x", "modelId": model, "messages": messages}).encode())


def data_stream(*events: Event) -> list[str]:
    encoder = DataStreamEncoder("user-1", "msg-1")
    return (encoder.opening() + b"".join(map(encoder.encode, events))).decode().split("\n")


def ui_stream(*events: Event) -> list[str]:
    encoder = UiMessageEncoder()
    return (encoder.opening() + b"".join(map(encoder.encode, events))).decode().split("\n\n")


USER_ID = '2:[{"type":"user-message-id","content":"user-1"}]'


def test_a_data_stream_is_what_the_template_writes() -> None:
    assert data_stream(TextDelta("é\u2028"), TextDelta(' "b"'), Finish("length", 21, 4)) == [
        USER_ID,
        'f:{"messageId":"msg-1"}',
        '0:"é\u2028"',
        '0:" \\"b\\""',
        'e:{"finishReason":"length","usage":{"promptTokens":21,"completionTokens":4},"isContinued":false}',
        'd:{"finishReason":"length","usage":{"promptTokens":21,"completionTokens":4}}',
        "",
    ]


def test_an_empty_answer_still_has_a_step() -> None:
    assert [line[:1] for line in data_stream(Finish("stop", 9, 0))] == ["2", "f", "e", "d", ""]


def test_a_data_stream_that_fails_at_once_has_only_its_error() -> None:
    assert data_stream(Failure()) == [USER_ID, '3:"An error occurred."', ""]


def test_a_data_stream_that_fails_in_the_middle_says_so_and_finishes_with_error() -> None:
    assert data_stream(TextDelta("a"), Failure("Too long."))[2:] == [
        '0:"a"',
        '3:"Too long."',
        'e:{"finishReason":"error","usage":{"promptTokens":0,"completionTokens":0},"isContinued":false}',
        'd:{"finishReason":"error","usage":{"promptTokens":0,"completionTokens":0}}',
        "",
    ]


def test_a_ui_stream_is_what_the_sdk_writes() -> None:
    assert ui_stream(TextDelta("hello"), TextDelta(" you"), Finish("stop", 37, 4)) == [
        'data: {"type":"start"}',
        'data: {"type":"start-step"}',
        'data: {"type":"text-start","id":"t0"}',
        'data: {"type":"text-delta","id":"t0","delta":"hello"}',
        'data: {"type":"text-delta","id":"t0","delta":" you"}',
        'data: {"type":"text-end","id":"t0"}',
        'data: {"type":"finish-step"}',
        'data: {"type":"finish","finishReason":"stop","messageMetadata":'
        '{"totalUsage":{"inputTokens":37,"outputTokens":4,"totalTokens":41}}}',
        "data: [DONE]",
        "",
    ]


def test_a_ui_stream_without_text_has_no_text_block() -> None:
    types = [json.loads(event[6:])["type"] for event in ui_stream(Finish("stop", 1, 0))[:-2]]
    assert types == ["start", "start-step", "finish-step", "finish"]


def test_a_ui_stream_that_fails_at_once_has_only_its_error() -> None:
    assert ui_stream(Failure()) == [
        'data: {"type":"start"}',
        'data: {"type":"error","errorText":"An error occurred."}',
        "data: [DONE]",
        "",
    ]


def test_a_ui_stream_that_fails_in_the_middle_closes_its_text_first() -> None:
    assert ui_stream(TextDelta("a"), Failure())[4:] == [
        'data: {"type":"text-end","id":"t0"}',
        'data: {"type":"error","errorText":"An error occurred."}',
        'data: {"type":"finish-step"}',
        'data: {"type":"finish","finishReason":"error"}',
        "data: [DONE]",
        "",
    ]


def test_the_whole_conversation_is_the_question() -> None:
    conversation = [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": [{"type": "text", "text": "My name"}, {"type": "text", "text": "is Ada."}]},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "Who am I?"},
    ]
    assert parse(*conversation).question == Question(
        "gpt-4o-mini",
        (
            Message("system", "Be terse."),
            Message("user", "My name\nis Ada."),
            Message("assistant", "Noted."),
            Message("user", "Who am I?"),
        ),
    )


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": "see"}, {"type": "image", "image": PNG, "image_url": {"url": PNG}}]},
        {"content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PNG}}]},
        {"content": [{"type": "text", "text": "see"}, {"type": "file", "mimeType": "image/png", "data": "x"}]},
        {"content": "see", "experimental_attachments": [{"contentType": "image/png", "url": PNG}]},
        {"parts": [{"type": "text", "text": "see"}, {"type": "file", "mediaType": "image/png", "url": PNG}]},
    ],
)
def test_an_image_is_told_of_in_words(message: dict[str, object]) -> None:
    question = parse({"role": "user"} | message).question
    assert question.messages == (Message("user", "see\n[an image was attached]"),)


def test_parts_without_content_ask_for_the_ui_stream() -> None:
    parts = [{"type": "text", "text": "hello"}]
    assert parse({"role": "user", "parts": parts}).ui_stream
    assert not parse(USER | {"parts": parts}).ui_stream
    assert not parse(USER).ui_stream


def test_a_system_message_as_an_array_is_found_out_only_in_the_stream() -> None:
    assert parse({"role": "system", "content": [{"type": "text", "text": "x"}]}, USER).unreadable
    assert not parse({"role": "system", "content": "x"}, USER).unreadable


def refusal(body: bytes) -> tuple[str, bytes]:
    with pytest.raises(Refused) as refused:
        ai_sdk_wire.parse(body)
    return refused.value.status, refused.value.body


@pytest.mark.parametrize("model", [None, "gpt-9", ""])
def test_an_unknown_model_is_a_404(model: object) -> None:
    body = json.dumps({"modelId": model, "messages": [{"role": "tool", "content": "x"}]}).encode()
    assert refusal(body) == ("404 Not Found", b"Model not found")


def test_no_user_message_is_a_400() -> None:
    body = b'{"modelId":"gpt-4o","messages":[{"role":"assistant","content":"x"}]}'
    assert refusal(body) == ("400 Bad Request", b"No user message found")


@pytest.mark.parametrize(
    "message", [{"role": "developer", "content": "x"}, {"role": "tool", "content": "x"}, {"role": "user"}]
)
def test_a_message_that_the_sdk_cannot_convert_is_a_500(message: object) -> None:
    body = json.dumps({"modelId": "gpt-4o", "messages": [message, USER]}).encode()
    assert refusal(body) == ("500 Internal Server Error", b"Internal Server Error")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"\xff"', b'{"modelId":"gpt-4o"}', b"[" * 100_000])
def test_a_body_that_is_no_request_is_a_500(body: bytes) -> None:
    assert refusal(body)[0] == "500 Internal Server Error"
