"""Fields that a server refuses though its client has not asked for them: sent again without, and remembered.

The gateway adds `stream` and `stream_options`; clients send back fields of earlier answers; `developer` and the higher
efforts are newer than many servers. Each server refuses with 400, 422 or 501, and names the field in its own words.

Sources: OpenAI's ReasoningEffort goes up to `max`; vLLM and SGLang took `high` at most for long, Ollama takes `max` but
not `xhigh`; Groq, Mistral and Cerebras refuse unknown fields of a message.
"""

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from gpt_oss_proxy.config.settings import Omittable
from gpt_oss_proxy.upstreams.status_error import StatusError

T = TypeVar("T")
Wire = Mapping[str, Any]

_REFUSALS = frozenset({400, 422, 501})
_KNOWN_SECONDS = 3600.0  # then it is tried again: servers get updated
_MOST_KNOWN = 1000
_LOWER_EFFORT = {"max": "xhigh", "xhigh": "high"}
_EFFORT_PARAM = re.compile(r"effort|\A(?:reasoning|think)\Z", re.IGNORECASE)
_EFFORT = re.compile(r"reasoning[ _.-]?effort|\b(?:reasoning|think(?:ing)?) value", re.IGNORECASE)
_OPTIONS = re.compile(r"stream_options|streamOptions|include_usage", re.IGNORECASE)
# A text may quote the client's own words, so it must say that a role, or streaming, is not accepted.
_NOT_TAKEN = (
    r"(?:not (?:be )?(?:supported|allowed|permitted|available|enabled|accepted)|unsupported|disabled"
    r"|(?:does not|doesn't|cannot|can't) (?:support|stream|allow))"
)
_DEVELOPER = re.compile(
    r"\brole\b.{0,80}(?:developer|should be|must be|expected|one of|not (?:supported|allowed))"
    r"|(?:unknown|unexpected|invalid|unsupported|developer).{0,40}\brole\b|\bdeveloper['\"`]? is not",
    re.IGNORECASE | re.DOTALL,
)
_STREAM = re.compile(
    rf"\bstream(?:ing)?\b.{{0,60}}{_NOT_TAKEN}|{_NOT_TAKEN}.{{0,60}}\bstream(?:ing)?\b", re.IGNORECASE | re.DOTALL
)
_FIELD = "field "  # prefix of a message field's name, to separate it from the other kinds
_USUAL = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "function_call"})
_USUAL_IN_CALLS = frozenset({"id", "type", "function"})


class Concession(Protocol):
    """A kind of thing that a request can do without. Each thing in a body has a name."""

    def found(self, body: Wire) -> Collection[str]:
        """Return the names of such things in a body."""

    def refused(self, name: str, error: StatusError) -> bool:
        """Return whether the error refuses this thing."""

    def without(self, names: Collection[str], body: Wire) -> Wire:
        """Return the body without these things."""


class _StreamOptions:
    def found(self, body: Wire) -> Collection[str]:
        return ["stream_options"] if "stream_options" in body else []

    def refused(self, _name: str, error: StatusError) -> bool:
        return bool(_OPTIONS.search(f"{error.param} {error.text}"))

    def without(self, names: Collection[str], body: Wire) -> Wire:
        return {key: value for key, value in body.items() if key not in names}


class _Developer:
    def found(self, body: Wire) -> Collection[str]:
        return ["developer"] if any(message["role"] == "developer" for message in body["messages"]) else []

    def refused(self, _name: str, error: StatusError) -> bool:
        return bool(_DEVELOPER.search(f"{error.param}: {error.text}"))

    def without(self, names: Collection[str], body: Wire) -> Wire:
        messages = [{**turn, "role": "system"} if turn["role"] in names else turn for turn in body["messages"]]
        return {**body, "messages": messages}


class _Effort:
    """Replaces a refused effort by the next lower one."""

    def found(self, body: Wire) -> Collection[str]:
        effort = body.get("reasoning_effort")
        return [f"reasoning_effort {effort}"] if effort in _LOWER_EFFORT else []

    def refused(self, _name: str, error: StatusError) -> bool:
        return _refuses_effort(error)

    def without(self, _names: Collection[str], body: Wire) -> Wire:
        return {**body, "reasoning_effort": _LOWER_EFFORT[body["reasoning_effort"]]}


