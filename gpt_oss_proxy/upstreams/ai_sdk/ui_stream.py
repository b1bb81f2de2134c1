"""AI SDK UI message stream (AI SDK 5 and later) → neutral events: SSE whose data are typed JSON objects.

Source: npm ai 5.0, 6.0 and 7.0, ui-message-stream. Types without meaning for a client (starts and ends of blocks,
sources, files, data-*, approvals) and unknown ones are read and dropped.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec

from gpt_oss_proxy.chat.events import TextReplaced, Usage
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import UpstreamFailed, UpstreamIncomplete
from gpt_oss_proxy.sse import Decoder as SseDecoder
from gpt_oss_proxy.upstreams.ai_sdk.answer import AnswerDecoder, reported
from gpt_oss_proxy.upstreams.values import count, field, json_object, read_lines


class _TextDelta(msgspec.Struct):
    type: Literal["text-delta"]
    delta: str | None = None


_text_deltas = msgspec.json.Decoder(_TextDelta)


class UiStreamDecoder(AnswerDecoder):
    """`finish` or `[DONE]` ends the message; a body that ends without either is incomplete."""

    TEXT_MARK = b'"text-delta"'

    def __init__(self, request: ChatRequest, max_event_bytes: int) -> None:
        super().__init__(SseDecoder(max_event_bytes), request)
        self._before_step = 0  # the position where the last step began
        self._kept: list[tuple[int, int]] = []  # the ranges of text before the last reset that it kept
        self._kept_from = 0  # the position of the last reset

    def more_text(self, record: bytes) -> str:
        """Return the text of a delta."""
        try:
            return _text_deltas.decode(record).delta or ""
        except (ValueError, RecursionError):
            return ""

    def on_text(self, _text: str) -> None:
        """Note that the answer continues."""
        self.complete = False  # also after `finish`: a route may merge two answers into one stream

    def decode_texts(self, records: list[bytes]) -> int:
        """Emit the text of these deltas if all of them are text deltas, as nearly all of an answer is."""
        deltas = read_lines(_text_deltas, records)
        self._say("".join([event.delta or "" for event in deltas]))
        return len(deltas)

    def decode(self, record: bytes) -> None:
        """Emit what one event means."""
        if record == b"[DONE]":
            self.complete = self.ended = True
            return
        event = json_object(record)
        kind = field(event, str, "type") or ""
        if kind.startswith("tool-output-"):
            self._tool_output(event)
        elif handle := _TYPES.get(kind):
            handle(self, event)
        elif "messageMetadata" in event:
            self._metadata(event)

    def finish(self) -> None:
        """Finish if the message has ended."""
        if not self.complete:
            raise UpstreamIncomplete
        if self._kept:  # once, at the end: emitting the whole text after each change would be quadratic
            self.emit(TextReplaced.of((*self._kept, (self._kept_from, self.position))))
        self.end_answer()

    def _text_delta(self, event: dict[str, Any]) -> None:
        self._say(field(event, str, "delta") or "")

    def _say(self, delta: str) -> None:
        if delta:
            self.on_text(delta)
            self.say(delta)

    def _reasoning_delta(self, event: dict[str, Any]) -> None:
        self.think(field(event, str, "delta") or "")

    def _start_step(self, _event: dict[str, Any]) -> None:
        self._before_step = self.position

    def _reset_step(self, _event: dict[str, Any]) -> None:
        if self.position == self._before_step:
            return
        if self._request.stream:
            raise UpstreamFailed("The model's server took back text that was already streamed. Try again.")
        self._kept.append((self._kept_from, self._before_step))
        self._kept_from = self._before_step = self.position

    def _tool_input(self, event: dict[str, Any]) -> None:
        if event.get("providerExecuted") is not True:
            self.call_complete(event, arguments="input")

    def _tool_output(self, event: dict[str, Any]) -> None:
        self.call_answered(event)

    def _error(self, event: dict[str, Any]) -> None:
        raise reported(field(event, str, "errorText") or "")

    def _abort(self, _event: dict[str, Any]) -> None:
        raise UpstreamFailed("The model's server aborted the answer. Try again.", code="upstream_aborted")

    def _finish_message(self, event: dict[str, Any]) -> None:
        self._reason = field(event, str, "finishReason") or ""
        self._metadata(event)
        self.complete = True

    def _metadata(self, event: dict[str, Any]) -> None:
        """Read the usage if the app has put it there; the protocol itself has none."""
        metadata = event.get("messageMetadata")
        if isinstance(metadata, dict):
            usage = metadata.get("totalUsage") or metadata.get("usage")
            self._usage = _usage(usage) or self._usage if isinstance(usage, dict) else self._usage


_TYPES: dict[str, Callable[[UiStreamDecoder, dict[str, Any]], None]] = {
    "text-delta": UiStreamDecoder._text_delta,
    "reasoning-delta": UiStreamDecoder._reasoning_delta,
    "start-step": UiStreamDecoder._start_step,
    "reset-step": UiStreamDecoder._reset_step,
    "tool-input-available": UiStreamDecoder._tool_input,
    "error": UiStreamDecoder._error,
    "abort": UiStreamDecoder._abort,
    "finish": UiStreamDecoder._finish_message,
}


def _usage(usage: dict[str, Any]) -> Usage | None:
    prompt, completion = count(usage, "inputTokens"), count(usage, "outputTokens")
    if prompt is None or completion is None:
        return None
    return Usage(
        prompt,
        completion,
        reasoning_tokens=count(usage, "reasoningTokens") or 0,
        cached_tokens=count(usage, "cachedInputTokens") or 0,
    )
