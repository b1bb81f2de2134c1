"""The shapes are those of the recordings chatkit/ and chatkit-gptoss-reconstructed/."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.demo import chatkit_wire
from gpt_oss_proxy.demo.chatkit_wire import ChatKitRequest, Encoder, Ids
from gpt_oss_proxy.demo.conversation import Event, Failure, Finish, Refused, TextDelta

PART = {"type": "input_text", "text": "hello\u2028world"}
PUBLISHED_INPUT = {
    "content": [PART],
    "attachments": [],
    "quoted_text": "",
    "inference_options": {"model": "gpt-oss-20b"},
}
OLDER_INPUT = {"text": "hello\u2028world", "content": [PART], "quoted_text": "", "attachments": []}
PUBLISHED = {"type": "threads.create", "params": {"input": PUBLISHED_INPUT}}
OLDER = {"op": "threads.create", "params": {"input": OLDER_INPUT}}
IDS = Ids("thr_1", "msg_u", "msg_a")
USER_ITEM = {"id": "msg_u", "thread_id": "thr_1", "created_at": "T", "type": "user_message", "content": [PART]}
ANSWER_ITEM = {"id": "msg_a", "thread_id": "thr_1", "created_at": "T", "type": "assistant_message"}


def parse(body: object) -> ChatKitRequest:
    return chatkit_wire.parse(json.dumps(body).encode(), "gpt-oss-120b")


def turn(body: object, *events: Event) -> list[Any]:
    encoder = Encoder(parse(body), IDS, lambda: "T")
    written = encoder.opening() + b"".join(encoder.encode(event) for event in events)
    *lines, rest = written.split(b"\n\n")
    assert rest == b""
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


def output_text(text: str) -> dict[str, object]:
    return {"annotations": [], "text": text, "type": "output_text"}


def published(update: dict[str, object]) -> dict[str, object]:
    return {"type": "thread.item.updated", "item_id": "msg_a", "update": update}


def test_the_published_dialect_writes_what_the_package_writes() -> None:
    delta = {"type": "assistant_message.content_part.text_delta", "content_index": 0}
    assert turn(PUBLISHED, TextDelta("a"), TextDelta(" b"), Finish("stop", 1, 2)) == [
        {
            "type": "thread.item.done",
            "item": USER_ITEM | {"attachments": [], "quoted_text": "", "inference_options": {"model": "gpt-oss-20b"}},
        },
        {"type": "stream_options", "stream_options": {"allow_cancel": True}},
        {"type": "thread.item.added", "item": ANSWER_ITEM | {"content": []}},
        published({"type": "assistant_message.content_part.added", "content_index": 0, "content": output_text("")}),
        published(delta | {"delta": "a"}),
        published(delta | {"delta": " b"}),
        published({"type": "assistant_message.content_part.done", "content_index": 0, "content": output_text("a b")}),
        {"type": "thread.item.done", "item": ANSWER_ITEM | {"content": [output_text("a b")]}},
    ]


def test_the_older_dialect_writes_what_its_clients_read() -> None:
    delta = {"type": "assistant_message.content_part.text_delta", "contentIndex": 0}
    assert turn(OLDER, TextDelta("a"), TextDelta(" b"), Finish("stop", 1, 2)) == [
        {
            "type": "thread.item_done",
            "item": USER_ITEM
            | {
                "attachments": [],
                "quoted_text": "",
                "inference_options": {"model": "gpt-oss-120b"},
                "text": "hello\u2028world",
            },
        },
        {"type": "thread.item_updated", "itemId": "msg_a", "update": delta | {"delta": "a"}},
        {"type": "thread.item_updated", "itemId": "msg_a", "update": delta | {"delta": " b"}},
        {"type": "thread.item_done", "item": ANSWER_ITEM | {"content": [output_text("a b")]}},
    ]


def test_a_thread_is_created_with_its_id() -> None:
    assert Encoder(parse(PUBLISHED), IDS, lambda: "T").thread_created() == (
        b'data: {"type":"thread.created","thread":{"id":"thr_1","created_at":"T","status":{"type":"active"},'
        b'"metadata":{},"items":{"data":[],"has_more":false}}}\n\n'
    )


def test_text_is_utf_8_and_not_escaped() -> None:
    encoder = Encoder(parse(OLDER), IDS, lambda: "T")
    assert '"delta":"é\u2028🙂"'.encode() in encoder.encode(TextDelta("é\u2028🙂"))


def test_an_empty_answer_is_an_item_without_content() -> None:
    assert turn(PUBLISHED, Finish("stop", 1, 0))[2:] == [
        {"type": "thread.item.added", "item": ANSWER_ITEM | {"content": []}},
        {"type": "thread.item.done", "item": ANSWER_ITEM | {"content": []}},
    ]


@pytest.mark.parametrize("body", [PUBLISHED, OLDER])
@pytest.mark.parametrize(
    ("failure", "event"),
    [
        (Failure(), {"type": "error", "code": "stream.error", "allow_retry": True}),
        (Failure("Too long."), {"type": "error", "code": "custom", "message": "Too long.", "allow_retry": False}),
    ],
)
def test_a_failure_is_the_last_event(body: object, failure: Failure, event: object) -> None:
    assert turn(body, failure)[-1] == event


def test_a_body_with_both_keys_is_a_published_one() -> None:
    assert parse(PUBLISHED | {"op": "threads.create"}) == parse(PUBLISHED)
    assert parse(PUBLISHED).published
    assert not parse(OLDER).published


@pytest.mark.parametrize(
    "body",
    [
        {"type": "threads.add_user_message", "params": {"input": PUBLISHED_INPUT, "thread_id": "thr_9"}},
        {"op": "threads.addMessage", "params": {"input": OLDER_INPUT, "threadId": "thr_9"}},
    ],
)
def test_a_later_turn_names_its_thread(body: object) -> None:
    assert parse(body).thread_id == "thr_9"


@pytest.mark.parametrize("body", [PUBLISHED, OLDER, OLDER | {"params": {"input": OLDER_INPUT, "threadId": None}}])
def test_a_first_turn_has_no_thread(body: object) -> None:
    assert parse(body).thread_id is None


def test_the_model_comes_from_the_options_or_from_the_header() -> None:
    assert (parse(PUBLISHED).model, parse(OLDER).model) == ("gpt-oss-20b", "gpt-oss-120b")


def without(key: str) -> dict[str, object]:
    return {"type": "threads.create", "params": {"input": {k: v for k, v in PUBLISHED_INPUT.items() if k != key}}}


@pytest.mark.parametrize(
    "body",
    [
        without("inference_options"),
        without("attachments"),
        without("content"),
        {"type": "threads.create", "params": {}},
        {"type": "threads.create"},
        {"type": "threads.addMessage", "params": {"input": PUBLISHED_INPUT, "thread_id": "thr_9"}},
        {"type": "threads.add_user_message", "params": {"input": PUBLISHED_INPUT}},
        {"type": "threads.create", "params": {"input": PUBLISHED_INPUT | {"content": [{"type": "text", "text": "x"}]}}},
        {"op": "threads.add_user_message", "params": {"input": OLDER_INPUT, "threadId": "thr_9"}},
        {"params": {"input": PUBLISHED_INPUT}},
        [],
        None,
    ],
)
def test_an_invalid_body_is_a_500_as_with_the_published_glue(body: object) -> None:
    with pytest.raises(Refused) as refused:
        parse(body)
    assert (refused.value.status, refused.value.body) == ("500 Internal Server Error", b"Internal Server Error")


@pytest.mark.parametrize("body", [b"", b"{", b'"\xff"', b"[" * 100_000, b'{"type":"\\ud83d"}'])
def test_a_body_that_is_no_json_is_a_500_too(body: bytes) -> None:
    with pytest.raises(Refused):
        chatkit_wire.parse(body, "")
