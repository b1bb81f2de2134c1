"""The app behind the ChatKit servers: it answers as a directive in the user's text says, on PyPI openai-chatkit 1.6.5.

Source: chatkit/server.py and chatkit/store.py of that package; README.md beside this file lists the directives.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NoReturn

from chatkit import types as ck
from chatkit.errors import CustomStreamError, ErrorCode, StreamError
from chatkit.server import ChatKitServer
from chatkit.store import NotFoundError, Store
from chatkit.widgets import Card, Text
from scripted_model import Step, answer, read_text

NAMES = "echo|recall|error|drop|stall|status|signin|removed|onlydone|twomessages|tool|image|model"
DIRECTIVE = re.compile(rf"::({NAMES})((?:\s(?:(?!::).)*)?)::")
OPTION = re.compile(r"([a-z_]+)=(.*?)(?=\s+[a-z_]+=|\s*$)")
CUTTING = ("error", "drop", "stall")
# Those of the recordings, in turn.
THOUGHTS = ("The user wants an answer.", "Let me check the facts — **carefully**.", "Now I can write it.")


@dataclass(frozen=True)
class Directive:
    """What a user's text asks of this server: a name, its options, and the text to give back."""

    name: str
    options: dict[str, str]
    text: str

    def number(self, key: str, default: int = 0) -> int:
        return int(self.options.get(key, default))


def parse_directive(text: str) -> Directive:
    """Return the last directive of the text; a text without one is echoed whole."""
    # The last one, because a gateway may fold a whole conversation into one text.
    found = list(DIRECTIVE.finditer(text))
    if not found:
        return Directive("echo", {}, text)
    return Directive(found[-1][1], dict(OPTION.findall(found[-1][2])), text[found[-1].end() :].lstrip())


def split_words(text: str) -> list[str]:
    """Return the words of a text, each with the space before it, so that joining them gives the text back."""
    return re.findall(r"\s*\S+|\s+", text)


def words_of(directive: Directive) -> list[str]:
    count = directive.number("words") or (0 if directive.text else directive.number("after"))
    return split_words(" ".join(f"w{n}" for n in range(count)) if count else directive.text)


@dataclass
class Turn:
    """One HTTP request, handed through the package to the app."""

    user_id: str
    headers: dict[str, str]
    dropped: bool = False  # set by the app: break the connection instead of ending the body


@dataclass
class StoredThread:
    owner: str
    metadata: ck.ThreadMetadata
    items: list[ck.ThreadItem] = field(default_factory=list)


class MemoryStore(Store[Turn]):
    """Threads in memory, each owned by a user_id cookie. A thread of another user is not found."""

    def __init__(self) -> None:
        self.threads: dict[str, StoredThread] = {}

    def _owned(self, thread_id: str, context: Turn) -> StoredThread:
        thread = self.threads.get(thread_id)
        if thread is None or thread.owner != context.user_id:
            raise NotFoundError(f"no thread {thread_id}")
        return thread

    def _page(self, values: list[Any], after: str | None, limit: int, order: str) -> ck.Page[Any]:
        ordered = values if order == "asc" else values[::-1]
        start = next((n + 1 for n, value in enumerate(ordered) if value.id == after), 0)
        data, rest = ordered[start : start + limit], ordered[start + limit :]
        return ck.Page(data=data, has_more=bool(rest), after=data[-1].id if rest else None)

    async def load_thread(self, thread_id: str, context: Turn) -> ck.ThreadMetadata:
        return self._owned(thread_id, context).metadata.model_copy(deep=True)

    async def save_thread(self, thread: ck.ThreadMetadata, context: Turn) -> None:
        self.threads.setdefault(thread.id, StoredThread(context.user_id, thread)).metadata = thread

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: Turn
    ) -> ck.Page[ck.ThreadMetadata]:
        mine = [thread.metadata for thread in self.threads.values() if thread.owner == context.user_id]
        return self._page(mine, after, limit, order)

    async def delete_thread(self, thread_id: str, context: Turn) -> None:
        del self.threads[self._owned(thread_id, context).metadata.id]

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Turn
    ) -> ck.Page[ck.ThreadItem]:
        return self._page(self._owned(thread_id, context).items, after, limit, order)

    async def load_item(self, thread_id: str, item_id: str, context: Turn) -> ck.ThreadItem:
        for item in self._owned(thread_id, context).items:
            if item.id == item_id:
                return item
        raise NotFoundError(f"no item {item_id}")

    async def add_thread_item(self, thread_id: str, item: ck.ThreadItem, context: Turn) -> None:
        self._owned(thread_id, context).items.append(item)

    async def save_item(self, thread_id: str, item: ck.ThreadItem, context: Turn) -> None:
        items = self._owned(thread_id, context).items
        items[:] = [item if old.id == item.id else old for old in items]

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Turn) -> None:
        items = self._owned(thread_id, context).items
        items[:] = [item for item in items if item.id != item_id]

    # Uploads are out of scope: with no attachment store, the package asks for none of these unless a request names one.

    async def save_attachment(self, attachment: ck.Attachment, context: Turn) -> None:
        raise NotImplementedError

    async def load_attachment(self, attachment_id: str, context: Turn) -> ck.Attachment:
        raise NotFoundError(f"no attachment {attachment_id}")

    async def delete_attachment(self, attachment_id: str, context: Turn) -> None:
        raise NotFoundError(f"no attachment {attachment_id}")


