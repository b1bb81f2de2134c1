"""Chat completions in the OpenAPI document."""

from typing import Any, get_args

from gpt_oss_proxy.apis.base import Description
from gpt_oss_proxy.apis.chat_completions.parse import REQUEST
from gpt_oss_proxy.apis.openapi import answer, errors_of, reference, request_schemas
from gpt_oss_proxy.chat.events import FinishReason

_ABOUT = """The whole conversation reaches the model. Fields without effect on its upstream are named in the header
`x-ignored-params`; what would change the shape of the answer and cannot be given is a 400 with code
`unsupported_parameter`. The body is read as JSON whatever its Content-Type says, unless the request has an `Origin`.

A stream (`stream: true`) begins with a 200 only when the upstream has accepted, or when a first keep-alive fell due.
What fails later comes as an event with an error object, and no `finish_reason`. With `Accept: text/plain` a stream is
the bare text; what fails ends it with a line `error: …` and breaks the transfer off.
"""
_FIELDS = {
    "model": "An id of /v1/models; without it the operator's default.",
    "messages": "A message needs `content`, unless an assistant or a function speaks; a tool's needs `tool_call_id`.",
    "stream": "Answer with events as they come.",
    "reasoning_effort": "Goes before the header `x-reasoning-effort`.",
    "n": "More than 1 is refused.",
    "logprobs": "true is refused.",
    "top_logprobs": "More than 0 is refused.",
    "audio": "Refused.",
    "modalities": 'Anything but `["text"]` is refused.',
}


def describe() -> Description:
    """Return POST /chat/completions and its schemas."""
    request = request_schemas("ChatCompletionRequest", *REQUEST)
    for field, told in _FIELDS.items():
        request["ChatCompletionRequest"]["properties"][field]["description"] = told
    return Description({"": {"post": _POST}}, request | _SCHEMAS)


_HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}
_HEADER = {"in": "header", "schema": {"type": "string"}}
_CHUNK_OR_ERROR = {"anyOf": [reference("ChatCompletionChunk"), reference("Error")]}
_EVENT = {
    "type": "object",
    "description": "One event.",
    "required": ["data"],
    "properties": {
        "data": {
            "anyOf": [
                {"const": "[DONE]", "description": "The last event's."},
                {"type": "string", "contentMediaType": "application/json", "contentSchema": _CHUNK_OR_ERROR},
            ]
        },
    },
}
_POST = {
    "operationId": "createChatCompletion",
    "summary": "Answer a conversation, at once or as a stream.",
    "description": _ABOUT,
    "parameters": [
        {
            **_HEADER,
            "name": "x-reasoning-effort",
            "description": "One of none, minimal, low, medium, high, xhigh.",
            "example": "low",
        },
        {**_HEADER, "name": "x-request-id", "description": "Comes back as it is.", "example": "req-1"},
        {
            "in": "header",
            "name": "Idempotency-Key",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            "description": "The same key and body get the same answer, while it runs and for a minute after.",
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": reference("ChatCompletionRequest"),
                "examples": {
                    "whole": {"value": {"model": "gpt-oss-120b", **_HELLO}},
                    "streamed": {"value": {"model": "gpt-4o", "stream": True, **_HELLO}},
                },
            }
        },
    },
    "responses": {
        "200": answer(
            "The answer.",
            {
                "application/json": reference("ChatCompletion"),
                "text/event-stream": _EVENT,
                "text/plain": {"type": "string"},
            },
            "x-ignored-params",
            "x-upstream-id",
        ),
        **errors_of(400, 401, 404, 413, 429, 502, 503, 504),
    },
}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


_STRING = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_NULL = {"type": "null"}
_INDEX = {"type": "integer", "minimum": 0}
_REASONING = {
    "reasoning": {"type": "string", "description": "The model's reasoning, where it tells."},
    "reasoning_content": {"type": "string", "description": "The same, for clients that look for it here."},
}
_HEAD = {
    "id": {"type": "string", "pattern": "^chatcmpl-"},
    "created": {"type": "integer", "description": "Unix seconds."},
    "model": {"type": "string", "description": "As asked for."},
}
_FINISH_REASON = {"enum": list(get_args(FinishReason))}
_SCHEMAS: dict[str, Any] = {
    "ChatCompletion": _object(
        {
            **_HEAD,
            "object": {"const": "chat.completion"},
            "choices": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": _object(
                    {
                        "index": {"const": 0},
                        "message": _object(
                            {
                                "role": {"const": "assistant"},
                                "content": {"type": ["string", "null"]},
                                "refusal": _NULL,
                                "annotations": {"type": "array", "maxItems": 0},
                                **_REASONING,
                                "tool_calls": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": _object(
                                        {
                                            "id": _STRING,
                                            "type": {"const": "function"},
                                            "function": _object({"name": _STRING, "arguments": _STRING}),
                                        }
                                    ),
                                },
                            },
                            *_REASONING,
                            "tool_calls",
                        ),
                        "logprobs": _NULL,
                        "finish_reason": _FINISH_REASON,
                    }
                ),
            },
            "usage": reference("CompletionUsage"),
        }
    ),
    "ChatCompletionChunk": _object(
        {
            **_HEAD,
            "object": {"const": "chat.completion.chunk"},
            "choices": {
                "type": "array",
                "maxItems": 1,
                "description": "Empty in the chunk that bears the usage.",
                "items": _object(
                    {
                        "index": {"const": 0},
                        "delta": _object(
                            {
                                "role": {"const": "assistant"},
                                "content": _STRING,
                                **_REASONING,
                                "tool_calls": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": _object(
                                        {
                                            "index": _INDEX,
                                            "id": _STRING,
                                            "type": {"const": "function"},
                                            "function": _object({"name": _STRING, "arguments": _STRING}, "name"),
                                        },
                                        "id",
                                        "type",
                                    ),
                                },
                            },
                            *("role", "content", *_REASONING, "tool_calls"),
                        ),
                        "logprobs": _NULL,
                        "finish_reason": {"enum": [*get_args(FinishReason), None]},
                    }
                ),
            },
            "usage": {
                "anyOf": [reference("CompletionUsage"), _NULL],
                "description": "There if `stream_options.include_usage` is true; null in all chunks but the last.",
            },
        },
        "usage",
    ),
    "CompletionUsage": _object(
        {
            "prompt_tokens": _COUNT,
            "completion_tokens": _COUNT,
            "total_tokens": _COUNT,
            "prompt_tokens_details": _object({"cached_tokens": _COUNT}),
            "completion_tokens_details": _object({"reasoning_tokens": _COUNT}),
        }
    ),
}
