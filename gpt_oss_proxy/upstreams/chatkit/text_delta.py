"""ChatKit's text events, decoded without dicts: nearly all of an answer consists of them."""

from typing import Literal

import msgspec

from gpt_oss_proxy.upstreams.values import read_lines


class _Update(msgspec.Struct):
    """In both spellings."""

    type: Literal["assistant_message.content_part.text_delta"]
    content_index: int | None = None
    contentIndex: int | None = None
    delta: str | None = None


class _Event(msgspec.Struct):
    """In both spellings."""

    type: Literal["thread.item.updated", "thread.item_updated"]
    update: _Update
    item_id: str | None = None
    itemId: str | None = None


text_deltas = msgspec.json.Decoder(_Event)


def read_text_deltas(records: list[bytes]) -> list[tuple[str, int, str]]:
    """Return (item's id, part's index, text) of such events, those of the same part joined.

    Returns [] if one of them is anything else: then they must be parsed one by one.
    """
    runs: list[tuple[str, int, list[str]]] = []
    for event in read_lines(text_deltas, records):
        update = event.update
        item_id, index = event.item_id or event.itemId or "", update.content_index or update.contentIndex or 0
        if not runs or runs[-1][0] != item_id or runs[-1][1] != index:
            runs.append((item_id, index, []))
        runs[-1][2].append(update.delta or "")
    return [(item_id, index, "".join(texts)) for item_id, index, texts in runs]
