"""What a fault is, and what a client sees of it (docs/contract.md, section 7)."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from tests.live.faults.answers import CHATKIT, OPENAI, PROTOCOLS, Protocol
from tests.live.faults.sending import (
    Answer,
    Step,
)

# What a streamed client has heard when the failure is told: nothing (then the status tells it), the first words, all
# of the text, or a beginning whose length nobody can say.
Said = Literal["nothing", "half", "all", "some"]
# Light cases run many at once; noisy ones send without a pause until a limit of time, and heavy ones without any limit.
Load = Literal["light", "noisy", "heavy"]


class Outcome(NamedTuple):
    """A good answer, or a failure with these words. `retry_after` is the header that must come with it."""

    status: int = 200
    type: str = ""
    code: str = ""
    said: Said = "all"
    retry_after: str | None = None

    def after(self, said: Said) -> "Outcome":
        return self._replace(said=said)


def failure(status: int, kind: str, code: str, retry_after: str | None = None) -> Outcome:
    return Outcome(status, kind, code, "nothing", retry_after)


GOOD = Outcome()
UNREACHABLE = failure(502, "upstream_error", "upstream_unreachable")
UNTRUSTED = failure(502, "upstream_error", "upstream_tls")
BROKEN = failure(502, "upstream_error", "upstream_connection_error")
INCOMPLETE = failure(502, "upstream_error", "upstream_incomplete")
MALFORMED = failure(502, "upstream_error", "upstream_protocol_error")
TOO_LARGE = failure(502, "upstream_error", "upstream_too_large")
EMPTY = failure(502, "upstream_error", "upstream_empty_response")
FAILED = failure(502, "upstream_error", "upstream_error")
NOT_ALLOWED = failure(502, "upstream_error", "upstream_auth_required")
NOT_FOUND = failure(502, "upstream_error", "upstream_not_found")
REJECTED = failure(400, "upstream_error", "upstream_rejected")
LIMITED = failure(429, "rate_limit_error", "upstream_rate_limited", "5")
UNAVAILABLE = failure(503, "overloaded_error", "upstream_unavailable", "5")
NOT_CONNECTED = failure(504, "timeout_error", "upstream_connect_timeout")
SILENT = failure(504, "timeout_error", "upstream_first_event_timeout")
STALLED = failure(504, "timeout_error", "upstream_idle_timeout")
TOO_LONG = failure(504, "timeout_error", "total_timeout")


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One fault. `texts` are the answer's deltas, where the usual ones will not do; `heard` is the text they make."""

    name: str
    steps: Callable[[Answer], Iterable[Step]]
    outcome: Outcome
    unlike: Mapping[Protocol, Outcome] = dataclasses.field(default_factory=dict)
    only: Sequence[Protocol] = PROTOCOLS
    texts: Sequence[str] = ()
    heard: str = ""
    load: Load = "light"
    seconds: float = 20  # generous: other people's load is on the machine
    pause_seconds: float = 0  # before the next request, where that is the one that counts

    @property
    def slug(self) -> str:
        return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in self.name)

    def of(self, protocol: Protocol) -> Outcome:
        return self.unlike.get(protocol, self.outcome)


LINES = {OPENAI: INCOMPLETE.after("some")}  # its records end with their line
NOTHING_CAME = {CHATKIT: EMPTY}  # ChatKit has no terminal event, so a clean end without anything is another fault
