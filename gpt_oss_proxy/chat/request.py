"""What a client asks, in no client's and no upstream's format."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

ReasoningFormat = Literal["both", "reasoning", "reasoning_content", "think-tags", "hidden"]
Role = Literal["system", "developer", "user", "assistant", "tool"]


class Text(msgspec.Struct, frozen=True):
    """A piece of a message, exactly as it was written. `extra` holds the client's further fields of the part."""

    text: str
    extra: Mapping[str, Any] = {}


class Image(msgspec.Struct, frozen=True):
    """An image by http(s) URL or data URI. `detail` is the client's wish for the resolution, or None."""

    url: str
    detail: str | None = None
    extra: Mapping[str, Any] = {}


class PassthroughPart(msgspec.Struct, frozen=True):
    """A part (audio, file) that only an OpenAI-compatible upstream can take, as the client sent it.

    One of a kind that `is_known` is refused for other upstreams; what is not known is left out there, and named.
    """

    kind: str
    fields: Mapping[str, Any]
    is_known: bool = True


Part = Text | Image | PassthroughPart


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made in an earlier turn. `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str
    extra: Mapping[str, Any] = {}


class Message(msgspec.Struct, frozen=True):
    """One turn of the chat. `extra` holds the client's further fields of the turn (`name`, …) as they came."""

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    extra: Mapping[str, Any] = {}

    @property
    def text(self) -> str:
        """All text of the turn; several parts are separated by a line end."""
        return "\n".join(part.text for part in self.parts if isinstance(part, Text))


class ChatRequest(msgspec.Struct, frozen=True):
    """One request for an answer.

    `reasoning_effort` is what the client asked for, None if it did not. `n` choices are wanted of this conversation and
    of each of `further` (the other prompts of a legacy completion). `options` are all further fields that the client
    set, under OpenAI's names and checked for their types (`temperature`, `stop`, `tools`, unknown ones, …).

    `trace` are headers by which a request is found again in the logs of all who see it.

    For the client's own API only: `reasoning_format` is where its answer shows reasoning, `spelling` what else its
    answer's form depends on. For upstreams that take text only: `marker` is the number of the frames that the
    conversation holds already, 0 if it holds none.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    reasoning_effort: str | None = None
    n: int = 1
    further: tuple[tuple[Message, ...], ...] = ()
    options: Mapping[str, Any] = {}
    reasoning_format: ReasoningFormat = "both"
    spelling: frozenset[str] = frozenset()
    trace: Mapping[str, str] = {}
    marker: int = 0
