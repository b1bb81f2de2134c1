"""A ChatKit server's answer → neutral events, in either spelling: the decision table of both dialects."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gpt_oss_proxy import sse
from gpt_oss_proxy.chat.events import Finish, TextReplaced
from gpt_oss_proxy.errors import (
    GatewayError,
    RateLimited,
    UpstreamAuthRequired,
    UpstreamEmpty,
    UpstreamFailed,
    UpstreamIncomplete,
)
from gpt_oss_proxy.quoting import quote
from gpt_oss_proxy.upstreams.chatkit.item import SEPARATOR, Item, Part, join_texts, pieces_of, widget_texts
from gpt_oss_proxy.upstreams.chatkit.text_delta import read_text_deltas, text_deltas
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.values import field, json_object, json_text, upstream_said, whole

_SIGN_IN = re.compile(r"\b(sign|log)[\s-]?in\b|captcha|verify (that )?you are|session (has )?expired", re.IGNORECASE)
_RATE_LIMIT = re.compile(r"rate.?limit|too many requests|quota|limit reached|message limit", re.IGNORECASE)


class ChatKitDecoder(Decoder):
    """Decodes one turn. It is complete when all its assistant messages are done and the body ends."""

    TEXT_MARK = b"text_delta"

    def __init__(self, max_event_bytes: int, *, tools_offered: bool = False) -> None:
        super().__init__(sse.Decoder(max_event_bytes))
        self._tools_offered = tools_offered
        self._items: dict[str, Item] = {}
        self._open_items: set[Item] = set()  # not yet done
        self._work: set[str] = set()  # ids of other items not yet done: reasoning, tasks
        self._latest: Item | None = None
        self._thoughts: dict[tuple[str, int], Part] = {}
        self._calls: set[str] = set()
        self._widgets: dict[str, str] = {}
        self._last_part: tuple[Item, int] | None = None
        self._speaking: Part | None = None  # the part that is being emitted, from this position on:
        self._since = 0
        self._growing: tuple[str, int] | None = None  # (item, part) of the last record's text, if it had any
        self._reasoned = False
        self._removed = False
        self._rewritten = False  # emitted text was replaced or removed
        self._danger = ""

    def more_text(self, record: bytes) -> str:
        """Return the text of a delta that continues the last one's part."""
        if not self._growing:
            return ""
        try:
            event = text_deltas.decode(record)
        except (ValueError, RecursionError):
            return ""
        update = event.update
        whose = event.item_id or event.itemId or "", update.content_index or update.contentIndex or 0
        return update.delta or "" if whose == self._growing else ""

    def decode_texts(self, records: list[bytes]) -> int:
        """Emit the text of these deltas if all of them are text deltas, as nearly all of an answer is."""
        runs = read_text_deltas(records)
        for item_id, index, text in runs:
            if text and self.on_text and self._growing == (item_id, index):
                self.on_text(text)
                self.say(text)
            else:
                part = self._add_text(item_id, index, text)
                # Only after text of its own can nothing come between a part and its continuation.
                self._growing, self.on_text = ((item_id, index), part.append) if text else (None, None)
        return len(records) if runs else 0

    def decode(self, record: bytes) -> None:
        """Emit what one event means; unknown ones are ignored."""
        self._growing = None
        if record == b"[DONE]":  # no known server sends it, and some clients skip it
            return
        event = json_object(record)
        name = _name(event)
        handle = _EVENTS.get(name)
        if handle:
            handle(self, event)
        elif not name and ("error" in event or "detail" in event):
            self._error(event)

    def finish(self) -> None:
        """Finish, unless the turn ended without an answer or in the middle of one."""
        if self._open_items:
            raise UpstreamIncomplete
        if self._rewritten:  # once, at the end: emitting the whole text after each change would be quadratic
            self._end_place()
            self.emit(TextReplaced.of(pieces_of(self._items.values())))
        if self._calls:
            self.emit(Finish("tool_calls"))
        elif self._removed:
            self.emit(Finish("content_filter"))
        elif self._items:
            self.emit(Finish("stop"))
        elif self._widgets:
            self.say(whole(join_texts(self._widgets.values())))
            self.emit(Finish("stop"))
        elif self._danger:
            raise UpstreamFailed(upstream_said(quote(self._danger)))
        elif self._reasoned:
            raise UpstreamIncomplete
        else:
            raise UpstreamEmpty

    # Events of the turn

    def _thread_created(self, event: dict[str, Any]) -> None:
        self.start(field(field(event, dict, "thread") or {}, str, "id") or "")

    def _notice(self, event: dict[str, Any]) -> None:
        if event.get("level") == "danger":
            self._danger = field(event, str, "message") or ""

    def _error(self, event: dict[str, Any]) -> None:
        if self._removed:  # a guardrail tripped: the error only explains the removal
            return
        raise _failure(_said(event), should_retry=False if event.get("allow_retry") is False else None)

    # Items: opened, updated, done

    def _item_added(self, event: dict[str, Any]) -> None:
        item = field(event, dict, "item") or {}
        if item.get("type") == "assistant_message":
            self._take_parts(item)
            return
        self._work.add(field(item, str, "id") or "")
        self.complete = False
        if item.get("type") == "workflow":
            self._take_workflow(item)

    def _item_updated(self, event: dict[str, Any]) -> None:
        update = field(event, dict, "update") or {}
        handle = _UPDATES.get(_name(update))
        if handle:
            handle(self, update, field(event, str, "item_id", "itemId") or "")

    def _item_done(self, event: dict[str, Any]) -> None:
        item = field(event, dict, "item") or {}
        handle = _ITEMS.get(field(item, str, "type") or "")
        if handle:
            handle(self, item)
        self._work_done(field(item, str, "id") or "")

    def _item_removed(self, event: dict[str, Any]) -> None:
        item_id = field(event, str, "item_id", "itemId") or ""
        self._widgets.pop(item_id, None)
        self._work_done(item_id)
        if item := self._items.pop(item_id, None):
            self._removed = True
            self._rewritten = self._rewritten or not item.is_empty
            if not self._items:
                self._last_part = None
            self._settle(item)

    def _item_replaced(self, event: dict[str, Any]) -> None:
        item = field(event, dict, "item") or {}
        known = self._items.get(field(item, str, "id") or "")
        if item.get("type") != "assistant_message" or known is None:
            self._item_done(event)
            return
        new = dict(_parts_of(item))
        if all(sent.begins(new.get(index, "")) for index, sent in known.parts.items()):
            self._message_done(item)
            return
        known.parts = {index: Part(text) for index, text in new.items()}
        self._rewritten = True
        self._settle(known)

    def _message_done(self, item: dict[str, Any]) -> None:
        self._settle(self._take_parts(item))

    def _tool_call(self, item: dict[str, Any]) -> None:
        if item.get("status", "pending") != "pending":
            return
        if not self._tools_offered:
            raise UpstreamFailed("The model's server asked for a tool that this request did not offer.")
        call_id = field(item, str, "call_id") or field(item, str, "id") or ""
        if call_id in self._calls:
            return
        arguments = json_text(item.get("arguments") or {})
        self.call(len(self._calls), call_id=call_id, name=field(item, str, "name") or "")
        self.call(len(self._calls), arguments=arguments)
        self._calls.add(call_id)
        self._look_whether_complete()

    def _generated_image(self, item: dict[str, Any]) -> None:
        if url := field(field(item, dict, "image") or {}, str, "url"):
            image = self._open(field(item, str, "id") or "")
            self._complete_part(image, 0, f"![generated image]({url})")
            self._settle(image)

    def _widget(self, item: dict[str, Any]) -> None:
        values = widget_texts(item.get("widget"))
        text = "\n".join(values) or field(item, str, "copy_text") or ""
        if not self._last_part:
            failure = _failure(text)
            if not isinstance(failure, UpstreamFailed) or isinstance(failure, UpstreamAuthRequired):
                raise failure
        self._widgets[field(item, str, "id") or ""] = field(item, str, "copy_text") or text

    # Text

    def _text_delta(self, update: dict[str, Any], item_id: str) -> None:
        self._add_text(item_id, _index(update), field(update, str, "delta") or "")

    def _add_text(self, item_id: str, index: int, delta: str) -> Part:
        item = self._open(item_id)
        sent = item.parts.get(index)
        if sent is None:
            sent = item.parts[index] = Part()
        if delta:
            sent.append(delta)
            self._say(item, index, delta)
        return sent

    def _bare_text_delta(self, event: dict[str, Any]) -> None:
        self._text_delta(event, field(event, str, "item_id", "itemId") or "")

    def _part(self, update: dict[str, Any], item_id: str) -> None:
        text = field(field(update, dict, "content") or {}, str, "text") or ""
        self._complete_part(self._open(item_id), _index(update), text)

    def _take_parts(self, item: dict[str, Any]) -> Item:
        known = self._open(field(item, str, "id") or "")
        for index, text in _parts_of(item):
            self._complete_part(known, index, text)
        return known

    def _complete_part(self, item: Item, index: int, text: str) -> None:
        """Emit the rest of the whole `text`; nothing if the text is not a continuation of what was emitted."""
        sent = item.parts.setdefault(index, Part())
        if len(text) > sent.length and sent.begins(text):
            rest = text[sent.length :]
            sent.append(rest)
            self._say(item, index, rest)

    def _say(self, item: Item, index: int, text: str) -> None:
        part = item.parts[index]
        if self._speaking is not part:
            self._end_place()
            last = self._last_part
            if last and (last[0] is not item or last[1] != index):
                self.say(SEPARATOR)
            self._last_part = item, index
            self._speaking, self._since = part, self.position
        self.say(text)

    def _end_place(self) -> None:
        """Store the range of the text that was emitted last."""
        if self._speaking:
            self._speaking.places.append((self._since, self.position))

    def _open(self, item_id: str) -> Item:
        """Return the item with this id, opened if it is new.

        No public client of the older dialect reads the ids of updates, so they may be missing: an update without an id
        belongs to the open item, and the id in the item's end is then taken as that item's id.
        """
        item = self._items.get(item_id)
        if item:
            return item
        if not item_id and self._latest and self._latest in self._open_items:
            return self._latest
        if self._items.get("") in self._open_items:
            item = self._items[item_id] = self._items.pop("")
            return item
        item = self._latest = self._items[item_id] = Item()
        self._open_items.add(item)
        self._removed = self.complete = False
        return item

    def _settle(self, item: Item) -> None:
        """Close an item. With none open the turn may be complete; only the end of the body decides."""
        self._open_items.discard(item)
        self._look_whether_complete()

    def _work_done(self, item_id: str) -> None:
        if item_id in self._work:
            self._work.discard(item_id)
            if self._items or self._calls:
                self._look_whether_complete()

    def _look_whether_complete(self) -> None:
        self.complete = not self._open_items and not self._work

    # Reasoning

    def _task(self, update: dict[str, Any], item_id: str) -> None:
        self._think(item_id, field(update, int, "task_index", "taskIndex") or 0, field(update, dict, "task") or {})

    def _take_workflow(self, item: dict[str, Any]) -> None:
        workflow = field(item, dict, "workflow") or {}
        for index, task in enumerate(field(workflow, list, "tasks") or []):
            if isinstance(task, dict):
                self._think(field(item, str, "id") or "", index, task)

    def _think(self, item_id: str, index: int, task: dict[str, Any]) -> None:
        """Continue the reasoning: `content` is the whole thought so far, not a delta."""
        content = field(task, str, "content") or ""
        if task.get("type") != "thought" or not content:
            return
        key = (item_id, index)
        sent = self._thoughts.get(key)
        if sent and sent.begins(content):
            rest = content[sent.length :]
            sent.append(rest)
            self._reason(rest, new=False)
        else:  # new or rewritten: what was emitted stays, the new wording follows
            self._thoughts[key] = Part()
            self._thoughts[key].append(content)
            self._reason(content, new=True)

    def _chain_of_thought(self, update: dict[str, Any], item_id: str) -> None:  # noqa: ARG002 - a row of _UPDATES
        entry = field(update, dict, "entry") or {}
        if entry.get("type") == "thought":
            self._reason(field(entry, str, "content") or field(entry, str, "summary") or "", new=True)

    def _reason(self, text: str, *, new: bool) -> None:
        if text:
            self.think(SEPARATOR + text if new and self._reasoned else text)
            self._reasoned = True


