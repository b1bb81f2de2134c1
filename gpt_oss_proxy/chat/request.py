"""What a client asks, in no client's and no upstream's format."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

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
    """A part (audio, file) in the client's own format: only an upstream of the same format takes it.

    For other upstreams a part of a kind that `is_known` is refused; any other is left out, and named as ignored.
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


class Passthrough(msgspec.Struct, frozen=True):
    """A value in the client's own format, in the place of a typed one: only an upstream of the same format takes it.

    Where it would have to be understood, the request is refused: `fault` says what is wrong with it, and `path` where,
    below the field that holds it.
    """

    value: Any
    fault: str
    path: tuple[str | int, ...] = ()


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call. `parameters` is the JSON schema of its arguments; None if it takes none.

    `strict` asks that arguments fit the schema exactly. `extra` holds the client's further fields of the tool.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    extra: Mapping[str, Any] = {}


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether a tool may (`auto`), must (`required`) or must not (`none`) be called; `names` are those that may be.

    `names` is None for all tools. `extra` holds the client's further fields of the choice.
    """

    mode: Literal["auto", "required", "none"]
    names: tuple[str, ...] | None = None
    extra: Mapping[str, Any] = {}


class ResponseFormat(msgspec.Struct, frozen=True):
    """What an answer must be: any text, a JSON object, or JSON that fits a schema.

    A schema may have a name, and be `strict`: then nothing else may go out. `extra` holds the client's further fields.
    """

    kind: Literal["text", "object", "schema"]
    schema: Mapping[str, Any] | None = None
    name: str | None = None
    strict: bool | None = None
    extra: Mapping[str, Any] = {}


class Limits(msgspec.Struct, frozen=True):
    """The most tokens of an answer: of its `text` alone, and in `total`, with reasoning; None for no limit."""

    text: int | None = None
    total: int | None = None


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are chosen; None where the client leaves it to the model. `bias` is by token id, from -100 to 100."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    bias: Mapping[str, float] | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """One request for an answer.

    `n` choices are wanted of this conversation and of each of `further_prompts` (those of a legacy completion).
    `effort` is how much reasoning the client asked for, None if it did not. `passthrough` are further fields, under the
    client format's names: only an upstream of the same format takes them.

    What a client API asks of the middle: `wants_usage` of a stream (a whole answer has it), `counts_first` that the
    prompt's tokens are counted before the answer begins (event Counted), `image_tokens` what an image counts, and
    `emulate` the fields that are emulated even where an upstream takes them (of EMULATED in emulation/prepare.py).
    `own` is that API's own value for its renderer: no other reads it.

    `trace` are headers by which all who see a request find it in their logs. For upstreams that take text only,
    `marker` is the number of the frames that the conversation holds already, 0 if it holds none, and `instructions`
    the number of messages that stand before the client's own.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    n: int = 1
    further_prompts: tuple[tuple[Message, ...], ...] = ()
    tools: tuple[Tool | Passthrough, ...] = ()
    tool_choice: ToolChoice | Passthrough | None = None
    parallel_calls: bool | None = None
    response_format: ResponseFormat | Passthrough | None = None
    stop: tuple[str, ...] = ()
    limits: Limits = Limits()
    sampling: Sampling = Sampling()
    effort: str | None = None
    passthrough: Mapping[str, Any] = {}
    wants_usage: bool = False
    counts_first: bool = False
    image_tokens: int = 0
    emulate: frozenset[str] = frozenset()
    own: Any = None
    trace: Mapping[str, str] = {}
    marker: int = 0
    instructions: int = 0

    @property
    def offers_tools(self) -> bool:
        """Whether the model may call tools: those of `tools`, or those that instructions in `messages` describe."""
        return bool(self.tools or self.marker)
