"""The values that both wire protocols share: a conversation with a question, and the events of its answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One chat turn; `role` is system, user or assistant."""

    role: str
    text: str


@dataclass(frozen=True)
class Question:
    """A whole conversation for a model, including the last user message."""

    model: str
    messages: tuple[Message, ...]


@dataclass(frozen=True)
class TextDelta:
    """New text of the answer, never empty."""

    text: str


@dataclass(frozen=True)
class Finish:
    """The answer is complete. `reason` is stop or length; the counts are tokens (words, for an echo)."""

    reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Failure:
    """The answer has failed, and nothing follows. `message` is for people; None stands for the wire's masked text."""

    message: str | None = None


Event = TextDelta | Finish | Failure

Answer = Callable[[Question], Iterator[Event]]
"""Any number of TextDelta, then one Finish or one Failure."""


class Refused(Exception):
    """A request that gets an HTTP error instead of a stream."""

    def __init__(self, status: str, body: bytes, content_type: str) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        super().__init__(status)


class ConnectionCut(Exception):
    """The real server breaks the connection here, after the headers and without the last chunk."""
