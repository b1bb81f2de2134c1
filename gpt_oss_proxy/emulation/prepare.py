"""What is to be done for an upstream that takes and gives text only: instructions, and filters for its answer.

Pure, and before an upstream is asked: a request for what cannot be done is refused here.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Any, NamedTuple, cast

import msgspec

from gpt_oss_proxy.chat.request import ChatRequest, Limits, Message, Text
from gpt_oss_proxy.emulation import json_answer, tools
from gpt_oss_proxy.emulation.calls import Calls
from gpt_oss_proxy.emulation.filter import Filter
from gpt_oss_proxy.emulation.fold import marker_number
from gpt_oss_proxy.emulation.frames import Frames
from gpt_oss_proxy.emulation.harmony import Harmony
from gpt_oss_proxy.emulation.json_answer import JsonAnswer, WantedJson
from gpt_oss_proxy.emulation.length import Length
from gpt_oss_proxy.emulation.stop import Stop
from gpt_oss_proxy.emulation.tokens import Vocabulary
from gpt_oss_proxy.emulation.tools import Tools
from gpt_oss_proxy.errors import InvalidField

_LONGEST_STOP = 1000  # characters
# The fields of a ChatRequest that are emulated for an upstream that does not take them, and their values if not set.
EMULATED = {
    "tools": (),
    "tool_choice": None,
    "parallel_calls": None,
    "response_format": None,
    "stop": (),
    "limits": Limits(),
}
_emulated_fields, _UNSET = attrgetter(*EMULATED), tuple(EMULATED.values())


class Emulation(msgspec.Struct, frozen=True):
    """What is done for one request at one upstream. `request` is what the upstream is asked.

    `checks_calls` holds where the model may call tools, and where its own format has calls that were not asked for.
    """

    request: ChatRequest
    stop: tuple[str, ...] = ()
    limits: Limits = Limits()
    tools: Tools | None = None
    wanted_json: WantedJson | None = None
    harmony: bool = False
    checks_calls: bool = False

    @property
    def changes(self) -> bool:
        """Whether there is anything to do with the answer."""
        for row in FILTERS:  # noqa: SIM110 - any() would enter a frame for each row
            if row.asks(self):
                return True
        return False

    @property
    def is_held(self) -> bool:
        """Whether nothing goes out before all is right: a whole answer that might be faulty."""
        return not self.request.stream and (self.tools is not None or self.wanted_json is not None)

    def filters(self, vocabulary: Vocabulary, calls: Calls | None) -> list[Filter]:
        """Return fresh filters, in the order in which an answer goes through them; `calls` is one of them."""
        filters = [row.make(self, vocabulary, calls) for row in FILTERS if row.asks(self)]
        for step in filters:
            step.trigger = step.watches_for()
        return filters

    def calls(self, new_id: Callable[[], str], first: Calls | None = None) -> Calls | None:
        """Return the filter that checks calls; where none are wanted, harmony's may come all the same."""
        if not self.checks_calls:
            return None
        return Calls(self.tools, form=tools.form(self.request.marker), new_id=new_id, first=first)


class FilterRow(NamedTuple):
    """What of an emulation asks for a filter, and how it is made: from that, a vocabulary and the filter of calls."""

    asks: Callable[[Emulation], Any]
    make: Callable[[Emulation, Vocabulary, Calls | None], Filter]


def _json_answer(emulation: Emulation, wanted: WantedJson) -> Filter:
    hold = wanted.strict or not emulation.request.stream
    return JsonAnswer(wanted, hold=hold, tools=emulation.tools is not None)


# In the order in which an answer goes through them. What a row asks for is there when its filter is made: hence casts.
FILTERS: Sequence[FilterRow] = (
    FilterRow(
        attrgetter("limits.total"),
        lambda its, vocabulary, _: Length(cast(int, its.limits.total), vocabulary, with_reasoning=True),
    ),
    FilterRow(
        attrgetter("limits.text"),
        lambda its, vocabulary, _: Length(cast(int, its.limits.text), vocabulary, with_reasoning=False),
    ),
    FilterRow(attrgetter("harmony"), lambda *_: Harmony()),
    FilterRow(attrgetter("tools"), lambda its, *_: Frames(its.request.marker)),
    FilterRow(attrgetter("checks_calls"), lambda _its, _vocabulary, calls: cast(Calls, calls)),
    FilterRow(attrgetter("wanted_json"), lambda its, *_: _json_answer(its, cast(WantedJson, its.wanted_json))),
    FilterRow(attrgetter("stop"), lambda its, *_: Stop(its.stop)),
)


def prepare(
    request: ChatRequest, native_options: frozenset[str] | None, *, harmony: bool, like: Emulation | None = None
) -> Emulation:
    """Return what is to be done for an upstream that takes only these fields (None: all). Raises InvalidField.

    `harmony` says that its models may slip into their own format. `like` is what was prepared for another conversation
    of the same request: then `request` is that of `like` with other messages, and schemas are not compiled again.
    """
    if like:  # its request has been prepared, but for its messages
        return msgspec.structs.replace(like, request=_instructed(request, like.tools, like.wanted_json))
    emulated: AbstractSet[str] = frozenset()
    if _emulated_fields(request) != _UNSET:
        emulated = request.emulate if native_options is None else request.emulate | (EMULATED.keys() - native_options)
    if not emulated:
        return Emulation(request, harmony=harmony, checks_calls=harmony)
    asked = msgspec.structs.replace(request, **{field: EMULATED[field] for field in emulated})
    wanted_tools = tools.offered_tools(request) if "tools" in emulated else None
    wanted_json = json_answer.wanted_json(request.response_format) if "response_format" in emulated else None
    return Emulation(
        _instructed(asked, wanted_tools, wanted_json),
        stop=_checked_stop(request.stop) if "stop" in emulated else (),
        limits=request.limits if "limits" in emulated else Limits(),
        tools=wanted_tools,
        wanted_json=wanted_json,
        harmony=harmony,
        checks_calls=harmony or wanted_tools is not None,
    )


def _checked_stop(words: tuple[str, ...]) -> tuple[str, ...]:
    if any(len(word) > _LONGEST_STOP for word in words):
        raise InvalidField(("stop",), f"a stop word has {_LONGEST_STOP} characters at most.")
    return words


def _instructed(request: ChatRequest, wanted_tools: Tools | None, wanted_json: WantedJson | None) -> ChatRequest:
    """Return the request with instructions for the model, before all other messages."""
    notes: list[str] = []
    marker = 0
    if wanted_tools:
        written = "\n".join(tool.written for tool in wanted_tools.tools.values())
        written += wanted_json.written if wanted_json else ""
        marker = marker_number((*request.messages, Message("system", (Text(written),))))
        notes.append(tools.instruct(wanted_tools, marker))
    if wanted_json:
        notes.append(json_answer.instruct(wanted_json, tools=wanted_tools is not None))
    if not notes:
        return request
    instructions = Message("system", (Text("\n\n".join(notes)),))
    return msgspec.structs.replace(request, messages=(instructions, *request.messages), marker=marker, instructions=1)
