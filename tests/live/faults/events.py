"""Faults of the events in the body: text, lines, JSON, time and size."""

import itertools
from collections.abc import Callable, Mapping

from tests.live.faults.answers import DATA_STREAM, OPENAI, SSE, Protocol
from tests.live.faults.bodies import GZIP
from tests.live.faults.outcomes import (
    GOOD,
    INCOMPLETE,
    MALFORMED,
    NOTHING_CAME,
    SILENT,
    STALLED,
    TOO_LARGE,
    TOO_LONG,
    Case,
    Outcome,
)
from tests.live.faults.sending import (
    LAST,
    UNTIL_CLOSE,
    Answer,
    Step,
    chunk,
    chunks,
    compressed,
    fin,
    for_ever,
    in_one,
    pause,
    slowly,
    stall,
)

# Text and lines


def ended_by(end: bytes) -> Callable[[Answer], list[Step]]:
    return lambda a: [a.head(), *chunks(frame.replace(b"\n", end) for frame in a.frames), LAST]


def in_two_lines(a: Answer) -> list[Step]:
    """Break each event at its first comma between fields."""
    second = b',\ndata: "' if a.protocol in SSE else b',\n"'
    return [a.head(), *chunks(frame.replace(b',"', second, 1) for frame in a.frames), LAST]


def between(what: bytes) -> Callable[[Answer], list[Step]]:
    return lambda a: [a.head(), *chunks(what + frame for frame in a.frames), LAST]


TEXTS = [
    Case(
        "text that is no UTF-8",
        lambda a: [a.head(), *chunks([*a.half, a.word.replace(b"\xf0", b"\xff\xfe"), *a.rest]), LAST],
        MALFORMED.after("half"),
        texts=("Grüße an ", "👩", " und", " an die Welt."),
    ),
    Case("a character cut in two halves", Answer.good, GOOD, texts=("Hi \ud83d", "\ude00 there"), heard="Hi 😀 there"),
    Case("half a character", Answer.good, GOOD, texts=("Hi \ud83d", " there", "\ude00"), heard="Hi \ufffd there\ufffd"),
    Case("line separators inside the text", Answer.good, GOOD, texts=("a\u2028b\u2029", "c\x85d\x0b\x0ce\x1e")),
    Case("NUL and its kin inside the text", Answer.good, GOOD, texts=("a\x00b", "c\x7f\x1b[2Jd\ufeff")),
    Case(
        "text that looks like protocol",
        Answer.good,
        GOOD,
        texts=('data: [DONE]\n\n0:"x"\n', "\n\ndata: {}\n\n", "d:{}\n"),
    ),
    Case("lines that end with CRLF", ended_by(b"\r\n"), GOOD),
    Case("lines that end with CR", ended_by(b"\r"), GOOD),
    Case(
        "a byte order mark", lambda a: [a.head(), *chunks([b"\xef\xbb\xbf" + a.frames[0], *a.frames[1:]]), LAST], GOOD
    ),
    Case("a byte order mark in pieces", lambda a: [a.head(), *chunks([b"\xef", b"\xbb\xbf", *a.frames]), LAST], GOOD),
    Case("an event in two lines", in_two_lines, GOOD, {DATA_STREAM: MALFORMED}),
    Case(
        "other fields of the event stream",
        between(b": comment\nevent: message\nid: 7\nretry: 3\nfoo\n"),
        GOOD,
        only=SSE,
    ),
    Case(
        "no space after the colon",
        lambda a: [a.head(), *chunks(frame.replace(b"data: ", b"data:") for frame in a.frames), LAST],
        GOOD,
        only=SSE,
    ),
    Case("comments between the events", between(b": keep-alive\n\n"), GOOD, {DATA_STREAM: MALFORMED}),
    Case("empty lines between the events", between(b"\n\n\n"), GOOD),
    Case("events without data", between(b"data: \n\ndata\n\nevent: ping\n\n"), GOOD, only=SSE),
    Case(
        "nothing but comments",
        lambda a: [a.head(), chunk(b": keep-alive\n\n" * 50), LAST],
        INCOMPLETE,
        {**NOTHING_CAME, DATA_STREAM: MALFORMED},
    ),
    Case("nothing but empty lines", lambda a: [a.head(), chunk(b"\n" * 500), LAST], INCOMPLETE, NOTHING_CAME),
]

