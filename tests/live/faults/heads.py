"""Faults before the body: no head, a bad head, statuses, content types."""

import itertools
from collections.abc import Callable, Iterator

from tests.live.faults.answers import DATA_STREAM, OPENAI, UI_STREAM
from tests.live.faults.outcomes import (
    BROKEN,
    FAILED,
    GOOD,
    INCOMPLETE,
    LIMITED,
    MALFORMED,
    NOT_ALLOWED,
    NOT_FOUND,
    NOTHING_CAME,
    REJECTED,
    SILENT,
    UNAVAILABLE,
    Case,
    Outcome,
)
from tests.live.faults.sending import (
    LAST,
    UNTIL_CLOSE,
    Answer,
    Step,
    bomb,
    chunk,
    fin,
    for_ever,
    refuse,
    reset,
    slowly,
    stall,
)

JSON = b"Content-Type: application/json"
HTML = b"Content-Type: text/html; charset=utf-8"
NO = b'{"error": {"message": "The kitchen is closed.", "type": "no", "code": "closed"}}'
PAGE = b"<!DOCTYPE html><html><head><title>No</title></head><body><h1>No</h1><hr>nginx</body></html>"
GZIP = b"Content-Encoding: gzip"
A_DATE = "Wed, 21 Oct 2099 07:28:00 GMT"

# Before the head


def many_heads(line: bytes) -> Callable[[Answer], Iterator[Step]]:
    return lambda a: itertools.chain((b"HTTP/1.1 200 OK\r\n",), for_ever(line * 100))


HEADS = [
    Case("closed without an answer", lambda a: [fin], BROKEN),
    Case("reset without an answer", lambda a: [reset], BROKEN),
    Case("closed inside the head", lambda a: [b"HTTP/1.1 200 OK\r\n", fin], BROKEN),
    Case("reset inside the head", lambda a: [a.head()[:30], reset], BROKEN),
    Case("something that is not HTTP", lambda a: [b"SSH-2.0-OpenSSH_9.2p1\r\n", fin], MALFORMED),
    Case("a status that is no number", lambda a: [b"HTTP/1.1 OK 200\r\n\r\n", fin], MALFORMED),
    Case("a header line without end", many_heads(b"x" * 100), MALFORMED),
    Case("header lines without end", many_heads(b"X-Header: and on\r\n"), MALFORMED),
    Case("no answer at all", lambda a: [stall], SILENT),
    Case("a head that comes too slowly", lambda a: slowly(a.head(), 0.3), SILENT),
    Case("a head that comes byte by byte", lambda a: [*slowly(a.head(), 0.002), *a.good()[1:]], GOOD),
    Case("100 Continue, then an answer", lambda a: [b"HTTP/1.1 100 Continue\r\n\r\n", *a.good()], GOOD),
    Case(
        "103 Early Hints, then an answer",
        lambda a: [b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n", *a.good()],
        GOOD,
    ),
    Case("100 Continue, then silence", lambda a: [b"HTTP/1.1 100 Continue\r\n\r\n", stall], SILENT),
    Case("100 Continue without end", lambda a: for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), MALFORMED),
    Case("103 Early Hints without end", lambda a: for_ever(b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.1), MALFORMED),
    Case("101 Switching Protocols", lambda a: [b"HTTP/1.1 101 No\r\nUpgrade: x\r\n\r\n", *a.frames, fin], MALFORMED),
    Case("cookies", lambda a: a.good(b"Set-Cookie: user_id=them; Path=/", b"Set-Cookie: a=b"), GOOD),
]

# Statuses


def status(number: int, outcome: Outcome) -> list[Case]:
    return [
        Case(f"status {number} with JSON", lambda a: refuse(number, JSON, body=NO), outcome),
        Case(f"status {number} with a page", lambda a: refuse(number, HTML, body=PAGE), outcome),
        Case(f"status {number} with nothing", lambda a: refuse(number), outcome),
    ]


def redirect(number: int) -> Case:
    return Case(
        f"redirect {number}",
        lambda a: refuse(number, HTML, b"Location: " + a.address.encode() + b"/redirected", body=PAGE),
        FAILED,
    )