class ScriptedServer(ChatKitServer[Turn]):
    """Answers as the directive says. The package makes the wire events, their order and the errors."""

    async def respond(
        self, thread: ck.ThreadMetadata, input_user_message: ck.UserMessageItem | None, context: Turn
    ) -> AsyncIterator[ck.ThreadStreamEvent]:
        # No message: the client has handed in the result of its tool call.
        content = input_user_message.content if input_user_message else []
        text = "\n".join(part.text for part in content) if input_user_message else "The tool has answered."
        directive = parse_directive(text)
        if directive.name in ("signin", "tool", "image", "onlydone"):
            yield ck.ThreadItemDoneEvent(item=self._whole_item(directive, thread, context))
            return
        if directive.name == "model":
            async for event in self._play(answer(read_text(text)), thread, context):
                yield event
            return

        gap_seconds = directive.number("gap") / 1000
        messages = [words_of(directive)]
        if directive.name == "recall":
            messages = [[await self._recall(text, thread, input_user_message, context)]]
        if directive.name == "twomessages":
            first, _, second = directive.text.partition("|")
            messages = [split_words(first.rstrip()), split_words(second.strip() or "And one more thing.")]

        async for event in self._think(directive.number("think"), gap_seconds, thread, context):
            yield event
        for words in messages:
            cut = directive.number("after") if directive.name in CUTTING else len(words)
            message = ck.AssistantMessageItem(**self._new("message", thread, context), content=[])
            if cut or directive.name not in CUTTING:
                yield ck.ThreadItemAddedEvent(item=message)
                yield _updated(message, ck.AssistantMessageContentPartAdded(content_index=0, content=_output("")))
            for word in words[:cut]:
                yield _updated(message, ck.AssistantMessageContentPartTextDelta(content_index=0, delta=word))
                await asyncio.sleep(gap_seconds)  # also with 0: other requests get their turn
            match directive.name:
                case "error":
                    _fail(directive)
                case "stall":
                    await asyncio.Event().wait()
                case "drop":
                    context.dropped = directive.options.get("clean") != "1"
                    return
                case "removed":
                    yield ck.ThreadItemRemovedEvent(item_id=message.id)
                    if "message" in directive.options:
                        _fail(directive)
                    return
            whole = _output("".join(words))
            yield _updated(message, ck.AssistantMessageContentPartDone(content_index=0, content=whole))
            yield ck.ThreadItemDoneEvent(item=message.model_copy(update={"content": [whole]}))

    async def _play(
        self, steps: Iterator[Step], thread: ck.ThreadMetadata, context: Turn
    ) -> AsyncIterator[ck.ThreadStreamEvent]:
        """Stream what the scripted model says: its thought, then one message."""
        message = ck.AssistantMessageItem(**self._new("message", thread, context), content=[])
        words: list[str] = []
        for step in steps:
            if "thought" in step:
                yield self._thought(step["thought"], thread, context)
            if "text" in step:
                if not words:
                    yield ck.ThreadItemAddedEvent(item=message)
                    part = ck.AssistantMessageContentPartAdded(content_index=0, content=_output(""))
                    yield _updated(message, part)
                words.append(step["text"])
                yield _updated(message, ck.AssistantMessageContentPartTextDelta(content_index=0, delta=step["text"]))
            if "error" in step:
                raise CustomStreamError(step["error"], allow_retry=False)
            if "stall" in step:
                await asyncio.Event().wait()
            await asyncio.sleep(step.get("wait", 0) / 1000)
        whole = _output("".join(words))
        yield _updated(message, ck.AssistantMessageContentPartDone(content_index=0, content=whole))
        yield ck.ThreadItemDoneEvent(item=message.model_copy(update={"content": [whole]}))

    def _thought(self, text: str, thread: ck.ThreadMetadata, context: Turn) -> ck.ThreadItemDoneEvent:
        thoughts = [ck.ThoughtTask(content=text)]
        done = ck.Workflow(type="reasoning", tasks=thoughts, summary=ck.DurationSummary(duration=0))
        return ck.ThreadItemDoneEvent(item=ck.WorkflowItem(**self._new("workflow", thread, context), workflow=done))

    async def _think(
        self, count: int, gap_seconds: float, thread: ck.ThreadMetadata, context: Turn
    ) -> AsyncIterator[ck.ThreadStreamEvent]:
        """Stream thoughts as the package's Agents SDK converter does: the first grows, the others come whole."""
        if not count:
            return
        workflow = ck.Workflow(type="reasoning", tasks=[])
        item = ck.WorkflowItem(**self._new("workflow", thread, context), workflow=workflow)
        yield ck.ThreadItemAddedEvent(item=item)
        thoughts = [ck.ThoughtTask(content=THOUGHTS[n % len(THOUGHTS)]) for n in range(count)]
        grown = ""
        for n, word in enumerate(split_words(thoughts[0].content)):
            grown += word
            update = ck.WorkflowTaskUpdated if n else ck.WorkflowTaskAdded
            yield _updated(item, update(task_index=0, task=ck.ThoughtTask(content=grown)))
            await asyncio.sleep(gap_seconds)
        yield _updated(item, ck.WorkflowTaskUpdated(task_index=0, task=thoughts[0]))
        for n, thought in enumerate(thoughts[1:], start=1):
            yield _updated(item, ck.WorkflowTaskAdded(task_index=n, task=thought))
            await asyncio.sleep(gap_seconds)
        done = ck.Workflow(type="reasoning", tasks=thoughts, summary=ck.DurationSummary(duration=0))
        yield ck.ThreadItemDoneEvent(item=item.model_copy(update={"workflow": done}))

    async def _recall(
        self, text: str, thread: ck.ThreadMetadata, message: ck.UserMessageItem | None, context: Turn
    ) -> str:
        page = await self.store.load_thread_items(thread.id, None, 10_000, "asc", context)
        model = message.inference_options.model if message else None
        given = {"text": text, "model": model, "thread_items": len(page.data), "headers": context.headers}
        return json.dumps(given, ensure_ascii=False)

    def _whole_item(self, directive: Directive, thread: ck.ThreadMetadata, context: Turn) -> ck.ThreadItem:
        new = self._new("tool_call" if directive.name == "tool" else "message", thread, context)
        match directive.name:
            case "signin":
                lines = ("Sign in to continue", "Sign in with Hugging Face to start chatting with gpt-oss")
                return ck.WidgetItem(**new, widget=Card(children=[Text(value=line) for line in lines]))
            case "tool":
                return ck.ClientToolCallItem(**new, call_id="call_1", name="get_weather", arguments={"city": "Zürich"})
            case "image":
                image = ck.GeneratedImage(id="img_1", url="data:image/png;base64,iVBORw0KGgo=")
                return ck.GeneratedImageItem(**new, image=image)
        return ck.AssistantMessageItem(**new, content=[_output("".join(words_of(directive)))])

    def _new(
        self, kind: Literal["message", "tool_call", "workflow"], thread: ck.ThreadMetadata, context: Turn
    ) -> dict[str, Any]:
        item_id = self.store.generate_item_id(kind, thread, context)
        return {"id": item_id, "thread_id": thread.id, "created_at": datetime.now()}


def _updated(item: ck.ThreadItem, update: ck.ThreadItemUpdate) -> ck.ThreadItemUpdatedEvent:
    return ck.ThreadItemUpdatedEvent(item_id=item.id, update=update)


def _output(text: str) -> ck.AssistantMessageContent:
    return ck.AssistantMessageContent(text=text)


def _fail(directive: Directive) -> NoReturn:
    if message := directive.options.get("message"):
        raise CustomStreamError(message, allow_retry=directive.options.get("retry") == "1")
    raise StreamError(ErrorCode.STREAM_ERROR)
