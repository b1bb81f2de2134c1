"""The good answers of all four wire protocols, record by record: what the faults break.

Source: tests/upstreams/recordings, shortened. Each holds reasoning, usage, and text beyond ASCII.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

FIRST = "Grüße an "  # what has been said in the middle of an answer
TIME = "2026-11-22T20:44:15.311142"


class Record(NamedTuple):
    """One event, or one line; the text of the answer that it brings, and whether it brings reasoning."""

    data: str
    text: str = ""
    thinks: bool = False


class Protocol(NamedTuple):
    """A wire protocol. A break does no harm once record `end` is there, a clean end once `last` is."""

    name: str
    model: str
    headers: tuple[bytes, ...]  # Content-Type is the first
    frame: str
    records: Callable[[Sequence[str]], list[Record]]
    end: int  # the index of the terminal record, counted from the end
    last: int
    noise: str  # a record that means nothing
    error: str  # a record that tells of a failure

    @property
    def slug(self) -> str:
        return self.name.replace(" ", "-")

    def encode(self, record: Record) -> bytes:
        # Half a character becomes JSON's escape of it, as JavaScript writes it.
        return (self.frame % record.data).encode(errors="backslashreplace")


def texts(word: str) -> tuple[str, ...]:
    """Return the deltas of a good answer: the request's own word among them, lest answers get mixed up."""
    return FIRST, word, " 👩‍👩‍👧 und", " an die Welt."


def write(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _chatkit(texts: Sequence[str]) -> list[Record]:
    def item(kind: str, item_id: str, **fields: Any) -> dict[str, Any]:
        return {"id": item_id, "thread_id": "thr_cc4f2041", "created_at": TIME, "type": kind, **fields}

    def update(item_id: str, kind: str, **fields: Any) -> str:
        return write({"type": "thread.item.updated", "item_id": item_id, "update": {"type": kind, **fields}})

    def task(content: str) -> dict[str, str]:
        return {"status_indicator": "none", "type": "thought", "content": content}

    def part(text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": []}

    thread = {"id": "thr_cc4f2041", "created_at": TIME, "status": {"type": "active"}, "metadata": {}}
    question = item("user_message", "msg_50af842e", content=[{"type": "input_text", "text": "hi"}], attachments=[])
    thinking = {"type": "reasoning", "tasks": [], "expanded": False}
    thought = {**thinking, "tasks": [task("The user greets.")], "summary": {"duration": 0}}
    whole = "".join(texts)
    return [
        Record(write({"type": "thread.created", "thread": {**thread, "items": {"data": [], "has_more": False}}})),
        Record(write({"type": "thread.item.done", "item": question})),
        Record(write({"type": "stream_options", "stream_options": {"allow_cancel": True}})),
        Record(write({"type": "thread.item.added", "item": item("workflow", "wf_1", workflow=thinking)})),
        Record(update("wf_1", "workflow.task.added", task_index=0, task=task("The user")), thinks=True),
        Record(update("wf_1", "workflow.task.updated", task_index=0, task=task("The user greets.")), thinks=True),
        Record(write({"type": "thread.item.done", "item": item("workflow", "wf_1", workflow=thought)})),
        Record(write({"type": "thread.item.added", "item": item("assistant_message", "msg_2", content=[])})),
        Record(update("msg_2", "assistant_message.content_part.added", content_index=0, content=part(""))),
        *(
            Record(update("msg_2", "assistant_message.content_part.text_delta", content_index=0, delta=text), text)
            for text in texts
        ),
        Record(update("msg_2", "assistant_message.content_part.done", content_index=0, content=part(whole))),
        Record(write({"type": "thread.item.done", "item": item("assistant_message", "msg_2", content=[part(whole)])})),
        Record(write({"type": "thread.updated", "thread": {**thread, "title": "Greetings"}})),
    ]


def _data_stream(texts: Sequence[str]) -> list[Record]:
    usage = {"promptTokens": 38, "completionTokens": 7}
    return [
        Record("2:" + write([{"type": "user-message-id", "content": "0b9d"}])),
        Record("f:" + write({"messageId": "msg-ZXAs"})),
        Record("g:" + write("The user greets."), thinks=True),
        *(Record("0:" + write(text), text) for text in texts),
        Record("e:" + write({"finishReason": "stop", "usage": usage, "isContinued": False})),
        Record("d:" + write({"finishReason": "stop", "usage": usage})),
    ]


def _ui_stream(texts: Sequence[str]) -> list[Record]:
    usage = {"inputTokens": 37, "outputTokens": 4, "totalTokens": 41}
    return [
        Record(write({"type": "start", "messageId": "msg-ZXAs"})),
        Record(write({"type": "start-step"})),
        Record(write({"type": "reasoning-start", "id": "r0"})),
        Record(write({"type": "reasoning-delta", "id": "r0", "delta": "The user greets."}), thinks=True),
        Record(write({"type": "reasoning-end", "id": "r0"})),
        Record(write({"type": "text-start", "id": "t0"})),
        *(Record(write({"type": "text-delta", "id": "t0", "delta": text}), text) for text in texts),
        Record(write({"type": "text-end", "id": "t0"})),
        Record(write({"type": "finish-step"})),
        Record(write({"type": "finish", "finishReason": "stop", "messageMetadata": {"totalUsage": usage}})),
        Record("[DONE]"),
    ]


def _openai(texts: Sequence[str]) -> list[Record]:
    usage = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
    details = {"completion_tokens_details": {"reasoning_tokens": 4}, "prompt_tokens_details": {"cached_tokens": 0}}

    def chunk(choices: list[dict[str, Any]], **fields: Any) -> str:
        same = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1795391612, "model": "fault-1"}
        return write({**same, "choices": choices, **fields})

    def delta(**fields: str) -> str:
        return chunk([{"index": 0, "delta": fields, "logprobs": None, "finish_reason": None}])

    return [
        Record(delta(role="assistant", content="")),
        Record(delta(reasoning_content="The user greets."), thinks=True),
        *(Record(delta(content=text), text) for text in texts),
        Record(chunk([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}])),
        Record(chunk([], usage={**usage, **details})),
        Record("[DONE]"),
    ]


