"""Faults of the body as HTTP sees it: its framing, its coding, its end."""

import gzip
import itertools
from collections.abc import Callable, Iterator, Sequence

from tests.live.faults.answers import CHATKIT, write
from tests.live.faults.heads import PAGE
from tests.live.faults.outcomes import (
    FAILED,
    GOOD,
    INCOMPLETE,
    LINES,
    MALFORMED,
    NOTHING_CAME,
    SILENT,
    STALLED,
    TOO_LARGE,
    Case,
)
from tests.live.faults.sending import (
    LAST,
    UNTIL_CLOSE,
    Answer,
    Step,
    bomb,
    bomb_in_a_bomb,
    bytewise,
    chunk,
    chunked,
    chunks,
    compressed,
    cork,
    fin,
    for_ever,
    in_one,
    reset,
    stall,
)

GZIP = b"Content-Encoding: gzip"
DEFLATE = b"Content-Encoding: deflate"
EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"  # of deflate: stored, of no length
ENDLESS_TRAILERS = b"0\r\n", b"X-Trailer: and on and on\r\n" * 100

# How the body is framed


def sized(a: Answer, length: bytes, frames: Sequence[bytes]) -> list[Step]:
    return [a.head(framing=b"Content-Length: " + length), *frames]


def length(a: Answer) -> bytes:
    return b"%d" % len(in_one(a))


FRAMINGS = [
    Case("a body that ends with the connection", lambda a: [a.head(framing=UNTIL_CLOSE), *a.frames, fin], GOOD),
    Case("a body with its length", lambda a: sized(a, length(a), a.frames), GOOD),
    Case("a length too large, then closed", lambda a: [*sized(a, b"99999", a.frames), fin], GOOD),
    Case("a length too large, then silence", lambda a: [*sized(a, b"99999", a.frames), stall], GOOD),
    Case(
        "a length too large, and half of the answer",
        lambda a: [*sized(a, b"99999", a.half), fin],
        INCOMPLETE.after("half"),
    ),
    Case(
        "a length too small",
        lambda a: [*sized(a, b"%d" % (len(b"".join(a.half)) + 3), a.frames), fin],
        INCOMPLETE.after("half"),
    ),
    Case("a length that is no number", lambda a: [*sized(a, b"many", a.frames), fin], MALFORMED),
    Case("a length below zero", lambda a: [*sized(a, b"-5", a.frames), fin], MALFORMED),
    Case("two lengths", lambda a: [*sized(a, b"5, 7", a.frames), fin], MALFORMED),
    Case("a length, and chunks nevertheless", lambda a: a.good(b"Content-Length: 5"), GOOD),
    Case("chunks with extensions", lambda a: [s.replace(b"\r\n", b";a=b\r\n", 1) for s in chunked(a)], GOOD),
    Case("chunk sizes in capitals and with zeros", lambda a: [zeros(step) for step in chunked(a)], GOOD),
    Case("each byte in a chunk of its own", lambda a: [a.head(), *chunks(bytewise(in_one(a))), LAST], GOOD),
    Case("each byte in a packet of its own", lambda a: [*a.good()[:1], *bytewise(b"".join(chunked(a)[1:]))], GOOD),
    *(
        Case(f"a chunk size that {what}", steps, INCOMPLETE.after("half"), LINES if "larger" in what else {})
        for what, steps in {
            "is no number": lambda a: [a.head(), *chunks(a.half), b"xyz\r\n", *a.rest, LAST, fin],
            "is missing": lambda a: [a.head(), *chunks(a.half), b"\r\n", *a.rest, LAST, fin],
            "is below zero": lambda a: [a.head(), *chunks(a.half), b"-5\r\n", *a.rest, LAST, fin],
            "is larger than the rest": lambda a: [a.head(), *chunks(a.half), b"ffff\r\n", a.word[:-1], fin],
            "is astronomical": lambda a: [a.head(), *chunks(a.half), b"f" * 40 + b"\r\n", a.word[:-1], fin],
            "has no end": lambda a: [a.head(), *chunks(a.half), b"1" * 100_000, fin],
        }.items()
    ),
    Case(
        "no chunks, but the head says so",
        lambda a: [a.head(), *a.frames, fin],
        INCOMPLETE,
    ),
    Case("an answer without its last chunk", lambda a: [*a.good()[:-1], fin], GOOD),
    Case("an answer without its last chunk, then silence", lambda a: [*a.good()[:-1], stall], GOOD),
    Case("trailers", lambda a: [*a.good()[:-1], b"0\r\nX-Trailer: 1\r\n\r\n"], GOOD),
    Case(
        "trailers without end after an answer",
        lambda a: itertools.chain([*a.good()[:-1], ENDLESS_TRAILERS[0]], for_ever(ENDLESS_TRAILERS[1])),
        GOOD,
        load="noisy",
    ),
    Case(
        "trailers without end after half of an answer",
        lambda a: itertools.chain([a.head(), *chunks(a.half), ENDLESS_TRAILERS[0]], for_ever(ENDLESS_TRAILERS[1])),
        INCOMPLETE.after("half"),
        load="noisy",
    ),
    Case("an answer, then closed without notice", lambda a: [cork, *a.good(), fin], GOOD),
    Case(
        "an answer, then another one without a request",
        lambda a: [b"".join(chunked(a)) + b"".join(chunked(a)).replace(b"Gr", b"No")],
        GOOD,
    ),
]