def _parts_of(item: dict[str, Any]) -> list[tuple[int, str]]:
    content = field(item, list, "content") or []
    return [(index, field(part, str, "text") or "") for index, part in enumerate(content) if isinstance(part, dict)]


def _said(event: dict[str, Any]) -> str:
    """Return an error's text; its position differs, and neither dialect specifies it."""
    for key in ("message", "detail", "error"):
        value = event.get(key)
        if isinstance(value, dict):
            value = value.get("message")
        if isinstance(value, str):
            return value
    return ""


def _failure(said: str, *, should_retry: bool | None = None) -> GatewayError:
    if _SIGN_IN.search(said):
        return UpstreamAuthRequired()
    error = RateLimited if _RATE_LIMIT.search(said) else UpstreamFailed
    return error(upstream_said(quote(said)), should_retry=should_retry)


def _name(event: dict[str, Any]) -> str:
    """Return the event type in one spelling for both dialects: `thread.item_done` and `thread.item.done` are equal."""
    name = event.get("type")
    return _in_one_spelling(name if type(name) is str else field(event, str, "type") or "")


@lru_cache(256)
def _in_one_spelling(name: str) -> str:
    return name.lower().replace("_", ".")


def _index(update: dict[str, Any]) -> int:
    return field(update, int, "content_index", "contentIndex") or 0