_EVENTS = b"Content-Type: text/event-stream; charset=utf-8"
CHATKIT = Protocol(
    name="ChatKit",
    model="gpt-oss-120b",
    headers=(_EVENTS,),
    frame="data: %s\n\n",
    records=_chatkit,
    end=-2,
    last=-2,
    noise=write({"type": "progress_update", "text": "…"}),
    error=write({"type": "error", "code": "custom", "message": "The kitchen burns.", "allow_retry": False}),
)
DATA_STREAM = Protocol(
    name="AI SDK data stream",
    model="gpt-4o",
    headers=(b"Content-Type: text/plain; charset=utf-8", b"X-Vercel-AI-Data-Stream: v1"),
    frame="%s\n",
    records=_data_stream,
    end=-1,
    last=-2,
    noise="2:[]",
    error="3:" + write("The kitchen burns."),
)
UI_STREAM = Protocol(
    name="AI SDK UI stream",
    model="gpt-4o",
    headers=(b"Content-Type: text/event-stream", b"X-Vercel-AI-UI-Message-Stream: v1"),
    frame="data: %s\n\n",
    records=_ui_stream,
    end=-2,
    last=-2,
    noise=write({"type": "data-weather", "data": 21}),
    error=write({"type": "error", "errorText": "The kitchen burns."}),
)
OPENAI = Protocol(
    name="openai",
    model="fault-1",
    headers=(_EVENTS,),
    frame="data: %s\n\n",
    records=_openai,
    end=-3,
    last=-3,
    noise=write({"choices": []}),
    error=write({"error": {"message": "The kitchen burns.", "type": "server_error"}}),
)
PROTOCOLS = (CHATKIT, DATA_STREAM, UI_STREAM, OPENAI)
SSE = (CHATKIT, UI_STREAM, OPENAI)
