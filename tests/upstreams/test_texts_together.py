"""Text that comes together is decoded together, and means what it means one by one, whatever stands between it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.upstreams.ai_sdk.ui_stream import UiStreamDecoder
from gpt_oss_proxy.upstreams.base import Decoder
from gpt_oss_proxy.upstreams.chatkit.decoder import ChatKitDecoder
from gpt_oss_proxy.upstreams.openai import OpenAIDecoder
from tests.upstreams.decoding import ask, merged, run, sse_bytes

VALUES: list[Any] = [None, "", "Hi", "text_delta", "\ud83d", "\ude00", "é", 7, True, [], {}, {"type": "text-delta"}]
KIND = "assistant_message.content_part.text_delta"


def chatkit(choose: Callable[[str, list[Any]], Any]) -> Any:
    """Return an event of a turn, mostly a text delta."""
    kind = choose("type", ["thread.item.updated", "thread.item_updated", "error", "notice", "thread.item.done"])
    update = {
        "type": choose("kind", [KIND, "assistant_message.content_part.done"]),
        choose("name of the index", ["content_index", "contentIndex"]): choose("index", [0, 1, None, -1, True]),
        "delta": choose("delta", ["Hi", *VALUES]),
    }
    item = {"type": "assistant_message", "id": choose("item", ["m", "n", ""]), "content": []}
    return {"type": kind, "item": item, choose("id", ["item_id", "itemId"]): item["id"], "update": update}


def ui_stream(choose: Callable[[str, list[Any]], Any]) -> Any:
    """Return a part of a message, mostly a text delta."""
    kinds = ["text-delta", "start-step", "reset-step", "finish", "reasoning-delta", "error"]
    return {"type": choose("type", kinds), "delta": choose("delta", ["Hi", *VALUES]), "errorText": '"text-delta"'}


def openai(choose: Callable[[str, list[Any]], Any]) -> Any:
    """Return a chunk, mostly of text."""
    delta = {"content": choose("content", ["Hi", *VALUES])}
    if name := choose("more", ["", "", "refusal", "reasoning", "reasoning_content", "tool_calls", "role"]):
        delta[name] = choose("its value", VALUES)
    choice = {
        "index": choose("index", [0, None, 1, "0"]),
        "delta": delta,
        "finish_reason": choose("reason", [None, "stop", "error", ""]),
    }
    chunk = {"id": choose("answer", ["a-1", "", "a 1"]), "choices": [choice] * choose("choices", [1, 1, 0, 2])}
    if name := choose("also", ["", "", "usage", "error"]):
        chunk[name] = choose("value", [None, {}, "no", {"prompt_tokens": 1, "completion_tokens": 2}])
    return chunk


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: ChatKitDecoder(10_000), chatkit),
        (lambda: UiStreamDecoder(ask(), 10_000), ui_stream),
        (lambda: OpenAIDecoder(10_000), openai),
    ],
    ids=["chatkit", "ui stream", "openai"],
)
@given(data=st.data())
def test_the_short_way_says_what_the_long_way_says(
    make: Callable[[], Decoder], say: Callable[[Callable[[str, list[Any]], Any]], Any], data: st.DataObject
):
    usual = data.draw(st.integers(0, 9), label="of ten choices, how many are the usual one")

    def choose(label: str, values: list[Any]) -> Any:
        if data.draw(st.integers(0, 9)) < usual:
            return values[0]
        return data.draw(st.sampled_from(values), label=label)

    records = [json.dumps(say(choose)).encode() for _ in range(data.draw(st.integers(1, 8)))]
    body = sse_bytes(*(b"data: %b\n\n" % record for record in records), b"data: [DONE]\n\n")
    for size in (1_000_000, 100, None):
        together, one_by_one = make(), make()
        one_by_one.TEXT_MARK = b""
        found, expected = run(together, body, size), run(one_by_one, body, size)
        assert merged(found[0]) == merged(expected[0])
        assert repr(found[1]) == repr(expected[1])


@pytest.mark.parametrize(
    "records",
    [
        [b'{"type":"text-delta","delta":"a"},{"type":"text-delta","delta":"b"}'],
        [b'{"type":"text-delta",', b'"delta":"a"}'],
        [b'{"type":"text-delta","delta":"a', b'b"}'],
        [b'{"type":"text-delta","delta":"a"}{"type":"text-delta","delta":"b"}', b'{"type":"text-delta"', b"}"],
    ],
)
def test_a_record_is_never_completed_by_the_next(records: list[bytes]):
    marked = [record if b"text-delta" in record else record + b' "text-delta"' for record in records]
    assert UiStreamDecoder(ask(), 10_000).decode_texts(marked) == 0
