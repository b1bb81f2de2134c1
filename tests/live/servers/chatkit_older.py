"""The older ChatKit dialect, of gpt-oss.com in August 2025: its request bodies, and its spelling of the events.

Source: what public clients of that site sent and read. No server of it was ever published, so this respells the events
of the published package; names that no client reads (itemId, thread.item_removed, the error event) are guesses.
"""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from chatkit.types import UserMessageTextContent
from pydantic import BaseModel, Field


class OlderInput(BaseModel):
    text: str = ""
    content: list[UserMessageTextContent]
    quoted_text: str = ""
    attachments: list[str] = []


class OlderParams(BaseModel):
    input: OlderInput
    thread_id: str | None = Field(default=None, alias="threadId")


class OlderBody(BaseModel):
    op: Literal["threads.create", "threads.addMessage"]
    params: OlderParams


def publish(body: bytes, model: str | None) -> bytes:
    """Return an older body as a published one. Raises ValidationError, a ValueError, if it is none."""
    older = OlderBody.model_validate_json(body)
    params: dict[str, Any] = {
        "input": {**older.params.input.model_dump(exclude={"text"}), "inference_options": {"model": model}}
    }
    if older.op == "threads.create":
        return json.dumps({"type": "threads.create", "params": params}).encode()
    if older.params.thread_id is None:
        raise ValueError("threads.addMessage needs threadId")
    params["thread_id"] = older.params.thread_id
    return json.dumps({"type": "threads.add_user_message", "params": params}).encode()


class OlderSpelling:
    """Respells one stream of published events. A thought is told once it is whole; some events did not exist yet."""

    def __init__(self, show_reasoning: bool) -> None:
        self._show_reasoning = show_reasoning
        self._thought: str | None = None

    def rewrite(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        update, item = event.get("update", {}), event.get("item", {})
        if update.get("type", "").startswith("workflow.task."):
            if update["type"] == "workflow.task.added":
                yield from self._told(event["item_id"])
            self._thought = update["task"]["content"]
        elif update.get("type") == "assistant_message.content_part.text_delta":
            respelled = {"type": update["type"], "contentIndex": update["content_index"], "delta": update["delta"]}
            yield {"type": "thread.item_updated", "itemId": event["item_id"], "update": respelled}
        elif item.get("type") == "workflow" and event["type"] == "thread.item.done":
            yield from self._told(item["id"])
            yield from self._entry(item["id"], {"type": "recap", "summary": "Done"})
        elif event["type"] == "thread.item.done":
            text = {"text": item["content"][0]["text"]} if item["type"] == "user_message" else {}
            yield {"type": "thread.item_done", "item": item | text}
        elif event["type"] == "thread.item.removed":
            yield {"type": "thread.item_removed", "itemId": event["item_id"]}
        elif event["type"] in ("thread.created", "thread.updated", "error"):
            yield event

    def _told(self, item_id: str) -> Iterator[dict[str, Any]]:
        if self._thought is not None:
            entry = {"type": "thought", "content": self._thought, "summary": self._thought}
            yield from self._entry(item_id, entry)
        self._thought = None

    def _entry(self, item_id: str, entry: dict[str, str]) -> Iterator[dict[str, Any]]:
        if self._show_reasoning:
            update = {"type": "cot.entry_added", "entry": entry}
            yield {"type": "thread.item_updated", "itemId": item_id, "update": update}


async def respell(published: AsyncIterator[bytes], show_reasoning: bool) -> AsyncIterator[bytes]:
    spelling = OlderSpelling(show_reasoning)
    async for line in published:
        for event in spelling.rewrite(json.loads(line.removeprefix(b"data: "))):
            yield b"data: " + json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
