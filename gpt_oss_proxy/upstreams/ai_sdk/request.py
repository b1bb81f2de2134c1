"""The request for an AI SDK endpoint: a list of messages with the roles system, user and assistant."""

import mimetypes
import uuid
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Text
from gpt_oss_proxy.config.settings import ImageFormat, MessageFormat
from gpt_oss_proxy.emulation.fold import fold_turn, marker_number
from gpt_oss_proxy.errors import InvalidField

Wire = dict[str, Any]

# The endpoint refuses developer and tool messages with a bare HTTP 500.
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user"}


def build_body(request: ChatRequest, *, chat_id: str, image_format: ImageFormat, message_format: MessageFormat) -> Wire:
    """Return the JSON object of the request. Raises InvalidField for a part that is neither text nor image."""
    _refuse_opaque_parts(request)
    turns = _with_a_user(request.messages)
    number = request.marker or marker_number(turns)
    if message_format == "parts":
        messages = [_ui_message(message, number) for message in turns]
        return {"id": chat_id, "modelId": request.model, "messages": messages, "trigger": "submit-message"}
    messages = [_message(message, number, image_format) for message in turns]
    return {"id": chat_id, "modelId": request.model, "messages": messages}


def _with_a_user(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages; if only the system speaks, its last one as a user's: the endpoint needs a user message."""
    if any(message.role not in ("system", "developer") for message in messages):
        return messages
    return (*messages[:-1], msgspec.structs.replace(messages[-1], role="user"))


def _message(message: Message, number: int, image_format: ImageFormat) -> Wire:
    """Return a message for AI SDK 4: `content` is a string, or a list of parts if images are among the text."""
    wire: Wire = {"role": _ROLES[message.role], "content": fold_turn(message, number)}
    images = [part for part in message.parts if isinstance(part, Image)]
    if not images:
        return wire
    if image_format == "attachments":
        wire["experimental_attachments"] = [{"contentType": _media_type(part), "url": part.url} for part in images]
    else:
        wire["content"] = [_part(part, image_format) for part in message.parts if isinstance(part, Text | Image)]
    return wire


def _part(part: Any, image_format: ImageFormat) -> Wire:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    image_url = {"url": part.url, **({"detail": part.detail} if part.detail else {})}
    if image_format == "image_url":
        return {"type": "image_url", "image_url": image_url}
    # The SDK reads `image`, and rejects a part of the type image_url; other servers at such a URL read `image_url`.
    return {"type": "image", "image": part.url, "image_url": image_url}


def _ui_message(message: Message, number: int) -> Wire:
    """Return a message for AI SDK 5 and later: a UIMessage, which has `parts` and no `content`."""
    if any(isinstance(part, Image) for part in message.parts):
        parts = [_ui_part(part) for part in message.parts if isinstance(part, Text | Image)]
    else:
        parts = [{"type": "text", "text": fold_turn(message, number)}]
    return {"id": str(uuid.uuid4()), "role": _ROLES[message.role], "parts": parts}


def _ui_part(part: Any) -> Wire:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "file", "mediaType": _media_type(part), "url": part.url}


def _media_type(image: Image) -> str:
    """Return the image's type from its data URI or file name; the SDK requires one that begins with `image/`."""
    if image.url.startswith("data:"):
        named = image.url[5:].split(",", 1)[0].split(";", 1)[0].lower()
    else:
        named = mimetypes.guess_type(urlsplit(image.url).path)[0] or ""
    return named if named.startswith("image/") else "image/png"


def _refuse_opaque_parts(request: ChatRequest) -> None:
    for index, message in enumerate(request.messages, -request.instructions):
        for position, part in enumerate(message.parts):
            path = ("messages", index, "content", position)
            if not isinstance(part, Text | Image):
                if not part.is_known:
                    continue
                text = f"This model takes no {part.kind} parts, only text and images."
                raise InvalidField(path, text, code="unsupported_content", is_named=False)
            if isinstance(part, Image) and message.role != "user":
                text = "Only user messages can hold images."
                raise InvalidField(path, text, code="unsupported_image", is_named=False)
