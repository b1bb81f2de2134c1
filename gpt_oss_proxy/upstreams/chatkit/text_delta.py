"""ChatKit's events that bring text, read without a detour over dicts: an answer consists of little else."""

from typing import Literal

import msgspec


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


_decode = msgspec.json.Decoder(_Event).decode


def read_text_delta(record: bytes) -> tuple[str, int, str] | None:
    """Return (item's id, part's index, text) of such an event; None for any other, to be read with more patience."""
    try:
        event = _decode(record)
    except ValueError:
        return None
    update = event.update
    return event.item_id or event.itemId or "", update.content_index or update.contentIndex or 0, update.delta or ""
