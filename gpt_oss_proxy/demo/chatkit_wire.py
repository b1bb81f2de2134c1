"""ChatKit's wire protocol as a server: reads request bodies, writes events, in both dialects.

Sources: package openai-chatkit 1.6.5 (published dialect, identified by the key `type`); what clients of gpt-oss.com
read in August 2025 (older dialect, identified by the key `op`; recorded in chatkit-gptoss-reconstructed). A body with
both keys is a published one, because the package ignores unknown keys. Only the two operations that ask the model are
here; attachments have no store, and `quoted_text` is only echoed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .conversation import Event, Failure, Finish, Refused, TextDelta

CONTENT_TYPE = "text/event-stream; charset=utf-8"


class _InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    text: str


class _InputTag(Struct, frozen=True, tag_field="type", tag="input_tag"):
    id: str
    text: str
    data: dict[str, msgspec.Raw]
    group: str | None = None
    interactive: bool = False


class _InferenceOptions(Struct, frozen=True, omit_defaults=True):
    model: str | None = None


class _PublishedInput(Struct, frozen=True):
    content: list[_InputText | _InputTag]
    attachments: list[str]
    inference_options: _InferenceOptions
    quoted_text: str | None = None


class _PublishedParams(Struct, frozen=True):
    input: _PublishedInput
    thread_id: str | None = None


class _Published(Struct, frozen=True):
    type: str
    params: _PublishedParams


class _OlderInput(Struct, frozen=True):
    content: list[_InputText | _InputTag]
    attachments: list[str] = []
    quoted_text: str | None = None


class _OlderParams(Struct, frozen=True):
    input: _OlderInput
    threadId: str | None = None


class _Older(Struct, frozen=True):
    op: str
    params: _OlderParams


class _Dialect(Struct, frozen=True):
    type: str | UnsetType = UNSET
    op: str | UnsetType = UNSET


@dataclass(frozen=True)
class ChatKitRequest:
    """A user message for a thread; `thread_id` None opens a new one. `published` identifies the dialect."""

    published: bool
    thread_id: str | None
    model: str
    content: tuple[_InputText | _InputTag, ...]
    attachments: tuple[str, ...]
    quoted_text: str | None

    @property
    def text(self) -> str:
        """The person's text; several parts are joined by line ends."""
        return "\n".join(part.text for part in self.content)


@dataclass(frozen=True)
class Ids:
    """The ids of one turn."""

    thread: str
    user_item: str
    message: str


def parse(body: bytes, selected_model: str) -> ChatKitRequest:
    """Return the request; `selected_model` is the older dialect's header x-selected-model.

    Raises Refused with the published server's response to any invalid body: 500, text/plain.
    """
    try:
        if msgspec.json.decode(body, type=_Dialect).type is UNSET:
            return _older(msgspec.json.decode(body, type=_Older), selected_model)
        return _published(msgspec.json.decode(body, type=_Published))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _invalid() from error


def _published(request: _Published) -> ChatKitRequest:
    given = request.params.input
    return ChatKitRequest(
        published=True,
        thread_id=_thread_id(request.type, "threads.add_user_message", request.params.thread_id),
        model=given.inference_options.model or "",
        content=tuple(given.content),
        attachments=tuple(given.attachments),
        quoted_text=given.quoted_text,
    )


def _older(request: _Older, selected_model: str) -> ChatKitRequest:
    given = request.params.input
    return ChatKitRequest(
        published=False,
        thread_id=_thread_id(request.op, "threads.addMessage", request.params.threadId),
        model=selected_model,
        content=tuple(given.content),
        attachments=tuple(given.attachments),
        quoted_text=given.quoted_text,
    )


def _thread_id(operation: str, adding: str, thread_id: str | None) -> str | None:
    if operation == "threads.create":
        return None
    if operation == adding and thread_id is not None:
        return thread_id
    raise _invalid()


def _invalid() -> Refused:
    return Refused("500 Internal Server Error", b"Internal Server Error", "text/plain; charset=utf-8")


class Encoder:
    """Writes one turn's events: `opening`, then `encode` for each event of the answer.

    `now` returns the time as the package writes it: local, ISO, without a zone.
    """

    def __init__(self, request: ChatKitRequest, ids: Ids, now: Callable[[], str]) -> None:
        self._request = request
        self._published = request.published
        self._ids = ids
        self._now = now
        self._texts: list[str] = []
        self._begun = False

    def thread_created(self) -> bytes:
        """Return the first event of a thread's first turn."""
        items = {"data": [], "has_more": False}
        thread = {
            "id": self._ids.thread,
            "created_at": self._now(),
            "status": {"type": "active"},
            "metadata": {},
            "items": items,
        }
        return _event({"type": "thread.created", "thread": thread})

    def opening(self) -> bytes:
        """Return what precedes the answer: the user's own item, and in the published dialect the stream's options."""
        request = self._request
        item = self._item(self._ids.user_item, "user_message") | {"content": request.content, "attachments": []}
        if request.quoted_text is not None:
            item["quoted_text"] = request.quoted_text
        item["inference_options"] = _InferenceOptions(request.model or None)
        if self._published:
            return self._done(item) + _event({"type": "stream_options", "stream_options": {"allow_cancel": True}})
        return self._done(item | {"text": request.text})

    def encode(self, event: Event) -> bytes:
        """Return the bytes of one event of the answer."""
        if isinstance(event, Failure):
            return _event(_error(event))
        if isinstance(event, Finish):
            return self._begin() + self._finish()
        first = not self._texts
        self._texts.append(event.text)
        return self._begin() + (self._part_added() if first else b"") + self._delta(event)

    def _begin(self) -> bytes:
        # The older dialect has no event for this, as far as its clients show.
        if self._begun or not self._published:
            return b""
        self._begun = True
        item = self._item(self._ids.message, "assistant_message") | {"content": []}
        return _event({"type": "thread.item.added", "item": item})

    def _part_added(self) -> bytes:
        if not self._published:
            return b""
        update = {"type": "assistant_message.content_part.added", "content_index": 0, "content": _output_text("")}
        return self._updated(update)

    def _delta(self, event: TextDelta) -> bytes:
        index = "content_index" if self._published else "contentIndex"
        update = {"type": "assistant_message.content_part.text_delta", index: 0, "delta": event.text}
        return self._updated(update)

    def _finish(self) -> bytes:
        content = [_output_text("".join(self._texts))] if self._texts else []
        done = self._done(self._item(self._ids.message, "assistant_message") | {"content": content})
        if not self._published or not content:
            return done
        update = {"type": "assistant_message.content_part.done", "content_index": 0, "content": content[0]}
        return self._updated(update) + done

    def _item(self, item_id: str, type_: str) -> dict[str, object]:
        return {"id": item_id, "thread_id": self._ids.thread, "created_at": self._now(), "type": type_}

    def _done(self, item: dict[str, object]) -> bytes:
        return _event({"type": "thread.item.done" if self._published else "thread.item_done", "item": item})

    def _updated(self, update: dict[str, object]) -> bytes:
        if self._published:
            return _event({"type": "thread.item.updated", "item_id": self._ids.message, "update": update})
        return _event({"type": "thread.item_updated", "itemId": self._ids.message, "update": update})


def _output_text(text: str) -> dict[str, object]:
    return {"annotations": [], "text": text, "type": "output_text"}


def _error(failure: Failure) -> dict[str, object]:
    # The package's StreamError and CustomStreamError: the first has no message.
    if failure.message is None:
        return {"type": "error", "code": "stream.error", "allow_retry": True}
    return {"type": "error", "code": "custom", "message": failure.message, "allow_retry": False}


def _event(value: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)
