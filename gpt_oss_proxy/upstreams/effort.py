"""Reasoning efforts that not every OpenAI-compatible server knows: after a refusal, the next lower one is asked for.

Sources: OpenAI's ReasoningEffort goes up to `max`; vLLM and SGLang took `high` at most for long, Ollama takes `max` and
not `xhigh`. Each refuses with a status of 400, or 422, whose text names the field in its own way.
"""

import re
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.upstreams.transport import HTTPStatusError

T = TypeVar("T")
_LOWER = {"max": ("xhigh", "high"), "xhigh": ("high",)}
_KNOWN_SECONDS = 3600.0  # then it is found out again: servers learn
_MOST_KNOWN = 1000
_PARAM = re.compile(r"effort|\A(?:reasoning|think)\Z", re.IGNORECASE)
_TEXT = re.compile(r"reasoning[ _.-]?effort|\b(?:reasoning|think(?:ing)?) value", re.IGNORECASE)


def refuses_effort(error: HTTPStatusError) -> bool:
    """Return whether the server refused the request for its effort: by the field that it names, else by its text."""
    if error.status not in (400, 422):
        return False
    return bool(_PARAM.search(error.param) if error.param else _TEXT.search(error.text))


class KnownEfforts:
    """What one server took in place of an effort that it refused, by model and effort."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[str, float]] = {}  # → what it took, and until when that counts

    def send(self, request: ChatRequest, send: Callable[[ChatRequest], T]) -> T:
        """Return what `send` returns for the request, asked with the highest effort that the server takes.

        Raises what `send` raises; if all efforts are refused, what it raised for the one that was asked for.
        """
        asked = request.reasoning_effort or ""
        if asked not in _LOWER:
            return send(request)
        key = (request.model, asked)
        refusals: dict[str, HTTPStatusError] = {}
        for effort in self._order(key):
            try:
                answer = send(msgspec.structs.replace(request, reasoning_effort=effort))
            except HTTPStatusError as error:
                if not refuses_effort(error):
                    raise
                refusals[effort] = error
            else:
                if refusals:
                    self._remember(key, effort)
                return answer
        raise refusals[asked]

    def _order(self, key: tuple[str, str]) -> list[str]:
        """Return the efforts to ask for, what is known to be taken first."""
        asked = key[1]
        known, until = self._known.get(key, ("", 0.0))
        first = known if time.monotonic() < until else asked
        return [first, *(effort for effort in (asked, *_LOWER[asked]) if effort != first)]

    def _remember(self, key: tuple[str, str], effort: str) -> None:
        if len(self._known) >= _MOST_KNOWN:
            del self._known[next(iter(self._known))]  # the oldest
        self._known[key] = effort, time.monotonic() + _KNOWN_SECONDS
