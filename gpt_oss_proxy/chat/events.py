"""What an upstream answers, in no upstream's and no client's format.

An answer is a sequence of these: at most one Started, at most one Counted before all output, any deltas, at most one
Usage, and one Finish, the last. It comes in lists; where it has several choices, each list begins with the Choice that
it belongs to. An answer that fails has no Finish: the iterator of its events raises a GatewayError instead.
"""

from collections.abc import Generator, Iterable
from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class Started(msgspec.Struct, frozen=True, tag=True):
    """The upstream has begun. `reference` is its own id of this answer (a ChatKit thread, a completion id)."""

    reference: str


class Choice(msgspec.Struct, frozen=True, tag=True):
    """What follows in this list belongs to this choice of the answer; without one it belongs to choice 0."""

    index: int


class TextDelta(msgspec.Struct, frozen=True, tag=True):
    """New text of the answer, never empty."""

    text: str


class ReasoningDelta(msgspec.Struct, frozen=True, tag=True):
    """New text of the model's reasoning, never empty."""

    text: str


class TextReplaced(msgspec.Struct, frozen=True, tag=True):
    """All text so far is to be read anew: the upstream took some of it back.

    The new text is `text`, with what stays of the text so far put into it: `kept` is (place in `text`, start and end in
    the text so far) of each such piece, in characters. So an upstream's decoder need not keep what it has emitted.
    Only a reader that has shown nothing yet can follow; a client that was streamed to keeps what it has.
    """

    text: str
    kept: tuple[tuple[int, int, int], ...] = ()

    @classmethod
    def of(cls, pieces: Iterable[str | tuple[int, int]]) -> "TextReplaced":
        """Return the event for a text that consists of these: new text, or (start, end) in the text so far."""
        texts: list[str] = []
        kept: list[tuple[int, int, int]] = []
        place = 0
        for piece in pieces:
            if isinstance(piece, str):
                texts.append(piece)
                place += len(piece)
            else:
                kept.append((place, *piece))
        return cls("".join(texts), tuple(kept))

    def applied(self, so_far: str) -> str:
        """Return the text as it is to be read now."""
        pieces: list[str] = []
        place = 0
        for until, start, end in self.kept:
            pieces += (self.text[place:until], so_far[start:end])
            place = until
        return "".join((*pieces, self.text[place:]))


class ToolCallDelta(msgspec.Struct, frozen=True, tag=True):
    """A tool call begins (`id` and `name` set) or its JSON `arguments` grow. `index` counts the calls of an answer.

    `extra` are fields that its server put beside it, and wants back with it.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    extra: dict[str, Any] = {}


class Extra(msgspec.Struct, frozen=True, tag=True):
    """Fields that no event here has, under their server's names: of the whole answer, of a choice, or of its message.

    Those of a message grow like deltas (see ExtraFields); the others replace what they were before.
    """

    of: Literal["answer", "choice", "message"]
    fields: dict[str, Any]


class Usage(msgspec.Struct, frozen=True, tag=True):
    """Tokens of the whole answer. Reasoning counts as completion, cached tokens as prompt."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0


class Counted(msgspec.Struct, frozen=True, tag=True):
    """The prompt has so many tokens, counted here before the answer begins, where the request asks for that.

    Usage that the upstream reports later may differ.
    """

    prompt_tokens: int


class Finish(msgspec.Struct, frozen=True, tag=True):
    """The answer is whole. `reason` is choice 0's, `others` are those of the further choices, in their order.

    `stop` is the stop word that ended choice 0, '' if none did or if it is not known.
    """

    reason: FinishReason
    others: tuple[FinishReason, ...] = ()
    stop: str = ""


Event = Started | Choice | TextDelta | ReasoningDelta | TextReplaced | ToolCallDelta | Extra | Counted | Usage | Finish
Lists = Generator[list[Event], None, None]
