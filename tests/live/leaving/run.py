"""Many clients leave a gateway; then what is wrong is found."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.live.leaving.cases import HEAD, Case, still_answered
from tests.live.leaving.gateway import Gateway
from tests.live.leaving.leaver import Leaver

_AT_ONCE = 32
_CASE_SECONDS = 30  # longer than one takes, while so many others do


async def leave(gateway: Gateway, cases: Sequence[Case], *, at_once: bool = False) -> dict[str, Any]:
    """Let all leave, each when it is at its position, or when all are; return what is wrong afterwards, by kind.

    A gateway that all leave at once may be late, but not too late to have settled.
    """
    before = await gateway.steady()
    leavers = [Leaver(case, gateway) for case in cases]
    lands = Counter(case.variant.lands for case in cases)
    async with gateway.connected(2 * lands["same"] + lands["other"], lands["other"]):
        if at_once:
            failed = await _run(leavers, Leaver.come)
            for leaver in leavers:
                leaver.leave()
            failed |= await _run(leavers, Leaver.after)
        else:
            failed = await _run(leavers, Leaver.run)
        for leaver in leavers:
            await leaver.drop()
    held = await gateway.settle(before)
    answered = [Leaver(case, gateway) for case in still_answered()]
    failed |= await _run(answered, Leaver.run)
    await gateway.logged(name for leaver in leavers for name in leaver.requests)
    late = [f"{late:.2f} s: {leaver.case}" for leaver in leavers if (late := leaver.late_seconds) > 0]
    wrong = {
        "failed": failed,
        "held": held,
        "closed late": [] if at_once else late,
        "asked again": [f"{leaver.case}: {leaver.timeline}" for leaver in leavers if leaver.asked_again],
        **_wrong_records(gateway, leavers),
        "said": gateway.said,
    }
    gateway.said = []
    return {kind: what for kind, what in wrong.items() if what}


async def _run(leavers: Sequence[Leaver], do: Callable[[Leaver], Awaitable[None]]) -> dict[str, str]:
    """Let them do it, so many at a time. Return the errors by their cases."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(leaver: Leaver) -> None:
        async with turn, asyncio.timeout(_CASE_SECONDS):
            await do(leaver)

    errors = await asyncio.gather(*map(one, leavers), return_exceptions=True)
    failed = [(leaver, error) for leaver, error in zip(leavers, errors, strict=True) if error]
    return {str(leaver.case): f"{error!r} at {leaver.timeline}" for leaver, error in failed}


def _wrong_records(gateway: Gateway, leavers: Sequence[Leaver]) -> dict[str, list[str]]:
    wrong: dict[str, list[str]] = {"records": [], "outcomes": [], "adopted": []}
    for leaver in leavers:
        case = leaver.case
        for name in leaver.requests:
            records = gateway.records_of(name)
            if len(records) != 1:
                wrong["records"].append(f"{len(records)} of {name}: {case}")
                continue
            if records[0]["outcome"] not in leaver.outcomes(name):
                wrong["outcomes"].append(f"{records[0]['outcome']} of {name}: {case}")
            if leaver.has_adopted and records[0]["adopted"] != (name == leaver.requests[-1]):
                wrong["adopted"].append(f"{name}: {case}")
        if case.position == HEAD and gateway.records_of(f"{case.name}-last"):
            wrong["records"].append(f"of half a head: {case}")
    return wrong
