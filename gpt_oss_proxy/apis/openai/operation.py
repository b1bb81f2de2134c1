"""Operations that answer with choices, in the OpenAPI document: what chat completions and legacy completions share."""

from gpt_oss_proxy.apis.document import Json, answer, errors_of, reference
from gpt_oss_proxy.config.settings import EFFORTS

ABOUT = """Fields without effect on the model's upstream are named in the header `x-ignored-params`; what would change
the shape of the answer and cannot be given is a 400 with code `unsupported_parameter`. The body is read as JSON
whatever its Content-Type says, unless the request has an `Origin`.

A stream (`stream: true`) begins with a 200 only when the upstream has accepted, or when a first keep-alive fell due.
What fails later comes as an event with an error object, and no `finish_reason`. With `Accept: text/plain` a stream is
the bare text of the first choice; what fails ends it with a line `error: …` and breaks the transfer off.
"""
FIELDS = {
    "model": "An id of /v1/models; without it the operator's default.",
    "stream": "Answer with events as they come.",
    "reasoning_effort": "Goes before the header `x-reasoning-effort`.",
    "n": "So many choices.",
}
_HEADER = {"in": "header", "schema": {"type": "string"}}
_PARAMETERS = [
    {
        **_HEADER,
        "name": "x-reasoning-effort",
        "description": f"One of {', '.join(EFFORTS)}.",
        "example": "low",
    },
    {
        **_HEADER,
        "name": "x-reasoning-format",
        "description": "Where reasoning is shown: one of both, reasoning, reasoning_content, think-tags, hidden.",
        "example": "think-tags",
    },
    {**_HEADER, "name": "x-request-id", "description": "Comes back as it is.", "example": "req-1"},
    {
        "in": "header",
        "name": "Idempotency-Key",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "description": "The same key and body get the same answer, while it runs and for a minute after.",
    },
]


def operation(name: str, summary: str, about: str, *, request: str, whole: str, chunk: str, example: Json) -> Json:
    """Return a POST that takes and answers these schemas. `example` is what a request says besides model and stream."""
    content = {
        "application/json": reference(whole),
        "text/event-stream": _event(chunk),
        "text/plain": STRING,
    }
    return {
        "operationId": name,
        "summary": summary,
        "description": about,
        "parameters": _PARAMETERS,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": reference(request),
                    "examples": {
                        "whole": {"value": {"model": "gpt-oss-120b", **example}},
                        "streamed": {"value": {"model": "gpt-4o", "stream": True, **example}},
                    },
                }
            },
        },
        "responses": {
            "200": answer("The answer.", content, "x-ignored-params", "x-upstream-id"),
            **errors_of(400, 401, 404, 413, 429, 502, 503, 504),
        },
    }


def object_of(properties: Json, *optional: str) -> Json:
    """Return the schema of an object that has all these properties, but for the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def stamped(kind: str, prefix: str) -> Json:
    """Return the properties that every part of an answer has."""
    return {
        "id": {"type": "string", "pattern": f"^{prefix}"},
        "object": {"const": kind},
        "created": {"type": "integer", "description": "Unix seconds."},
        "model": {"type": "string", "description": "As asked for."},
    }


def choices(fields: Json, reasons: list[str | None], **bounds: int) -> Json:
    """Return the schema of choices with these fields."""
    choice = object_of({"index": INDEX, **fields, "logprobs": NULL, "finish_reason": {"enum": reasons}})
    empty = {"description": "Empty in the chunk that bears the usage."} if None in reasons else {}
    return {"type": "array", **bounds, **empty, "items": choice}


def _event(chunk: str) -> Json:
    chunk_or_error = {"anyOf": [reference(chunk), reference("Error")]}
    return object_of(
        {
            "data": {
                "anyOf": [
                    {"const": "[DONE]", "description": "The last event's."},
                    {"type": "string", "contentMediaType": "application/json", "contentSchema": chunk_or_error},
                ]
            },
        }
    ) | {"description": "One event."}


STRING: Json = {"type": "string"}
NULL: Json = {"type": "null"}
INDEX: Json = {"type": "integer", "minimum": 0}
_COUNT: Json = {"type": "integer", "minimum": 0}
USAGE = object_of(
    {
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "total_tokens": _COUNT,
        "prompt_tokens_details": object_of({"cached_tokens": _COUNT}),
        "completion_tokens_details": object_of({"reasoning_tokens": _COUNT}),
    }
)
USAGE_IF_ASKED: Json = {
    "anyOf": [reference("CompletionUsage"), NULL],
    "description": "There if `stream_options.include_usage` is true; null in all chunks but the last.",
}
