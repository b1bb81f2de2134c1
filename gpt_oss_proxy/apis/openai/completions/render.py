"""Completion and events → OpenAI's text_completion, whole and as chunks.

There is no field for reasoning, so it is shown only by those who ask for it within the text. A model that calls a tool,
though it was offered none, has said nothing.
"""

import msgspec

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.openai.choices import ChunkStream, render_whole
from gpt_oss_proxy.apis.openai.reasoning import placed
from gpt_oss_proxy.chat.completion import Completion
from gpt_oss_proxy.chat.events import FinishReason
from gpt_oss_proxy.chat.request import ChatRequest, ReasoningFormat

_KIND = "text_completion"
_json = msgspec.json.encode


def render(completion: Completion, stamp: Stamp, request: ChatRequest) -> bytes:
    """Return the body of a text_completion."""
    where = _reasoning_format(request)
    choices = [
        {
            "index": index,
            "text": echoed(request, index) + placed(choice, where).text,
            "logprobs": None,
            "finish_reason": _reason(choice.finish_reason),
        }
        for index, choice in enumerate(completion.choices)
    ]
    return render_whole(_KIND, stamp, choices, completion.usage, completion.extra)


def stream(stamp: Stamp, request: ChatRequest) -> "ChunkRenderer":
    """Return a renderer of chunks."""
    return ChunkRenderer(stamp, request)


def echoed(request: ChatRequest, index: int) -> str:
    """Return the prompt that a choice's text begins with, '' if the client has not asked for it."""
    if "echo" not in request.spelling:
        return ""
    (message,) = (request.messages, *request.further)[index // request.n]
    return message.text


class ChunkRenderer(ChunkStream):
    """Lists of events → chunks: for each choice its prompt first, if it is echoed."""

    KIND = _KIND
    TELL_NOTHING = b'"text":""'
    TELL_TEXT = b'"text":', b""

    def __init__(self, stamp: Stamp, request: ChatRequest) -> None:
        super().__init__(stamp, include_usage=request.include_usage, reasoning_format=_reasoning_format(request))
        self._request = request

    def tell_opening(self, index: int) -> bytes:
        """Return the echo of the choice's prompt."""
        prompt = echoed(self._request, index)
        return self.tell_text(prompt) if prompt else b""

    def reason(self, reason: FinishReason) -> str:
        """Return the reason, if it is one that a text can have."""
        return _reason(reason)


def _reasoning_format(request: ChatRequest) -> ReasoningFormat:
    return "think-tags" if request.reasoning_format == "think-tags" else "hidden"


def _reason(reason: FinishReason) -> str:
    return "stop" if reason == "tool_calls" else reason
