"""The table of faults: how an upstream misbehaves, and what a client then sees (docs/contract.md, section 7).

A case is a name, the steps that its answer is sent in, and one outcome: the same for every protocol, except for those
under `unlike`. The server sends it, test_faults.py compares, and page.py writes docs/faults.md from it.
"""

import socket

from tests.live.faults.bodies import CODINGS, ENDS, FRAMINGS
from tests.live.faults.events import EVENTS, PAUSES, SIZES, TEXTS, TIMES
from tests.live.faults.heads import HEADS, STATUSES, TYPES
from tests.live.faults.outcomes import (
    BROKEN,
    GOOD,
    NOT_CONNECTED,
    UNREACHABLE,
    UNTRUSTED,
    Case,
)
from tests.live.faults.sending import (
    Answer,
    fin,
    pause,
)

# Kept connections: what comes of the *next* request


def hang_up(connection: socket.socket) -> None:
    """Close as soon as the next request arrives."""
    connection.recv(65536)
    fin(connection)


KEPT = [
    Case(
        "a kept connection that is closed while idle", lambda a: [*a.good(), pause(0.2), fin], GOOD, pause_seconds=0.5
    ),
    Case(
        "a kept connection that is closed under the next request",
        lambda a: [*a.good(), hang_up],
        BROKEN,
        pause_seconds=0.1,  # it rests a little before it is used again
    ),
]

# Addresses: no connection comes about at all

ADDRESSES = [
    Case("a port without a listener", lambda a: [], UNREACHABLE),
    Case("a name that does not exist", lambda a: [], UNREACHABLE),
    Case("a proxy that does not let us through", lambda a: [], UNREACHABLE),
    Case("https to a server that hangs up", lambda a: [], UNREACHABLE),
    Case("https to a server that speaks http", lambda a: [], UNTRUSTED),
    Case("a certificate of an unknown authority", lambda a: [], UNTRUSTED),
    Case("a certificate that is its own authority", lambda a: [], UNTRUSTED),
    Case("a certificate that has expired", lambda a: [], UNTRUSTED),
    Case("a certificate of another host", lambda a: [], UNTRUSTED),
    Case("https to a server that says nothing", lambda a: [], NOT_CONNECTED),
    Case("a server that takes no connections", lambda a: [], NOT_CONNECTED),
]

GOOD_CASE = Case("good", Answer.good, GOOD)
MATRIX: dict[str, list[Case]] = {
    "Before the answer begins": HEADS,
    "Statuses": STATUSES,
    "Content types": TYPES,
    "Framing": FRAMINGS,
    "Codings": CODINGS,
    "Ends": ENDS,
    "Text and lines": TEXTS,
    "Events": EVENTS,
    "Time": [*TIMES, *PAUSES],
    "Size": SIZES,
}
ALL = [case for cases in MATRIX.values() for case in cases]
CASES = {case.slug: case for case in [GOOD_CASE, *KEPT, *ALL]}
assert len(CASES) == len(ALL) + len(KEPT) + 1, "each case has a name of its own"
