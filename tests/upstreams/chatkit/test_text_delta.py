"""The short way to the text of an answer means what the long way means, or is not taken."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.upstreams.chatkit.decoder import ChatKitDecoder
from gpt_oss_proxy.upstreams.chatkit.text_delta import read_text_deltas
from tests.upstreams.decoding import run, sse_bytes

KIND = "assistant_message.content_part.text_delta"
UPDATE = {"type": KIND, "content_index": 1, "delta": "Hi"}
EVENT = {"type": "thread.item.updated", "item_id": "m", "update": UPDATE}
OLDER = {"type": "thread.item_updated", "itemId": "m", "update": {"type": KIND, "contentIndex": 1, "delta": "Hi"}}


@pytest.mark.parametrize("event", [EVENT, OLDER])
def test_both_spellings_are_read(event):
    assert read_text_deltas([json.dumps(event).encode()]) == [("m", 1, "Hi")]


@pytest.mark.parametrize(
    "event",
    [
        {**EVENT, "type": "thread.item.added"},
        {**EVENT, "update": {**UPDATE, "type": "assistant_message.content_part.added"}},
        {**EVENT, "update": {**UPDATE, "delta": 7}},
        {**EVENT, "update": {**UPDATE, "content_index": True}},
        {"type": "thread.item.updated"},
        [KIND],
    ],
)
def test_anything_else_is_left_to_the_long_way(event):
    assert read_text_deltas([json.dumps(event).encode()]) == []


@pytest.mark.parametrize(
    "update",
    [
        UPDATE,
        {**UPDATE, "content_index": None},
        {**UPDATE, "content_index": True},
        {**UPDATE, "delta": None},
        {**UPDATE, "delta": "\ud83d"},
        {**UPDATE, "delta": 7},
        {**UPDATE, "contentIndex": 3},
        {"type": KIND},
        {"type": "Assistant_Message.Content.Part.Text.Delta", "delta": "Hi"},
    ],
)
@pytest.mark.parametrize(
    "ids", [{"item_id": "m"}, {"itemId": "m"}, {"item_id": None, "itemId": "m"}, {}, {"item_id": 1}]
)
def test_the_short_way_says_what_the_long_way_says(update: dict[str, Any], ids: dict[str, Any], monkeypatch):
    opened = {"type": "thread.item.added", "item": {"type": "assistant_message", "id": "m", "content": []}}
    done = {"type": "thread.item.done", "item": {"type": "assistant_message", "id": "m", "content": []}}
    event = json.dumps({"type": "thread.item.updated", **ids, "update": update}).encode()
    body = sse_bytes(opened, b"data: %b\n\n" % event, done)
    short = run(ChatKitDecoder(10_000), body)
    monkeypatch.setattr(ChatKitDecoder, "decode_texts", lambda _self, _records: 0)
    long = run(ChatKitDecoder(10_000), body)
    assert (short[0], repr(short[1])) == (long[0], repr(long[1]))
