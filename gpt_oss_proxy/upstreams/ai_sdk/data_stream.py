"""AI SDK data stream v1 → neutral events: one part per line, `CODE:JSON`.

Source: @ai-sdk/ui-utils 1.2.11, data-stream-parts. Codes without meaning for a client (2, 8, b, c, f, h, i, j, k) and
unknown ones are read and dropped.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gpt_oss_proxy.chat.events import Usage
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import UpstreamIncomplete, UpstreamProtocolError
from gpt_oss_proxy.sse import LineDecoder
from gpt_oss_proxy.upstreams.ai_sdk.answer import AnswerDecoder, reported
from gpt_oss_proxy.upstreams.values import count, field, json_value, read_lines


class DataStreamDecoder(AnswerDecoder):
    """`d` ends the message, unless more of it follows. `e` ends only a step: text with neither is incomplete."""

    TEXT_MARK = b'0:"'

    def __init__(self, request: ChatRequest, max_event_bytes: int) -> None:
        super().__init__(LineDecoder(max_event_bytes), request)
        self._step_ended = False

    def more_text(self, record: bytes) -> str:
        """Return the text of a line that brings text."""
        try:
            return _text.decode(record[2:]) if record[:2] == b"0:" else ""
        except (ValueError, RecursionError):
            return ""

    def on_text(self, text: str) -> None:
        """Note that the answer continues."""
        self._more(text)

    def decode_texts(self, records: list[bytes]) -> int:
        """Emit the text of these lines if all of them are text, as nearly all of an answer is."""
        if any(record[:2] != b"0:" for record in records):
            return 0
        texts = read_lines(_text, [record[2:] for record in records])
        self.say(self._more("".join(texts)))
        return len(texts)

    def decode(self, record: bytes) -> None:
        """Emit the events of one line."""
        if not record:
            return
        if record[1:2] != b":":
            raise UpstreamProtocolError
        handle = _PARTS.get(record[:1])
        if handle:
            handle(self, json_value(record[2:]))

    def finish(self) -> None:
        """Finish after `d`, or after an `e` that is not continued."""
        if not self.complete and not self._step_ended:
            raise UpstreamIncomplete
        self.end_answer()

    def _say(self, value: Any) -> None:
        self.say(self._more(_string(value)))

    def _think(self, value: Any) -> None:
        self.think(self._more(_string(value)))

    def _error(self, value: Any) -> None:
        raise reported(_string(value))

    def _start_step(self, _value: Any) -> None:
        self._step_ended = False

    def _more(self, text: str) -> str:
        if text:  # also after `d`: a route that merges two answers into one stream sends `d` twice
            self._step_ended = self.complete = False
        return text

    def _tool_call(self, value: Any) -> None:
        self.call_complete(_object(value), arguments="args")

    def _tool_result(self, value: Any) -> None:
        self.call_answered(_object(value))

    def _finish_step(self, value: Any) -> None:
        end = _object(value)
        self._reason = field(end, str, "finishReason") or ""
        # Where the server has run all calls itself, the final answer comes in a further step.
        answered = self._reason == "tool-calls" and not self._calls
        self._step_ended = end.get("isContinued") is not True and not answered
        usage = _usage(end)
        if usage and self._usage:
            usage = Usage(
                usage.prompt_tokens + self._usage.prompt_tokens, usage.completion_tokens + self._usage.completion_tokens
            )
        self._usage = usage or self._usage

    def _finish_message(self, value: Any) -> None:
        end = _object(value)
        self._reason = field(end, str, "finishReason") or ""
        self._usage = _usage(end) or self._usage  # the sum of all steps
        self.complete = True


_text = msgspec.json.Decoder(str)
_PARTS: dict[bytes, Callable[[DataStreamDecoder, Any], None]] = {
    b"0": DataStreamDecoder._say,
    b"g": DataStreamDecoder._think,
    b"3": DataStreamDecoder._error,
    b"f": DataStreamDecoder._start_step,
    b"9": DataStreamDecoder._tool_call,
    b"a": DataStreamDecoder._tool_result,
    b"e": DataStreamDecoder._finish_step,
    b"d": DataStreamDecoder._finish_message,
}


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise UpstreamProtocolError
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UpstreamProtocolError
    return value


def _usage(end: dict[str, Any]) -> Usage | None:
    usage = field(end, dict, "usage") or {}
    prompt, completion = count(usage, "promptTokens"), count(usage, "completionTokens")
    return None if prompt is None or completion is None else Usage(prompt, completion)