class _AnswerFields:
    """Fields of an earlier answer that the client sends back: of a message, and of its calls."""

    def found(self, body: Wire) -> Collection[str]:
        names = {_FIELD + name for turn in _answers(body) for name in turn if name not in _USUAL}
        calls = (call for turn in _answers(body) for call in turn.get("tool_calls") or ())
        return names | {_FIELD + name for call in calls for name in call if name not in _USUAL_IN_CALLS}

    def refused(self, name: str, error: StatusError) -> bool:
        name = name.removeprefix(_FIELD)
        said = f"{error.param} {error.text}"
        return name in said and bool(re.search(rf"\b{re.escape(name)}\b", said))

    def without(self, names: Collection[str], body: Wire) -> Wire:
        names = {name.removeprefix(_FIELD) for name in names}

        def of_answer(turn: Wire) -> Wire:
            kept = _without(names, turn, _USUAL)
            if calls := turn.get("tool_calls"):
                kept["tool_calls"] = [_without(names, call, _USUAL_IN_CALLS) for call in calls]
            return kept

        messages = [of_answer(turn) if turn["role"] == "assistant" else turn for turn in body["messages"]]
        return {**body, "messages": messages}


class _Stream:
    def found(self, body: Wire) -> Collection[str]:
        return ["stream"] if body.get("stream") else []

    def refused(self, _name: str, error: StatusError) -> bool:
        return error.param == "stream" or bool(_STREAM.search(error.text))

    def without(self, _names: Collection[str], body: Wire) -> Wire:
        return {**{key: value for key, value in body.items() if key != "stream_options"}, "stream": False}


# The order in which a refusal is matched: a client's field may have another one's name, and the last patterns are
# vague.
_CONCESSIONS: tuple[Concession, ...] = (_AnswerFields(), _StreamOptions(), _Effort(), _Developer(), _Stream())


class Concessions:
    """The things that one server is known to refuse, by model. `omitted` is never sent."""

    def __init__(self, omitted: Collection[Omittable] = ()) -> None:
        self._omitted = omitted
        self._refused: dict[tuple[str, str], float] = {}  # (model, name) → when to try it again
        self._fields: dict[tuple[str, str], float] = {}  # the same for message fields

    def send(self, body: Wire, send: Callable[[Wire], T]) -> T:
        """Return what `send` returns for the body, or for what is left of it after refusals.

        Raises what `send` raises; if no effort is accepted, the refusal of the requested one.
        """
        left = self._without_refused(body)
        try:
            return self._send(left, send)
        except StatusError as error:
            if left.get("reasoning_effort") == body.get("reasoning_effort") or not _refuses_effort(error):
                raise
        for effort in _LOWER_EFFORT:  # the server accepts other efforts than before
            self._refused.pop((body["model"], f"reasoning_effort {effort}"), None)
        return self._send(self._without_refused(body), send)

    def _send(self, body: Wire, send: Callable[[Wire], T]) -> T:
        given_up: set[str] = set()
        effort_refused: StatusError | None = None  # the first refusal
        while True:
            try:
                answer = send(body)
            except StatusError as error:
                if _refuses_effort(error):
                    effort_refused = effort_refused or error
                found = _meant(body, error)
                if not found:
                    raise (effort_refused if _refuses_effort(error) else None) or error from None
                concession, names = found
                body = self._without_refused(concession.without(names, body))
                given_up |= names
            else:
                for name in given_up:
                    self._remember((body["model"], name))
                return answer

    def _without_refused(self, body: Wire) -> Wire:
        for concession in _CONCESSIONS:
            while names := {name for name in concession.found(body) if self._is_omitted(body["model"], name)}:
                body = concession.without(names, body)
        return body

    def _is_omitted(self, model: str, name: str) -> bool:
        kind = "reasoning" if name.startswith((f"{_FIELD}reasoning", f"{_FIELD}thinking")) else name
        known = self._fields if name.startswith(_FIELD) else self._refused
        return kind in self._omitted or time.monotonic() < known.get((model, name), 0.0)

    def _remember(self, key: tuple[str, str]) -> None:
        # A client may invent fields: they must not displace what is refused for all clients.
        known = self._fields if key[1].startswith(_FIELD) else self._refused
        if len(known) >= _MOST_KNOWN:
            del known[next(iter(known))]  # the oldest
        known[key] = time.monotonic() + _KNOWN_SECONDS


def _meant(body: Wire, error: StatusError) -> tuple[Concession, set[str]] | None:
    """Return the things of a body that the error refuses, None if it refuses something else."""
    if error.status not in _REFUSALS:
        return None
    for concession in _CONCESSIONS:
        if names := {name for name in concession.found(body) if concession.refused(name, error)}:
            return concession, names
    return None


def _refuses_effort(error: StatusError) -> bool:
    named = _EFFORT_PARAM.search(error.param) if error.param else _EFFORT.search(error.text)
    return error.status in _REFUSALS and named is not None


def _without(names: Collection[str], value: Wire, usual: Collection[str]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in names or key in usual}


def _answers(body: Wire) -> Iterator[Wire]:
    return (turn for turn in body["messages"] if turn["role"] == "assistant")
