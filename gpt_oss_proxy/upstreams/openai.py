"""Any OpenAI-compatible server: vLLM, llama.cpp, Ollama, …

Source: OpenAI's API reference, chat completions (create, streaming). A request goes through with all its fields; the
answer is always asked for as a stream, and read into the same neutral events as any other.
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import requests

from gpt_oss_proxy import sse
from gpt_oss_proxy.chat.events import Finish, FinishReason, Usage
from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Part, Text
from gpt_oss_proxy.errors import GatewayError, UpstreamFailed, UpstreamIncomplete, UpstreamProtocolError, quote
from gpt_oss_proxy.upstreams.base import Model, Upstream
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.effort import KnownEfforts
from gpt_oss_proxy.upstreams.model_list import ModelList
from gpt_oss_proxy.upstreams.transport import (
    HTTPStatusError,
    Transport,
    model_not_found,
)
from gpt_oss_proxy.upstreams.values import count, field, json_object, read_lines, upstream_said, whole

Wire = dict[str, Any]

_log = logging.getLogger(__name__)
_MODELS_TIMEOUT_SECONDS = 5.0
_MODELS_BYTES = 4 * 1024 * 1024
_REASONS: dict[str, FinishReason] = {
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


def build_body(request: ChatRequest) -> Wire:
    """Return the JSON object of the request: what the client sent, as a stream that reports usage."""
    body: Wire = {
        **request.options,
        "model": request.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.reasoning_effort:
        body["reasoning_effort"] = request.reasoning_effort
    return body


def _message(message: Message) -> Wire:
    wire: Wire = {"role": message.role, **message.extra}
    if len(message.parts) == 1 and isinstance(message.parts[0], Text) and not message.parts[0].extra:
        wire["content"] = message.parts[0].text
    elif message.parts:
        wire["content"] = [_part(part) for part in message.parts]
    else:
        wire["content"] = None if message.tool_calls else ""
    if message.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **call.extra,
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _part(part: Part) -> Wire:
    match part:
        case Text():
            return {"type": "text", "text": part.text, **part.extra}
        case Image():
            image_url = {"url": part.url, **({"detail": part.detail} if part.detail else {})}
            return {"type": "image_url", "image_url": image_url, **part.extra}
        case _:
            return {"type": part.kind, **part.fields}


class OpenAI(Upstream):
    """`POST {base_url}/chat/completions`, `GET {base_url}/models`."""

    name = "openai"
    honours = None

    def __init__(
        self, transport: Transport, *, base_url: str, api_key: str, model_ids: tuple[str, ...], max_event_bytes: int
    ) -> None:
        super().__init__(transport)
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._fixed = tuple(Model(model_id, "openai", 0) for model_id in model_ids)
        self._max_event_bytes = max_event_bytes
        self._efforts = KnownEfforts()
        self._listed = ModelList(self._ask_models)

    def models(self) -> tuple[Model, ...]:
        """Return the configured models, or those that the server lists (see ModelList)."""
        return self._fixed or self._listed.get()

    def build(self, request: ChatRequest) -> tuple[str, Mapping[str, str], bytes]:
        """Return the POST that asks for a streamed answer."""
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", **self._headers}
        return f"{self._base_url}/chat/completions", headers, msgspec.json.encode(build_body(request))

    def send(self, request: ChatRequest) -> requests.Response:
        """Return the head of the answer to the request, or to one for less effort if the server refuses that."""
        return self._efforts.send(request, super().send)

    def decoder(self, headers: Mapping[str, str], _request: ChatRequest) -> Decoder:
        """Return a decoder; only an event stream is an answer to a request for one."""
        if not headers.get("Content-Type", "text/event-stream").lower().startswith("text/event-stream"):
            raise UpstreamProtocolError
        return OpenAIDecoder(self._max_event_bytes)

    def status_error(self, error: HTTPStatusError, request: ChatRequest) -> GatewayError:
        """404 is either a model that went away, or a wrong base URL."""
        if error.status == 404 and (error.code == "model_not_found" or "model" in quote(error.text).lower()):
            return model_not_found(request.model)
        return super().status_error(error, request)

    def _ask_models(self) -> tuple[Model, ...]:
        try:
            body = self._transport.fetch(
                f"{self._base_url}/models",
                headers=self._headers,
                max_bytes=_MODELS_BYTES,
                timeout_seconds=_MODELS_TIMEOUT_SECONDS,
            )
            return _read_models(body)
        except GatewayError as error:
            _log.warning("%s: its models cannot be listed: %s", self.name, error.reason or error.code)
            raise


def _read_models(body: bytes) -> tuple[Model, ...]:
    items = field(json_object(body), list, "data") or []
    return tuple(
        Model(whole(item["id"]), whole(field(item, str, "owned_by") or "openai"), count(item, "created") or 0)
        for item in items
        if isinstance(item, dict) and isinstance(item.get("id"), str)
    )


class _Delta(msgspec.Struct):
    content: str
    refusal: None = None
    reasoning: None = None
    reasoning_content: None = None
    tool_calls: None = None


class _Choice(msgspec.Struct):
    delta: _Delta
    index: Literal[0] = 0
    finish_reason: str | None = None


class _TextChunk(msgspec.Struct):
    """A chunk of text, and of nothing else unless it has a finish_reason."""

    choices: tuple[_Choice]
    error: None = None
    usage: None = None


_text_chunks = msgspec.json.Decoder(_TextChunk)


class OpenAIDecoder(Decoder):
    """Chunks of a chat completion → neutral events. Without a finish_reason there is no answer, whatever else came."""

    TEXT_MARK = b'"content"'

    def __init__(self, max_event_bytes: int) -> None:
        super().__init__(sse.Decoder(max_event_bytes))
        self._reason = ""
        self._usage: Usage | None = None
        self._calls: dict[int, int] = {}  # the upstream's index → ours, which has no gaps

    def more_text(self, record: bytes) -> str:
        """Return a chunk's text, unless it is the first one, which tells the answer's id, or has a finish_reason."""
        try:
            (choice,) = _text_chunks.decode(record).choices
        except (ValueError, RecursionError):
            return ""
        return choice.delta.content if self._started and choice.finish_reason is None else ""

    def decode_texts(self, records: list[bytes]) -> int:
        """Emit what chunks of text bring, nearly all of an answer, if all of them are such."""
        told = 0
        if not self._started:  # the first chunk tells the answer's id
            self.decode(records[0])
            told = 1
        return told + (self._decode_chunks(records[told:]) if self._started else 0)

    def _decode_chunks(self, records: list[bytes]) -> int:
        texts: list[str] = []
        for chunk in read_lines(_text_chunks, records):
            (choice,) = chunk.choices
            if choice.finish_reason is not None:
                break
            texts.append(choice.delta.content)
        self.say("".join(texts))
        return len(texts)

    def decode(self, record: bytes) -> None:
        """Emit what one chunk means."""
        if record == b"[DONE]":
            self.ended = True
            return
        chunk = json_object(record)
        if chunk.get("error"):
            raise _failure(chunk["error"])
        self.start(field(chunk, str, "id") or "")
        self._take_usage(field(chunk, dict, "usage") or {})
        for choice in field(chunk, list, "choices") or []:
            if isinstance(choice, dict) and not choice.get("index"):
                self._take_choice(choice)

    def finish(self) -> None:
        """Finish if the model gave a reason for its end."""
        if not self._reason:
            raise UpstreamIncomplete
        if self._usage:
            self.emit(self._usage)
        reason = _REASONS.get(self._reason, "stop")
        self.emit(Finish("tool_calls" if self._calls and reason == "stop" else reason))

    def _take_choice(self, choice: Wire) -> None:
        delta = field(choice, dict, "delta") or {}
        self.think(field(delta, str, "reasoning_content") or field(delta, str, "reasoning") or "")
        self.say(field(delta, str, "content") or field(delta, str, "refusal") or "")
        for position, call in enumerate(field(delta, list, "tool_calls") or []):
            if isinstance(call, dict):
                self._take_call(call, position)
        if reason := field(choice, str, "finish_reason"):
            if reason == "error":
                raise UpstreamFailed
            self._reason = reason
            self.complete = True  # usage may follow

    def _take_call(self, call: Wire, position: int) -> None:
        index = field(call, int, "index")
        index = position if index is None else index
        function = field(call, dict, "function") or {}
        ours = self._calls.get(index)
        if ours is None:
            # Only once: some servers repeat id and name with every delta, and clients would join the repeats.
            ours = self._calls[index] = len(self._calls)
            call_id = field(call, str, "id") or f"call_{ours}"
            self.call(ours, call_id=call_id, name=field(function, str, "name") or "")
        if arguments := field(function, str, "arguments"):
            self.call(ours, arguments=arguments)

    def _take_usage(self, usage: Wire) -> None:
        prompt, completion = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
        if prompt is not None and completion is not None:
            self._usage = Usage(
                prompt,
                completion,
                count(field(usage, dict, "completion_tokens_details") or {}, "reasoning_tokens") or 0,
                count(field(usage, dict, "prompt_tokens_details") or {}, "cached_tokens") or 0,
            )


def _failure(error: object) -> GatewayError:
    text = error.get("message") if isinstance(error, dict) else error
    return UpstreamFailed(upstream_said(quote(text if isinstance(text, str) else "")))
