"""Chunks of a usual stream, and what becomes of it."""

from typing import Any

from tests.upstreams.decoding import Outcome


def chunk(*choices: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": list(choices), **rest}


def delta(finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return chunk({"index": 0, "delta": fields, "finish_reason": finish_reason})


DONE = b"data: [DONE]\n\n"
STOP = delta("stop")


def stopped(text: str = "", **rest: Any) -> Outcome:
    return Outcome(**{"reference": "chatcmpl-1", "text": text, "finish": "stop", **rest})
