"""docs/faults.md, written from the table of faults: `python -m tests.live.faults.page > docs/faults.md`."""

import re
from collections.abc import Iterator, Sequence

from tests.live.faults.answers import PROTOCOLS, SSE, Protocol
from tests.live.faults.cases import ADDRESSES, KEPT, MATRIX, PAUSES
from tests.live.faults.outcomes import Case, Outcome

_HEAD = """\
# When an upstream fails

What a client sees of each fault of an upstream, not streamed and streamed. It is the same for ChatKit, both protocols
of the AI SDK and OpenAI-compatible servers, unless a row names one of them. This page is written from the table that
`tests/live/test_faults.py` plays through with real sockets, for every protocol and in both forms:
`python -m tests.live.faults.page > docs/faults.md`.

- **whole answer**: status 200, all of the text, and `finish_reason: "stop"`.
- **502 `upstream_incomplete`**: that status, and `{"error": {…, "code": "upstream_incomplete"}}`.
- **the text so far, then `upstream_incomplete`**: status 200, the chunks that came, one `data: {"error": …}` with that
  code, `[DONE]`, and no `finish_reason`. So it is once any text or reasoning has gone out; before that a stream fails
  with a status, too.

In each case, an answer that was cut is never reported as complete, no redirect is followed, no cookie is kept or passed
on, no message names a host, a path or a key, other requests are unaffected, and the next request succeeds. Retries and
circuits are off here (`RETRIES=0`, `BREAKER_FAILURES=0`): no upstream is asked twice.
"""
_SECTIONS = {"No connection": ADDRESSES, **MATRIX, "Kept connections: the next request": KEPT}
_TABLE = "| the upstream | not streamed | streamed |\n|---|---|---|\n"
_SAID = {"half": "the text so far", "all": "all of the text", "some": "the text so far"}
_BODY = re.compile(r"(status \d+) with (?:JSON|a page|nothing)")  # of an error status: makes no difference
_DAMAGE = [
    ("a good answer, closed or reset at any byte before its terminal event", "502", "the text so far, then an error"),
    ("the same after its terminal event", "whole answer", "whole answer"),
    ("null, a number, a string, a list, an object or true in place of any field", "whole answer, or 502", "the same"),
]


def page() -> str:
    """Return the page."""
    sections = (f"\n## {title}\n\n{_TABLE}{''.join(rows(cases))}" for title, cases in _SECTIONS.items())
    damage = "".join(f"| {' | '.join(row)} |\n" for row in _DAMAGE)
    return f"{_HEAD}{''.join(sections)}\n## Damage of any kind\n\n{_TABLE}{damage}"


def rows(cases: Sequence[Case]) -> Iterator[str]:
    """Yield the rows of a table."""
    shown = ""
    for case in cases:
        name = _BODY.sub(r"\1, with JSON, a page or nothing", case.name)
        if name != shown and case not in PAUSES:
            yield row(name + whose(case.only), case.outcome)
            yield from (row(f"… {protocol.name}", outcome) for protocol, outcome in case.unlike.items())
        shown = name
    if PAUSES[0] in cases:
        yield "| a pause in the middle, in any framing | whole answer | what came before the pause is there at once |\n"


def row(name: str, outcome: Outcome) -> str:
    return f"| {name} | {whole(outcome)} | {streamed(outcome)} |\n"


def whose(protocols: Sequence[Protocol]) -> str:
    if protocols == PROTOCOLS:
        return ""
    return " (event streams)" if protocols == SSE else f" ({', '.join(protocol.name for protocol in protocols)})"


def whole(outcome: Outcome) -> str:
    if not outcome.code:
        return "whole answer"
    wait = f", `retry-after: {outcome.retry_after}`" if outcome.retry_after else ""
    return f"{outcome.status} `{outcome.code}`{wait}"


def streamed(outcome: Outcome) -> str:
    if not outcome.code:
        return "whole answer"
    return f"{_SAID[outcome.said]}, then `{outcome.code}`" if outcome.said in _SAID else "the same"


if __name__ == "__main__":
    print(page(), end="")
