"""What is to be done for an upstream that takes and gives text only: what the model is told, filters for its answer.

Pure, and before anybody is asked: what a request asks for and cannot be done is refused here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.emulation import json_answer, tools
from gpt_oss_proxy.emulation.calls import Calls
from gpt_oss_proxy.emulation.filter import Filter
from gpt_oss_proxy.emulation.fold import marker_number
from gpt_oss_proxy.emulation.harmony import Harmony
from gpt_oss_proxy.emulation.json_answer import JsonAnswer, ResponseFormat
from gpt_oss_proxy.emulation.length import Length
from gpt_oss_proxy.emulation.stop import Stop
from gpt_oss_proxy.emulation.tokens import Vocabulary
from gpt_oss_proxy.emulation.tools import Frames, Tools
from gpt_oss_proxy.errors import InvalidRequest

_LONGEST_STOP = 1000  # characters
# Fields that are done here for an upstream that does not honour them.
EMULATED = frozenset(
    {
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
    }
)


class Emulation(msgspec.Struct, frozen=True):
    """What is done for one request at one upstream. `request` is what the upstream is asked."""

    request: ChatRequest
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    tools: Tools | None = None
    response_format: ResponseFormat | None = None
    harmony: bool = False

    @property
    def changes(self) -> bool:
        """Whether there is anything to do with the answer."""
        limits = (self.max_tokens, self.max_completion_tokens)
        return bool(self.harmony or self.tools or self.response_format or self.stop) or limits != (None, None)

    @property
    def is_held(self) -> bool:
        """Whether nothing goes out before all is right: a whole answer that might be faulty."""
        return not self.request.stream and (self.tools is not None or self.response_format is not None)

    def filters(self, vocabulary: Vocabulary, calls: Calls | None) -> list[Filter]:
        """Return fresh filters, in the order in which an answer goes through them."""
        filters: list[Filter] = []
        if self.max_completion_tokens is not None:
            filters.append(Length(self.max_completion_tokens, vocabulary, with_reasoning=True))
        if self.max_tokens is not None:
            filters.append(Length(self.max_tokens, vocabulary, with_reasoning=False))
        if self.harmony:
            filters.append(Harmony())
        if self.tools:
            filters.append(Frames(self.request.marker))
        if calls:
            filters.append(calls)
        if self.response_format:
            hold = self.response_format.strict or not self.request.stream
            filters.append(JsonAnswer(self.response_format, hold=hold, tools=self.tools is not None))
        if self.stop:
            filters.append(Stop(self.stop))
        for step in filters:
            step.mark = step.watches_for()
        return filters

    def calls(self, new_id: Callable[[], str], first: Calls | None = None) -> Calls | None:
        """Return the filter that checks calls; where none are wanted, harmony's may come all the same."""
        if not self.tools and not self.harmony:
            return None
        return Calls(self.tools, form=tools.form(self.request.marker), new_id=new_id, first=first)


def prepare(
    request: ChatRequest, native_options: frozenset[str] | None, *, harmony: bool, like: Emulation | None = None
) -> Emulation:
    """Return what is to be done for an upstream that has only these options (None: all). Raises InvalidRequest.

    `harmony` says that its models may slip into their own format. `like` is what was prepared for another conversation
    of the same request, so that its schemas are not compiled again.
    """
    if native_options is None or EMULATED.isdisjoint(request.options):
        return Emulation(request, harmony=harmony)
    if like:
        return msgspec.structs.replace(like, request=_instructed(request, like.tools, like.response_format))
    options = {name: request.options[name] for name in (EMULATED & request.options.keys()) - native_options}
    wanted_tools = tools.read_tools(options)
    response_format = json_answer.read_response_format(options)
    return Emulation(
        _instructed(request, wanted_tools, response_format),
        stop=_stop(options),
        max_tokens=options.get("max_tokens"),
        max_completion_tokens=options.get("max_completion_tokens"),
        tools=wanted_tools,
        response_format=response_format,
        harmony=harmony,
    )


def _stop(options: Mapping[str, Any]) -> tuple[str, ...]:
    stop = options.get("stop") or ()
    words = (stop,) if isinstance(stop, str) else tuple(word for word in stop if word)
    if any(len(word) > _LONGEST_STOP for word in words):
        told = f"stop: a stop word has {_LONGEST_STOP} characters at most."
        raise InvalidRequest(told, code="invalid_value", param="stop")
    return words


def _instructed(
    request: ChatRequest, wanted_tools: Tools | None, response_format: ResponseFormat | None
) -> ChatRequest:
    """Return the request with what the model must be told, before all else."""
    notes: list[str] = []
    marker = 0
    if wanted_tools:
        written = "\n".join(tool.written for tool in wanted_tools.tools.values())
        written += response_format.written if response_format else ""
        marker = marker_number((*request.messages, Message("system", (Text(written),))))
        notes.append(tools.instruct(wanted_tools, marker))
    if response_format:
        notes.append(json_answer.instruct(response_format, tools=wanted_tools is not None))
    if not notes:
        return request
    told = Message("system", (Text("\n\n".join(notes)),))
    return msgspec.structs.replace(request, messages=(told, *request.messages), marker=marker)