def zeros(data: bytes) -> bytes:
    size, _, rest = data.partition(b"\r\n")
    return data if data.startswith(b"HTTP") else b"000" + size.upper() + b"\r\n" + rest


# Where it breaks off

MORE = write({"type": "thread.item.added", "item": {"id": "wf_2", "type": "workflow", "workflow": {"tasks": []}}})
ENDS = [
    Case("an empty body", lambda a: [a.head(), LAST], INCOMPLETE, NOTHING_CAME),
    Case(
        "an empty body that ends with the connection",
        lambda a: [a.head(framing=UNTIL_CLOSE), fin],
        INCOMPLETE,
        NOTHING_CAME,
    ),
    Case("reset before the first event", lambda a: [a.head(), reset], INCOMPLETE),
    Case("closed before the first event", lambda a: [a.head(), fin], INCOMPLETE),
    Case("reset in the middle", lambda a: [a.head(), *chunks(a.half), reset], INCOMPLETE.after("half")),
    Case("closed in the middle", lambda a: [a.head(), *chunks(a.half), fin], INCOMPLETE.after("half")),
    Case(
        "reset inside an event",
        lambda a: [a.head(), *chunks(a.half), chunk(a.word)[:-4], reset],
        INCOMPLETE.after("half"),
    ),
    Case("a clean end in the middle", lambda a: [a.head(), *chunks(a.half), LAST], INCOMPLETE.after("half")),
    Case(
        "all of the text, and no terminal event",
        lambda a: [a.head(), *chunks(a.endless), LAST],
        INCOMPLETE.after("all"),
    ),
    Case(
        "the same, with a body that ends with the connection",
        lambda a: [a.head(framing=UNTIL_CLOSE), *a.endless, fin],
        INCOMPLETE.after("all"),
    ),
    Case(
        "reset after the terminal event of one message, while more is at work",
        lambda a: [a.head(), *chunks([*a.whole, a.record(MORE)]), reset],
        INCOMPLETE.after("all"),
        only=(CHATKIT,),
    ),
    Case("reset after the terminal event", lambda a: [a.head(), *chunks(a.whole), reset], GOOD),
    Case("the terminal event twice", lambda a: [a.head(), *chunks([*a.whole, a.whole[-1]]), LAST], GOOD),
    Case(
        "garbage after the terminal event",
        lambda a: [a.head(), *chunks([*a.whole, b"\x00\xff garbage\n\n"]), LAST],
        GOOD,
    ),
    Case("a page after the terminal event", lambda a: [a.head(), *chunks([*a.whole, PAGE, b"\n\n"]), LAST], GOOD),
    Case(
        "malformed JSON after the terminal event",
        lambda a: [a.head(), *chunks([*a.whole, a.record('2:{"type":')]), LAST],
        GOOD,
    ),
    Case("an error event at the beginning", lambda a: [a.head(), *chunks([*a.begun, a.error]), LAST], FAILED),
    Case("an error event in the middle", lambda a: [a.head(), *chunks([*a.half, a.error]), LAST], FAILED.after("half")),
]