_EVENTS: dict[str, Callable[[ChatKitDecoder, dict[str, Any]], None]] = {
    "thread.created": ChatKitDecoder._thread_created,
    "thread.item.added": ChatKitDecoder._item_added,
    "thread.item.updated": ChatKitDecoder._item_updated,
    "thread.item.done": ChatKitDecoder._item_done,
    "thread.item.removed": ChatKitDecoder._item_removed,
    "thread.item.replaced": ChatKitDecoder._item_replaced,
    "notice": ChatKitDecoder._notice,
    "error": ChatKitDecoder._error,
    # One public client reads the delta without its wrapper.
    "assistant.message.content.part.text.delta": ChatKitDecoder._bare_text_delta,
}
_UPDATES: dict[str, Callable[[ChatKitDecoder, dict[str, Any], str], None]] = {
    "assistant.message.content.part.added": ChatKitDecoder._part,
    "assistant.message.content.part.text.delta": ChatKitDecoder._text_delta,
    "assistant.message.content.part.done": ChatKitDecoder._part,
    "workflow.task.added": ChatKitDecoder._task,
    "workflow.task.updated": ChatKitDecoder._task,
    "cot.entry.added": ChatKitDecoder._chain_of_thought,
}
_ITEMS: dict[str, Callable[[ChatKitDecoder, dict[str, Any]], None]] = {
    "assistant_message": ChatKitDecoder._message_done,
    "workflow": ChatKitDecoder._take_workflow,
    "client_tool_call": ChatKitDecoder._tool_call,
    "generated_image": ChatKitDecoder._generated_image,
    "widget": ChatKitDecoder._widget,
}