def retry_after(number: int, what: str, value: str, outcome: Outcome) -> Case:
    header = b"Retry-After: " + value.encode()
    return Case(f"status {number}, Retry-After {what}", lambda a: refuse(number, JSON, header, body=NO), outcome)


RETRIES = [
    retry_after(number, what, value, outcome._replace(retry_after=passed_on))
    for number, outcome in ((429, LIMITED), (503, UNAVAILABLE))
    for what, value, passed_on in (
        ("7", "7", "7"),
        ("ten years", "315360000", "315360000"),
        ("a date", A_DATE, A_DATE),
        ("soon", "soon", "5"),
        ("-1", "-1", "5"),
        ("1e9", "1e9", "5"),
        ("a hundred digits", "9" * 100, "5"),
    )
]
LIMITED_7 = LIMITED._replace(retry_after="7")
REFUSED = (b"HTTP/1.1 429 No", JSON, b"Retry-After: 7")
STATUSES = [
    *map(redirect, (301, 302, 303, 307, 308)),
    *itertools.chain.from_iterable(
        status(number, outcome)
        for number, outcome in (
            (400, REJECTED),
            (401, NOT_ALLOWED),
            (403, NOT_ALLOWED),
            (404, NOT_FOUND),
            (408, FAILED),
            (409, FAILED),
            (413, REJECTED),
            (422, REJECTED),
            (429, LIMITED),
            (500, FAILED),
            (502, FAILED),
            (503, UNAVAILABLE),
            (504, FAILED),
        )
    ),
    Case("status 204", lambda a: [b"HTTP/1.1 204 No Content\r\n\r\n"], INCOMPLETE, NOTHING_CAME),
    Case(
        "status 204 with a body",
        lambda a: [a.head(status=b"204 No Content"), *a.good()[1:]],
        INCOMPLETE,
        NOTHING_CAME,
    ),
    Case("status 206", lambda a: [a.head(status=b"206 Partial Content"), *a.good()[1:]], GOOD),
    Case("status 304", lambda a: [b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"], FAILED),
    Case("status 999", lambda a: refuse(999), FAILED),
    *RETRIES,
    Case(
        "status 429 and a body that stalls",
        lambda a: [b"\r\n".join((*REFUSED, b"Content-Length: 1000", b"", NO)), stall],
        LIMITED_7,
    ),
    Case(
        "status 429 and a body without end",
        lambda a: itertools.chain([b"\r\n".join((*REFUSED, UNTIL_CLOSE, b"", b""))], for_ever(b" " * 65536)),
        LIMITED_7,
        load="noisy",
    ),
    Case(
        "status 429 and a body that is cut",
        lambda a: [b"\r\n".join((*REFUSED, b"Content-Length: 1000", b"", NO)), reset],
        LIMITED_7,
    ),
    Case(
        "status 429 and a bomb",
        lambda a: [b"\r\n".join((*REFUSED, GZIP, UNTIL_CLOSE, b"", b"")), *bomb(bytes(2**20), 1024), fin],
        LIMITED_7,
        load="heavy",
    ),
]

# What the head says of the body


def typed(name: bytes, *headers: bytes) -> Callable[[Answer], list[Step]]:
    """A good answer under another content type; with the protocol's own version header, if it has one."""
    return lambda a: [a.head(headers=(*name.splitlines(), *a.protocol.headers[1:])), *a.good()[1:]]


BY_VERSION = {DATA_STREAM: GOOD, UI_STREAM: GOOD}  # the version header counts for more
TYPES = [
    Case("a page with status 200", lambda a: [a.head(headers=(HTML,)), chunk(PAGE), LAST], MALFORMED),
    Case("JSON with status 200", lambda a: [a.head(headers=(JSON,)), chunk(NO), LAST], MALFORMED, {OPENAI: FAILED}),
    Case("an answer that calls itself text/html", typed(HTML), MALFORMED, BY_VERSION),
    Case("an answer that calls itself application/json", typed(JSON), MALFORMED, {**BY_VERSION, OPENAI: GOOD}),
    Case("no content type", typed(b""), GOOD),
    Case("no headers of its own at all", lambda a: [a.head(headers=()), *a.good()[1:]], GOOD),
    Case(
        "headers in capitals",
        lambda a: [a.head(headers=[header.upper() for header in a.protocol.headers]).upper(), *a.good()[1:]],
        GOOD,
    ),
]