# Events


def instead(data: str | bytes) -> list[Callable[[Answer], list[Step]]]:
    """Something else as first event, and in the middle of an answer."""

    def piece(a: Answer) -> bytes:
        return data if isinstance(data, bytes) else a.record(data if a.protocol in SSE else f"0:{data}")

    return [
        lambda a: [a.head(), *chunks([piece(a), *a.frames]), LAST],
        lambda a: [a.head(), *chunks([*a.half, piece(a), *a.rest]), LAST],
    ]


def malformed(what: str, data: str | bytes, unlike: Mapping[Protocol, Outcome] | None = None) -> list[Case]:
    first, middle = instead(data)
    return [
        Case(f"{what} at the beginning", first, MALFORMED, unlike or {}),
        Case(f"{what} in the middle", middle, MALFORMED.after("half"), unlike or {}),
    ]


HEARTBEAT = {OPENAI: GOOD}  # what is no object is none of its events


EVENTS = [
    *malformed("JSON that is cut", '{"type":"text-delta","delta":"Hi'),
    *malformed("JSON without quotes", "{type: text-delta}"),
    *malformed("JSON without bottom", "[" * 100_000 + "]" * 100_000),
    *malformed("a number of 10,000 digits", '{"type":"x","n":' + "9" * 10_000 + "}"),
    *malformed("a list instead of an event", "[]", HEARTBEAT),
    *malformed("a number instead of an event", "7", HEARTBEAT),
    *malformed("null instead of an event", "null", HEARTBEAT),
]

# Time

TIMES = [
    Case("silence before the first event", lambda a: [a.head(), stall], SILENT),
    Case("silence after the first event", lambda a: [a.head(), *chunks(a.begun), stall], STALLED),
    Case("silence in the middle", lambda a: [a.head(), *chunks(a.half), stall], STALLED.after("half")),
    Case(
        "silence inside an event",
        lambda a: [a.head(), *chunks([*a.half, a.word[:-1]]), stall],
        STALLED.after("half"),
        {OPENAI: STALLED.after("some")},
    ),
    Case("silence after the terminal event", lambda a: [a.head(), *chunks(a.whole), stall], GOOD),
    Case(
        "an event that comes too slowly",
        lambda a: itertools.chain([a.head(framing=UNTIL_CLOSE), *a.half], slowly(a.word, 0.3)),
        STALLED.after("half"),
    ),
    Case(
        "events that come slowly",
        lambda a: [a.head(), *itertools.chain.from_iterable((chunk(f), pause(0.2)) for f in a.frames), LAST],
        GOOD,
    ),
    Case(
        "comments without end",
        lambda a: itertools.chain([a.head()], for_ever(chunk(b": keep-alive\n\n"), 0.1)),
        SILENT,
        {DATA_STREAM: MALFORMED},
    ),
    Case(
        "comments without end in the middle",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(b": keep-alive\n\n"), 0.1)),
        STALLED.after("half"),
        {DATA_STREAM: MALFORMED.after("half")},
    ),
    Case(
        "events without data, without end",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(b"data:\n\n"), 0.1)),
        STALLED.after("half"),
        only=SSE,
    ),
    Case(
        "empty lines without end",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(b"\n\n"), 0.1)),
        STALLED.after("half"),
    ),
    Case(
        "events that mean nothing, without end",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(a.noise), 0.1)),
        TOO_LONG.after("half"),
    ),
    Case(
        "events that mean nothing after the terminal event, without end",
        lambda a: itertools.chain([a.head(), *chunks(a.whole)], for_ever(chunk(a.noise), 0.1)),
        GOOD,
    ),
    Case(
        "text without end",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(a.word), 0.02)),
        TOO_LONG.after("some"),
    ),
    Case(
        "text without end, ten thousands of words a second",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(a.word) * 100, 0.002)),
        TOO_LONG.after("some"),
        load="noisy",
    ),
    Case(
        "comments without end, as fast as they go",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(b": keep-alive\n\n" * 1000))),
        STALLED.after("half"),
        only=SSE,
        load="noisy",
    ),
]