# Codings of the body, although none was asked for


def coded(window: int, header: bytes) -> Callable[[Answer], list[Step]]:
    return lambda a: [a.head(header), *chunks(compressed(a.frames, window)), LAST]


def nothing_for_ever(a: Answer, frames: Sequence[bytes]) -> Iterator[Step]:
    begun = [a.head(DEFLATE), *chunks(compressed(frames, -15, end=False))]
    return itertools.chain(begun, for_ever(chunk(EMPTY_BLOCK * 1000)))


def two_members(a: Answer) -> list[Step]:
    return [a.head(GZIP), chunk(gzip.compress(b"".join(a.half))), chunk(gzip.compress(b"".join(a.rest))), LAST]


def wrong_sum(a: Answer) -> list[Step]:
    *pieces, end = compressed(a.frames)
    return [a.head(GZIP), *chunks(pieces), chunk(end[:-8] + b"\x00" * 8), LAST]


def twice(header: bytes) -> Callable[[Answer], list[Step]]:
    return lambda a: [a.head(header), chunk(gzip.compress(gzip.compress(in_one(a)))), LAST]


CODINGS = [
    Case("gzip", coded(31, GZIP), GOOD),
    Case("gzip by its older name", coded(31, b"Content-Encoding: x-gzip"), GOOD),
    Case("gzip in one piece", lambda a: [a.head(GZIP), chunk(gzip.compress(in_one(a))), LAST], GOOD),
    Case("gzip in two members", two_members, GOOD),
    Case("gzip twice", twice(b"Content-Encoding: gzip, gzip"), GOOD),
    Case("gzip twice, named without a space", twice(b"Content-Encoding: gzip,gzip"), GOOD),
    Case("deflate", coded(15, DEFLATE), GOOD),
    Case("deflate without its own head", coded(-15, DEFLATE), GOOD),
    Case("a coding that is none", lambda a: a.good(b"Content-Encoding: identity"), GOOD),
    Case(
        "a coding that we cannot read",
        lambda a: [a.head(b"Content-Encoding: br"), chunk(b"\x0b\x02\x80\xde\xad\xbe\xef\x03\n\n"), LAST],
        MALFORMED,
    ),
    Case("plain text that calls itself gzip", lambda a: a.good(GZIP), MALFORMED),
    Case("gzip with a wrong sum at the end", wrong_sum, GOOD),
    Case(
        "gzip that is broken in the middle",
        lambda a: [a.head(GZIP), *chunks(compressed(a.half, end=False)), chunk(b"\xff" * 100), LAST],
        MALFORMED.after("half"),
    ),
    Case(
        "gzip that ends in the middle",
        lambda a: [a.head(GZIP), *chunks(compressed(a.half, end=False)), LAST],
        INCOMPLETE.after("half"),
    ),
    Case("empty blocks without end", lambda a: nothing_for_ever(a, []), SILENT, load="noisy"),
    Case(
        "empty blocks without end in the middle",
        lambda a: nothing_for_ever(a, a.half),
        STALLED.after("half"),
        load="noisy",
    ),
    Case("empty blocks without end after an answer", lambda a: nothing_for_ever(a, a.whole), GOOD, load="noisy"),
    Case(
        "a gzip bomb of 1 GB",
        lambda a: [a.head(GZIP), *chunks(bomb(b"x" * 2**20, 1024)), LAST],
        TOO_LARGE,
        load="heavy",
    ),
    Case(
        "a deflate bomb of 1 GB",
        lambda a: [a.head(DEFLATE), *chunks(bomb(b"x" * 2**20, 1024, 15)), LAST],
        TOO_LARGE,
        load="heavy",
    ),
    Case(
        "a bomb in a bomb",
        lambda a: [a.head(b"Content-Encoding: gzip, gzip"), chunk(bomb_in_a_bomb(1024)), LAST],
        TOO_LARGE,
        load="heavy",
    ),
]
