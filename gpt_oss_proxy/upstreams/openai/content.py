"""All forms that servers give `content`: text, a part, a list of parts, of which some are thoughts or images."""

from collections.abc import Iterator
from typing import Any, Literal

from gpt_oss_proxy.errors import UpstreamProtocolError

Piece = tuple[Literal["text", "reasoning"], str] | tuple[Literal["images", "content_parts"], dict[str, Any]]
_TEXTS = frozenset({"text", "output_text", "refusal", ""})
_THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text", "thought", "summary_text"})
_IMAGES = frozenset({"image_url", "image", "output_image", "input_image"})
_KEPT = ("signature", "annotations", "encrypted_content")  # what servers want back, or clients show, beside a text
_DEEPEST = 8


def read_content(content: Any) -> Iterator[Piece]:
    """Yield text and reasoning in their order, and parts that are neither, or more, with the field that keeps them.

    Raises UpstreamProtocolError for what is no content.
    """
    return _read(content, "text", _DEEPEST)


def thoughts_of(details: Any) -> str:
    """Return the text of `reasoning_details`, OpenRouter's list of what a model thought."""
    items = details if isinstance(details, list) else []
    found = [item.get("text") or item.get("summary") for item in items if isinstance(item, dict)]
    return "".join(text for text in found if isinstance(text, str))


def _read(content: Any, kind: Literal["text", "reasoning"], depth: int) -> Iterator[Piece]:
    if not depth:
        raise UpstreamProtocolError
    match content:
        case None | "":
            return
        case str():
            yield kind, content
        case dict():
            yield from _read_part(content, kind, depth)
        case list():
            for part in content:
                yield from _read(part, kind, depth - 1)
        case _:
            raise UpstreamProtocolError


def _read_part(part: dict[str, Any], kind: Literal["text", "reasoning"], depth: int) -> Iterator[Piece]:
    told = part.get("type")
    named = told if isinstance(told, str) else ""
    names = (named, "text", "value", "content", "summary")
    inner = next((part[name] for name in names if part.get(name) is not None), None)
    if named in _IMAGES:
        yield "images", part
    elif named not in _TEXTS | _THOUGHTS or (inner is None and not named and part):
        yield "content_parts", part
    else:
        yield from _read(inner, "reasoning" if named in _THOUGHTS else kind, depth - 1)
        if any(part.get(name) for name in _KEPT):
            yield "content_parts", part
