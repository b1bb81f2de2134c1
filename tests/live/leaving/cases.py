"""Who leaves, where and how: the kinds of requests, the positions in each, and the ways of leaving."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tests.live.leaving.client import HOWS, How
from tests.live.leaving.upstream import piece_count, words
from tests.live.load.script import PROTOCOLS

# Positions: below 0 the upstream is not asked yet; from 0 on so many pieces of the answer have been sent, and all that
# is shown of them was read; the one behind the last: the client has read the whole answer.
HEAD, BODY, SENT, ASKED = -3, -2, -1, 0

# Of what is not as usual the name of a case tells the upstream.
_MENDED = "mended"
_LONG = re.compile(r"long(\d)")
# More than a connection takes whose client does not read (3.0 MB), and less than what is not recorded any more.
_LONG_CHARACTERS = 3_600_000
FIRST = "x-stainless-retry-count: 0"
_TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
}
_still = itertools.count()
_MARKER = re.compile(rb"\[#(\d+) call ")


class Variant(NamedTuple):
    """A kind of request. `{name}` in a header stands for the case's name.

    `asks` is how many answers the upstream is asked for at the same time. With `mended` it is asked twice, one after
    the other: its first answer has a fault. A client that `stops` reads nothing, though the upstream sends all: at its
    position is a text that does not go into the buffers on the way. One that `has_next` has sent its next request, too.
    `lands` is the worker of a second request: with `adopts` a retry that adopts the answer of a first client, which has
    left before its status; else another client with the same key.
    """

    name: str
    protocol: str
    headers: tuple[str, ...] = ()
    fields: Mapping[str, Any] = {}
    asks: int = 1
    mended: bool = False
    stops: bool = False
    has_next: bool = False
    adopts: bool = False
    lands: Literal["", "same", "other"] = ""

    @property
    def model(self) -> str:
        return PROTOCOLS[self.protocol].model

    @property
    def end(self) -> int:
        """The last position."""
        return piece_count(self.protocol) + 1

    @property
    def positions(self) -> Sequence[int]:
        return (0, 1) if self.stops else range(HEAD, self.end + 1)


_TOOLS = {"tools": [_TOOL], "stop": ["STOP", "\n\nUser:"]}
_KEY = "Idempotency-Key: {name}"
VARIANTS = (
    Variant("plain", "openai"),
    Variant("with SDK headers", "chatkit", (FIRST, "x-stainless-lang: python", "x-stainless-timeout: 600")),
    Variant("with SDK headers, openai", "openai", (FIRST,)),
    Variant("with a key", "data", (_KEY,)),
    Variant("with a key that another worker's client has, too", "chatkit", (_KEY,), lands="other"),
    Variant("with tools and stop words", "chatkit", fields=_TOOLS),
    Variant("with tools and SDK headers", "chatkit", (FIRST,), _TOOLS),
    Variant("whose tool call is asked for again", "chatkit", fields=_TOOLS, mended=True),
    Variant("with two choices", "openai", fields={"n": 2}, asks=2),
    Variant("with two choices and SDK headers", "data", (FIRST,), {"n": 2}, asks=2),
    Variant("with the next request behind", "data", has_next=True),
    Variant("whose client reads nothing", "openai", stops=True),
    Variant("whose client reads nothing, with SDK headers", "chatkit", (FIRST,), stops=True),
    Variant("whose client reads nothing, with a key", "openai", (_KEY,), stops=True),
    Variant("adopted", "openai", (FIRST,), adopts=True, lands="same"),
    Variant("adopted from another worker", "chatkit", (FIRST,), adopts=True, lands="other"),
)


class Case(NamedTuple):
    """One client that leaves. With `goes_on` the upstream sends the rest of its answer then; else nothing more."""

    name: str
    variant: Variant
    position: int
    how: How
    streamed: bool
    goes_on: bool

    @property
    def body(self) -> dict[str, Any]:
        message = {"role": "user", "content": f"::case {self.name}:: Look."}
        return {"model": self.variant.model, "messages": [message], "stream": self.streamed, **self.variant.fields}

    @property
    def headers(self) -> tuple[str, ...]:
        return tuple(header.format(name=self.name) for header in self.variant.headers)

    def __str__(self) -> str:
        place = {HEAD: "in the head", BODY: "in the body", SENT: "after the request", self.variant.end: "at the end"}
        streamed, rest = "streamed" if self.streamed else "whole", "goes on" if self.goes_on else "is silent"
        position = place.get(self.position, f"at {self.position}")
        return f"{self.name} {self.variant.name}, {streamed}, {position}, {self.how}, the upstream {rest}"


def cases_of(variant: Variant, run: str) -> Iterator[Case]:
    """Yield all of them. Their names occur in no other run."""
    number = itertools.count()
    for position, how, streamed in itertools.product(variant.positions, HOWS, (True, False)):
        # Half of the upstreams go on, in turn, where that makes a difference.
        goes_on = (position + HOWS.index(how) + streamed) % 2 == 0 and HEAD < position < variant.end
        kind = _MENDED if variant.mended else f"long{position}" if variant.stops else "usual"
        name = f"{kind}-{run}-v{VARIANTS.index(variant)}n{next(number)}"
        yield Case(name, variant, position, how, streamed, goes_on and not variant.stops)


def still_answered() -> list[Case]:
    """Return cases of clients that wait for their answers, whole and streamed, at each upstream."""
    names = [(streamed, variant) for streamed in (True, False) for variant in VARIANTS[:4]]
    return [Case(f"still{next(_still)}", variant, variant.end, "fin", streamed, False) for streamed, variant in names]


def unusual_texts(name: str, number: int, request: bytes) -> list[str] | None:
    """Return what the upstream answers, if it is not as usual: see Variant."""
    if found := _LONG.match(name):
        texts = words(name, number)
        texts[int(found[1])] += "x" * _LONG_CHARACTERS
        return texts
    if number == 1 and name.startswith(_MENDED):
        marker = _MARKER.search(request)
        assert marker, request
        return [f"[#{marker[1].decode()} call ", 'of_no_tool] {"a"', ': "b"}']
    return None
