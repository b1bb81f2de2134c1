"""The AI SDK's wire protocols, like the template's /api/chat: reads request bodies, writes both stream forms.

Sources: Markeljan/minimal-chatbot app/(chat)/api/chat/route.ts on ai 4.1.9 (refusals, `2:` first, data stream v1);
ai 5.0.277 (UI message stream; usage in `messageMetadata`, as an app may add it). Recorded in aisdk-v1 and aisdk-ui.

The form: a body with a message that has `parts` and no `content` comes from a v5 client and gets the UI message stream;
any other body gets data stream v1. (Late v4 clients send both keys, and read v1.)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from .conversation import Event, Failure, Finish, Message, Question, Refused, TextDelta

MODELS = ("gpt-4o-mini", "gpt-4o")
_ROLES = ("system", "user", "assistant")
_MASKED = "An error occurred."
_IMAGE = "[an image was attached]"
_FILE = "[a file was attached]"
_PLAIN = "text/plain;charset=UTF-8"


class _Part(Struct, frozen=True, rename="camel"):
    type: str
    text: str | None = None
    media_type: str | None = None
    mime_type: str | None = None


class _Attachment(Struct, frozen=True, rename="camel"):
    content_type: str = ""


class _Message(Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None
    parts: list[_Part] | None = None
    experimental_attachments: list[_Attachment] = []


class _Model(Struct, frozen=True):
    modelId: str | None = None


class _Body(Struct, frozen=True):
    messages: list[_Message]


@dataclass(frozen=True)
class AiSdkRequest:
    """A question, and the stream form that its client reads.

    `unreadable` is True if the SDK detects the fault only after the stream has begun: a system message as an array.
    """

    question: Question
    ui_stream: bool
    unreadable: bool


def parse(body: bytes) -> AiSdkRequest:
    """Return the request. Raises Refused in the template's order: 500 no JSON, 404 model, 500 messages, 400 no user."""
    try:
        model = msgspec.json.decode(body, type=_Model).modelId
        if model not in MODELS:
            raise Refused("404 Not Found", b"Model not found", _PLAIN)
        messages = msgspec.json.decode(body, type=_Body).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _failed() from error
    if any(message.role not in _ROLES or _content(message) is None for message in messages):
        raise _failed()
    if not any(message.role == "user" for message in messages):
        raise Refused("400 Bad Request", b"No user message found", _PLAIN)
    return AiSdkRequest(
        question=Question(model, tuple(Message(message.role, _text(message)) for message in messages)),
        ui_stream=any(message.content is None for message in messages),
        unreadable=any(message.role == "system" and isinstance(message.content, list) for message in messages),
    )


def _failed() -> Refused:
    return Refused("500 Internal Server Error", b"Internal Server Error", "text/plain")


def _content(message: _Message) -> str | list[_Part] | None:
    return message.parts if message.content is None else message.content


def _text(message: _Message) -> str:
    """Return the text for a model that reads only text; other parts are replaced by their names."""
    content = _content(message)
    lines = [content] if isinstance(content, str) else [_part_text(part) for part in content or ()]
    lines += [_attached(attachment.content_type) for attachment in message.experimental_attachments]
    return "\n".join(line for line in lines if line is not None)


def _part_text(part: _Part) -> str | None:
    if part.type == "text":
        return part.text
    if part.type in ("image", "image_url"):
        return _IMAGE
    return _attached(part.media_type or part.mime_type or "") if part.type == "file" else None


def _attached(media_type: str) -> str:
    return _IMAGE if media_type.startswith("image/") else _FILE


class DataStreamEncoder:
    """Data stream v1: one part per line, `CODE:JSON`. Order: `2 f 0* e d`, or `2 3` if it fails at once."""

    headers = (("content-type", "text/plain; charset=utf-8"), ("x-vercel-ai-data-stream", "v1"))

    def __init__(self, user_message_id: str, message_id: str) -> None:
        self._user_message_id = user_message_id
        self._message_id = message_id
        self._begun = False

    def opening(self) -> bytes:
        """Return the line that the template sends before it asks the model."""
        return _line("2", [{"type": "user-message-id", "content": self._user_message_id}])

    def encode(self, event: Event) -> bytes:
        """Return the lines of one event of the answer."""
        if isinstance(event, Failure):
            error = _line("3", event.message or _MASKED)
            return error + self._finish("error", 0, 0) if self._begun else error
        step = b"" if self._begun else _line("f", {"messageId": self._message_id})
        self._begun = True
        if isinstance(event, TextDelta):
            return step + _line("0", event.text)
        return step + self._finish(event.reason, event.prompt_tokens, event.completion_tokens)

    def _finish(self, reason: str, prompt_tokens: int, completion_tokens: int) -> bytes:
        usage = {"promptTokens": prompt_tokens, "completionTokens": completion_tokens}
        finish = {"finishReason": reason, "usage": usage}
        return _line("e", finish | {"isContinued": False}) + _line("d", finish)


class UiMessageEncoder:
    """UI message stream: `start start-step text-start text-delta* text-end finish-step finish [DONE]`."""

    headers = (
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-vercel-ai-ui-message-stream", "v1"),
        ("x-accel-buffering", "no"),
    )

    def __init__(self) -> None:
        self._step = False
        self._text = False

    def opening(self) -> bytes:
        """Return the event that the SDK sends before the model answers."""
        return _event({"type": "start"})

    def encode(self, event: Event) -> bytes:
        """Return the wire events for one event of the answer."""
        if isinstance(event, TextDelta):
            opened = self._open_step() + self._open_text()
            return opened + _event({"type": "text-delta", "id": "t0", "delta": event.text})
        if isinstance(event, Finish):
            return self._open_step() + self._close_text() + _finish_message(event) + _DONE
        error = self._close_text() + _event({"type": "error", "errorText": event.message or _MASKED})
        return error + (_STEP_END + _event({"type": "finish", "finishReason": "error"}) if self._step else b"") + _DONE

    def _open_step(self) -> bytes:
        if self._step:
            return b""
        self._step = True
        return _event({"type": "start-step"})

    def _open_text(self) -> bytes:
        if self._text:
            return b""
        self._text = True
        return _event({"type": "text-start", "id": "t0"})

    def _close_text(self) -> bytes:
        return _event({"type": "text-end", "id": "t0"}) if self._text else b""


def _finish_message(finish: Finish) -> bytes:
    usage = {
        "inputTokens": finish.prompt_tokens,
        "outputTokens": finish.completion_tokens,
        "totalTokens": finish.prompt_tokens + finish.completion_tokens,
    }
    message = {"type": "finish", "finishReason": finish.reason, "messageMetadata": {"totalUsage": usage}}
    return _STEP_END + _event(message)


def _line(code: str, value: object) -> bytes:
    return b"%b:%b\n" % (code.encode(), msgspec.json.encode(value))


def _event(value: Mapping[str, object]) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)


_STEP_END = _event({"type": "finish-step"})
_DONE = b"data: [DONE]\n\n"