# An answer that pauses in the middle, in each framing: what came before the pause must be there at once.


def paused(framing: Callable[[int], bytes] | None, *headers: bytes) -> Callable[[Answer], list[Step]]:
    def steps(a: Answer) -> list[Step]:
        half, rest = b"".join(a.half), b"".join(a.rest)
        if GZIP in headers:
            half, rest, end = compressed([half, rest])
            rest += end
        if framing is None:
            return [a.head(*headers), chunk(half), pause(PAUSE_SECONDS), chunk(rest), LAST]
        return [a.head(*headers, framing=framing(len(half + rest))), half, pause(PAUSE_SECONDS), rest, fin]

    return steps


PAUSE_SECONDS = 1.0
PAUSES = [
    Case("a pause, in chunks", paused(None), GOOD),
    Case("a pause, in a body with its length", paused(lambda size: b"Content-Length: %d" % size), GOOD),
    Case("a pause, in a body that ends with the connection", paused(lambda _size: UNTIL_CLOSE), GOOD),
    Case("a pause, in gzip that ends with the connection", paused(lambda _size: UNTIL_CLOSE, GZIP), GOOD),
    Case("a pause, in gzip", paused(None, GZIP), GOOD),
]

# Size

MEGABYTE = 2**20


def long_texts(pieces: int, megabytes: int) -> list[str]:
    return ["tell me a tale. " * (megabytes * MEGABYTE // 16)] * pieces


def in_large_chunks(a: Answer) -> list[Step]:
    body = in_one(a)
    return [a.head(), *chunks(body[start : start + 65536] for start in range(0, len(body), 65536)), LAST]


SIZES = [
    Case(
        "an event of 10 MB",
        Answer.good,
        GOOD,
        texts=("Hi", *long_texts(1, 10)),
        load="heavy",
    ),
    Case(
        "an event of 50 MB",
        lambda a: [a.head(), *chunks([*a.half, a.record('0:{"x":"' + "x" * 50 * MEGABYTE + '"}'), *a.rest]), LAST],
        TOO_LARGE.after("half"),
        load="heavy",
    ),
    Case(
        "a line without end",
        lambda a: itertools.chain([a.head(), *chunks(a.half), chunk(a.word[:12])], for_ever(chunk(b"x" * 65536))),
        TOO_LARGE.after("half"),
        load="heavy",
    ),
    Case(
        "an event of lines without end",
        lambda a: itertools.chain([a.head(), *chunks(a.half)], for_ever(chunk(b"data: and on and on\n" * 2000))),
        TOO_LARGE.after("half"),
        only=SSE,
        load="heavy",
    ),
    Case(
        "an answer of 40 MB",
        Answer.good,
        TOO_LARGE.after("some"),
        texts=("Grüße an ", *long_texts(40, 1)),
        load="heavy",
    ),
    Case(
        "1,000,000 events that mean nothing",
        lambda a: [a.head(), *chunks(a.half), *[chunk(a.noise * 1000)] * 1000, *chunks(a.rest), LAST],
        GOOD,
        load="heavy",
        seconds=60,
    ),
    Case(
        "100,000 comments",
        lambda a: [a.head(), *chunks(a.half), *[chunk(b": keep-alive\n\n" * 1000)] * 100, *chunks(a.rest), LAST],
        GOOD,
        load="heavy",
        only=SSE,
    ),
    Case("30,000 deltas", in_large_chunks, GOOD, texts=("word ",) * 30_000, load="heavy", seconds=60),
    Case("3,000 deltas, each in a chunk of its own", Answer.good, GOOD, texts=("word ",) * 3_000, load="heavy"),
]
