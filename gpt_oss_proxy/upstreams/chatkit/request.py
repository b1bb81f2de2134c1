"""The request for a ChatKit server: a new thread with the whole conversation in one message, in either dialect."""

from typing import Any

from gpt_oss_proxy.chat.request import ChatRequest, Image, Text
from gpt_oss_proxy.config.settings import ChatKitDialect
from gpt_oss_proxy.emulation.fold import fold
from gpt_oss_proxy.errors import InvalidField

# gpt-oss has three efforts.
_EFFORTS = {
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


def build_body(request: ChatRequest, dialect: ChatKitDialect) -> dict[str, Any]:
    """Return the JSON object that creates a thread with the folded conversation. Raises InvalidField for an image."""
    _refuse_what_is_no_text(request)
    text = fold(request.messages, request.marker)
    content = [{"type": "input_text", "text": text}]
    if dialect == "older":
        return {
            "op": "threads.create",
            "params": {"input": {"text": text, "content": content, "quoted_text": "", "attachments": []}},
        }
    return {
        "type": "threads.create",
        "params": {
            # The package answers 500 without attachments and inference_options.
            "input": {"content": content, "attachments": [], "inference_options": {"model": request.model}},
        },
    }


def build_headers(request: ChatRequest, dialect: ChatKitDialect, effort_default: str) -> dict[str, str]:
    """Return the request's headers; the older dialect names model and effort here."""
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if dialect == "older":
        effort = request.effort or effort_default
        headers["x-selected-model"] = request.model
        headers["x-reasoning-effort"] = _EFFORTS[effort]
        headers["x-show-reasoning"] = "false" if effort == "none" else "true"
    return headers


def _refuse_what_is_no_text(request: ChatRequest) -> None:
    for index, message in enumerate(request.messages, -request.instructions):
        for position, part in enumerate(message.parts):
            if isinstance(part, Text) or not (isinstance(part, Image) or part.is_known):
                continue
            path = ("messages", index, "content", position)
            if isinstance(part, Image):
                text, code = "This model takes no images. Ask gpt-4o or gpt-4o-mini.", "unsupported_image"
            else:
                text, code = f"This model takes no {part.kind} parts, only text.", "unsupported_content"
            raise InvalidField(path, text, code=code, is_named=False)
