"""What both AI SDK protocols share: the steps of one answer, tools that the server runs, finish reasons, usage."""

from typing import Any

from gpt_oss_proxy.chat.events import Finish, FinishReason, Usage
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import UpstreamFailed
from gpt_oss_proxy.quoting import quote
from gpt_oss_proxy.sse import Decoder as SseDecoder
from gpt_oss_proxy.sse import LineDecoder
from gpt_oss_proxy.upstreams.decoder import Decoder
from gpt_oss_proxy.upstreams.values import field, json_text, upstream_said

_REASONS: dict[str, FinishReason] = {"length": "length", "content-filter": "content_filter"}
_MASKED = "An error occurred."  # the SDK's text unless the route reports more


class AnswerDecoder(Decoder):
    """A decoder for answers that consist of several steps."""

    def __init__(self, framer: SseDecoder | LineDecoder, request: ChatRequest) -> None:
        super().__init__(framer)
        self._request = request
        self._reason = ""
        self._usage: Usage | None = None
        self._calls: dict[str, tuple[str, str]] = {}  # calls without an output yet: id → (name, arguments)

    def call_complete(self, value: dict[str, Any], *, arguments: str) -> None:
        """Keep a call until it is known who runs it: the server if its output follows, else the client."""
        call_id = field(value, str, "toolCallId") or ""
        self._calls[call_id] = (field(value, str, "toolName") or "", json_text(value.get(arguments) or {}))

    def call_answered(self, value: dict[str, Any]) -> None:
        """Drop a call that the server has run itself: the client does not get it."""
        self._calls.pop(field(value, str, "toolCallId") or "", None)

    def end_answer(self) -> None:
        """Emit calls for the client, Usage and Finish. Raises UpstreamFailed if the reason is an error."""
        if self._reason == "error":
            raise UpstreamFailed
        calls = self._calls if self._request.offers_tools else {}
        for index, (call_id, (name, arguments)) in enumerate(calls.items()):
            self.call(index, call_id=call_id, name=name)
            self.call(index, arguments=arguments)
        if self._usage:
            self.emit(self._usage)
        self.emit(Finish("tool_calls" if calls else _REASONS.get(self._reason, "stop")))


def reported(text: str) -> UpstreamFailed:
    """Return the error for a failure that the endpoint reports within its stream."""
    said = quote(text)
    return UpstreamFailed(upstream_said("" if said == _MASKED else said))
