"""All forms in which servers send `content`: text, a part, or a list of parts, some of them thoughts or images."""

from collections.abc import Iterator
from typing import Any, Literal

from gpt_oss_proxy.errors import UpstreamProtocolError

Piece = tuple[Literal["text", "reasoning"], str] | tuple[Literal["images", "content_parts"], dict[str, Any]]
_TEXTS = frozenset({"text", "output_text", "refusal", ""})
_THOUGHTS = frozenset({"thinking", "reasoning", "reasoning_text", "thought", "summary_text"})
_IMAGES = frozenset({"image_url", "image", "output_image", "input_image"})
_KEPT = ("signature", "annotations", "encrypted_content")  # fields beside a text that servers need back or clients show
_DEEPEST = 8


def read_content(content: Any) -> Iterator[Piece]:
    """Yield text and reasoning in their order, and other parts with the name of the field that keeps them.

    Raises UpstreamProtocolError for invalid content.
    """
    return _read(content, "text", _DEEPEST)


def thoughts_of(details: Any) -> str:
    """Return the text of `reasoning_details`, OpenRouter's list of a model's thoughts."""
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
    part_type = part.get("type")
    named = part_type if isinstance(part_type, str) else ""
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
