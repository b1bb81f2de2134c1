"""Completion and events → OpenAI's text_completion, whole and as chunks.

There is no field for reasoning, so it is shown only by those who ask for it within the text. A model that calls a tool,
though it was offered none, has said nothing.
"""

import msgspec

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.openai.api import own
from gpt_oss_proxy.apis.openai.choices import ChunkStream, render_whole
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat, placed
from gpt_oss_proxy.chat.completion import Completion
from gpt_oss_proxy.chat.events import FinishReason
from gpt_oss_proxy.chat.request import ChatRequest

_KIND = "text_completion"
_json = msgspec.json.encode


def render(completion: Completion, stamp: Stamp, request: ChatRequest) -> bytes:
    """Return the body of a text_completion."""
    where = _shown(request)
    choices = [
        {
            "index": index,
            "text": echoed(request, index) + placed(choice, where).text,
            "logprobs": None,
            "finish_reason": _reason(choice.reason),
        }
        for index, choice in enumerate(completion.choices)
    ]
    return render_whole(_KIND, stamp, choices, completion.usage, completion.extra)


def echoed(request: ChatRequest, index: int) -> str:
    """Return the prompt that a choice's text begins with, '' if the client has not asked for it."""
    if not own(request).has_echo:
        return ""
    (message,) = (request.messages, *request.further_prompts)[index // request.n]
    return message.text


class ChunkRenderer(ChunkStream):
    """Batches of events → chunks: for each choice its prompt first, if it is echoed."""

    KIND = _KIND
    NO_FIELDS = b'"text":""'
    AROUND_TEXT = b'"text":', b""

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        super().__init__(stamp, include_usage=request.wants_usage, reasoning_format=_shown(request))
        self._request = request

    def opening_fields(self, index: int) -> bytes:
        """Return the echo of the choice's prompt."""
        prompt = echoed(self._request, index)
        return self.text_fields(prompt) if prompt else b""

    def reason(self, reason: FinishReason) -> str:
        """Return the reason, if it is one that a text can have."""
        return _reason(reason)


def _shown(request: ChatRequest) -> ReasoningFormat:
    return "think-tags" if own(request).reasoning == "think-tags" else "hidden"


def _reason(reason: FinishReason) -> str:
    return "stop" if reason == "tool_calls" else reason
