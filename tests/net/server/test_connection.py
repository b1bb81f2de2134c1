"""Requests over one connection, plain ones and odd ones in turn, and how it ends."""

import io
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import InvalidHeader, InvalidRequestLine
from gunicorn.http.unreader import IterUnreader
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.net.server.answer import Answer
from gpt_oss_proxy.net.server.connection import BrokenAnswer, is_read
from gpt_oss_proxy.sse import Last
from tests.doubles import Other
from tests.net.server.served import PEER, SERVER, Ended, Waits, bodies, talk, tell


def get(path: str = "/", *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


def post(body: bytes, *lines: str) -> bytes:
    return get("/b", f"Content-Length: {len(body)}", *lines).replace(b"GET", b"POST") + body


ODD = get("/odd", "X_Y: 1", "X-Z: 1").replace(b"X_Y", b"X-Z")  # the same header twice: for gunicorn to understand
CHUNKED = get("/c", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([], []),
        ([get("/a")], [b"GET /a "]),
        ([get("/a"), get("/b"), get("/c")], [b"GET /a ", b"GET /b ", b"GET /c "]),
        ([get("/a") + get("/b") + get("/c")], [b"GET /a ", b"GET /b ", b"GET /c "]),
        ([post(b"abc")], [b"POST /b abc"]),
        ([post(b"")], [b"POST /b "]),
        ([post(b"abc") + post(b"de") + get("/c")], [b"POST /b abc", b"POST /b de", b"GET /c "]),
        ([post(b"abc")[:-3], b"a", b"b", b"c"], [b"POST /b abc"]),
        ([post(b"abc")[:-2], b"bc", get("/c")], [b"POST /b abc", b"GET /c "]),
        ([post(b"abc")[:-2], b"bc" + get("/c") + get("/d")], [b"POST /b abc", b"GET /c ", b"GET /d "]),
        ([post(b"abc")[:-2], b"bc" + post(b"de")[:-1], b"e"], [b"POST /b abc", b"POST /b de"]),
        ([post(b"x" * 300_000)], [b"POST /b " + b"x" * 300_000]),
        # What is odd
        ([ODD], [b"GET /odd "]),
        ([ODD, get("/a"), ODD, ODD, get("/b")], [b"GET /odd ", b"GET /a ", b"GET /odd ", b"GET /odd ", b"GET /b "]),
        ([ODD + get("/a") + ODD + get("/b")], [b"GET /odd ", b"GET /a ", b"GET /odd ", b"GET /b "]),
        ([CHUNKED + get("/a")], [b"GET /c abc", b"GET /a "]),
        ([CHUNKED[:-9], CHUNKED[-9:-3], CHUNKED[-3:] + get("/a")], [b"GET /c abc", b"GET /a "]),
        ([get("/a") + CHUNKED + post(b"de") + CHUNKED], [b"GET /a ", b"GET /c abc", b"POST /b de", b"GET /c abc"]),
        # What is cut in its head
        ([get("/a")[:5], get("/a")[5:]], [b"GET /a "]),
        ([get("/a")[:-1], get("/a")[-1:]], [b"GET /a "]),
        ([get("/a") + get("/b")[:9], get("/b")[9:] + get("/c")], [b"GET /a ", b"GET /b ", b"GET /c "]),
        ([bytes([byte]) for byte in get("/a") + get("/b")], [b"GET /a ", b"GET /b "]),
        # Who leaves within it
        ([get("/a")[:-1]], []),
        ([get("/a") + get("/b")[:9]], [b"GET /a "]),
        ([ODD + b"G"], [b"GET /odd "]),
        # Who wants no more
        ([get("/a", "Connection: close") + get("/b")], [b"GET /a "]),
        ([ODD[:-2] + b"Connection: close\r\n\r\n" + get("/b")], [b"GET /odd "]),
        ([get("/a").replace(b"1.1", b"1.0") + get("/b")], [b"GET /a "]),
        ([get("/a", "Connection: keep-alive").replace(b"1.1", b"1.0") + get("/b")], [b"GET /a ", b"GET /b "]),
    ],
)
def test_each_request_has_its_answer_wherever_its_bytes_are_cut(pieces: list[bytes], told: list[bytes]) -> None:
    ended = talk(tell, *pieces)
    assert (bodies(ended.received), ended.error) == (told, None)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                (get("/a"), b"GET /a "),
                (post(b"abc"), b"POST /b abc"),
                (post(b"GET / HTTP/1.1\r\n\r\n"), b"POST /b GET / HTTP/1.1\r\n\r\n"),
                (ODD, b"GET /odd "),
                (CHUNKED, b"GET /c abc"),
            ]
        ),
        max_size=5,
    ),
    st.lists(st.integers(0, 500), max_size=4),
)
def test_any_requests_are_answered_in_turn_however_they_come(
    requests: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    sent = b"".join(data for data, _ in requests)
    edges = [0, *sorted(cuts), len(sent)]
    ended = talk(tell, *filter(None, [sent[start:end] for start, end in pairwise(edges)]))
    assert (bodies(ended.received), ended.error) == ([told for _, told in requests], None)


def keeper() -> tuple[list[dict[str, Any]], Any]:
    """Return an application, and where it keeps what it was asked."""
    kept: list[dict[str, Any]] = []

    def keep(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        kept.append({**environ, "body": environ["wsgi.input"].read()})
        start_response("200 OK", [("Content-Length", "0")])
        return []

    return kept, keep


def test_the_environment_is_the_connections_and_the_requests() -> None:
    kept, keep = keeper()
    talk(keep, post(b"abc", "X-A: 1"))
    (environ,) = kept
    assert isinstance(environ.pop("wsgi.input"), io.BytesIO)
    assert environ == {
        "common": "to all",
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/b",
        "QUERY_STRING": "",
        "RAW_URI": "/b",
        "HTTP_HOST": "a",
        "CONTENT_LENGTH": "3",
        "HTTP_X_A": "1",
        "body": b"abc",
    }


def test_what_one_request_says_the_next_does_not() -> None:
    kept, keep = keeper()
    talk(keep, get("/a", "Authorization: Bearer 1", "X-Forwarded-For: 1") + get("/a"))
    assert ["HTTP_AUTHORIZATION" in environ for environ in kept] == [True, False]


def test_what_is_odd_has_gunicorns_environment() -> None:
    kept, keep = keeper()
    talk(keep, ODD)
    (environ,) = kept
    found = {key: environ[key] for key in ("REMOTE_ADDR", "SERVER_PORT", "HTTP_X_Z", "wsgi.multithread", "body")}
    assert found == {
        "REMOTE_ADDR": PEER[0],
        "SERVER_PORT": str(SERVER[1]),
        "HTTP_X_Z": "1,1",
        "wsgi.multithread": True,
        "body": b"",
    }


def test_who_expects_to_be_told_is_told_that_he_may_send_his_body() -> None:
    ended = talk(tell, post(b"abc", "Expect: 100-continue")[:-3], b"abc")
    assert ended.received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert ended.received.endswith(b"\r\n\r\nPOST /b abc")


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\nHost: a\n\n", b"<script>\r\n\r\n", get("/", "a : b"), b"\x16\x03\r\n"]
)
@pytest.mark.parametrize("before", [b"", get("/a"), ODD])
def test_what_is_no_http_is_gunicorns_error_and_the_end(before: bytes, data: bytes) -> None:
    ended = talk(tell, before + data + get("/b"))
    assert len(bodies(ended.received)) == bool(before)
    assert type(ended.error).__module__ == "gunicorn.http.errors"


def test_a_connection_may_be_told_to_end_with_the_answer() -> None:
    ended = talk(tell, get("/a") + get("/b"), may_go_on=lambda: False)
    assert (bodies(ended.received), b"Connection: close" in ended.received) == ([b"GET /a "], True)


# Answers


def test_a_stream_is_chunks_and_the_connection_goes_on() -> None:
    def stream(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        yield b"bc"
        yield Last(b"d")

    ended = talk(stream, get() + get("/", "Connection: close"))
    assert ended.received.count(b"\r\n\r\n1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n") == 2
    assert ended.error is None


def test_a_client_of_old_gets_no_chunks() -> None:
    def stream(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        yield Last(b"bc")

    ended = talk(stream, get().replace(b"1.1", b"1.0"))
    head, body = ended.received.split(b"\r\n\r\n")
    assert (head[:15], b"Connection: close" in head, body) == (b"HTTP/1.0 200 OK", True, b"abc")


def test_each_piece_goes_out_before_the_next_is_made() -> None:
    written: list[int] = []

    def stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        for piece in (b"", b"a", b"b"):
            yield piece
            written.append(len(sent))

    sent: list[bytes] = []
    original = Answer._send

    def send(answer: Answer, data: bytes) -> None:
        sent.append(data)
        original(answer, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answer, "_send", send)
        talk(stream, get())
    assert written == [1, 2, 3]


class Pieces:
    """What an application returns: pieces, or what is raised in their place; tells when it is closed."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self.pieces)
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


def answered_with(pieces: "Pieces | Pushed") -> Ended:
    def application(_environ: dict[str, Any], start_response: Any) -> "Pieces | Pushed":
        start_response("200 OK", [])
        return pieces

    ended = talk(application, get() + get("/", "Connection: close"))
    assert pieces.closed == (2 if ended.error is None else 1)
    return ended


def test_an_answer_is_closed_when_it_has_ended() -> None:
    ended = answered_with(Pieces(b"a"))
    assert ended.error is None
    assert ended.received.count(b"1\r\na\r\n0\r\n\r\n") == 1


def test_an_application_that_fails_before_it_has_begun_is_for_the_worker_to_answer() -> None:
    bug = KeyError("x")
    assert answered_with(Pieces(bug)) == Ended(b"", bug)

    def application(_environ: dict[str, Any], _start_response: Any) -> Any:
        raise bug

    assert talk(application, get()) == Ended(b"", bug)


@pytest.mark.parametrize("piece", [b"", b"a"])
def test_after_half_an_answer_nothing_is_said(piece: bytes) -> None:
    bug = KeyError("x")
    ended = answered_with(Pieces(piece, bug, b"b"))
    assert isinstance(ended.error, BrokenAnswer)
    assert ended.error.__cause__ is bug
    assert ended.received.endswith(b"1\r\na\r\n" if piece else b"chunked\r\n\r\n")


@pytest.mark.parametrize("piece", [b"", b"a"])
def test_an_answer_that_is_broken_off_has_no_last_chunk(piece: bytes) -> None:
    error = BrokenPipeError("the client is gone")
    ended = answered_with(Pieces(piece, error))
    assert ended.error is error
    assert ended.received.endswith(b"1\r\na\r\n" if piece else b"chunked\r\n\r\n")


def test_an_answer_is_closed_whatever_ends_it() -> None:
    ended = answered_with(Pieces(b"a", gevent.GreenletExit()))  # the worker is at the end of its graceful time
    assert isinstance(ended.error, gevent.GreenletExit)
    assert ended.received.endswith(b"1\r\na\r\n")


class Pushed:
    """A body that writes its pieces itself, an exception ends it."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self._pieces = pieces
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("it is not iterated over")

    def push(self, write: Callable[[bytes], None]) -> None:
        for piece in self._pieces:
            if isinstance(piece, BaseException):
                raise piece
            write(piece)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("last", [b"c", Last(b"c")])
def test_a_body_may_write_its_pieces_itself(last: bytes) -> None:
    ended = answered_with(Pushed(b"", b"a", b"b", last))
    assert ended.error is None
    assert ended.received.count(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n") == 2


@pytest.mark.parametrize("error", [BrokenPipeError("broken off"), KeyError("bug")])
def test_what_a_body_wrote_before_it_failed_goes_out_all_the_same(error: Exception) -> None:
    for body in (Pushed(b"a", b"b", b"c", error), Pieces(b"a", b"b", b"c", error)):
        ended = answered_with(body)
        assert type(ended.error) is (BrokenPipeError if isinstance(error, OSError) else BrokenAnswer)
        assert ended.received.endswith(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")


# Bodies that the application does not read


def ignore(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An application that does not look at the body."""
    start_response("200 OK", [("Content-Length", "2")])
    return [environ["PATH_INFO"].encode()]


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ([post(b"abc") + get("/a")], [b"/b", b"/a"]),
        ([post(b"abc")[:-2], b"bc" + get("/a")], [b"/b", b"/a"]),
        ([CHUNKED[:-9], CHUNKED[-9:] + get("/a")], [b"/c", b"/a"]),
        ([CHUNKED + get("/a")], [b"/c", b"/a"]),
        ([post(b"abc")[:-2], 0.2, b"bc" + get("/a")], [b"/b"]),  # it was given up
        ([get("/c", "Transfer-Encoding: chunked") + b"no\r\n", get("/a")], [b"/c"]),
        ([get("/c", "Transfer-Encoding: chunked") + b"3\r\nab"], [b"/c"]),
    ],
)
def test_a_body_that_was_not_read_is_never_taken_for_a_request(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes | float], told: list[bytes]
) -> None:
    monkeypatch.setattr("gpt_oss_proxy.net.server.connection._REST_SECONDS", 0.1)
    ended = talk(ignore, *pieces)
    assert (bodies(ended.received), ended.error) == (told, None)


def test_a_body_that_cannot_be_read_is_the_applications_error() -> None:
    ended = talk(tell, get("/c", "Transfer-Encoding: chunked") + b"no\r\n")
    assert ended.received == b""
    assert type(ended.error).__name__ == "InvalidChunkSize"


class Silent:
    """What gunicorn gives for a body: pieces, seconds of silence, or an error."""

    failed = False

    def __init__(self, *pieces: bytes | float | Exception) -> None:
        self._pieces = list(pieces)

    def read(self, size: int) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, bytes):
                return piece
            if isinstance(piece, Exception):
                raise piece
            gevent.sleep(piece)
        return b""


@pytest.mark.parametrize(
    ("pieces", "goes_on"),
    [
        ([], True),
        ([b"x"] * 5, True),
        ([b"x", 0.01, b"x"], True),
        ([b"x", 20.0], False),
        ([b"x", 0.001] * 1000, False),
        ([b"x", OSError()], False),
        ([InvalidRequestLine("x")], False),
        ([InvalidHeader("x")], False),
    ],
)
def test_a_connection_goes_on_when_the_body_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes | float | Exception], goes_on: bool
) -> None:
    monkeypatch.setattr("gpt_oss_proxy.net.server.connection._REST_SECONDS", 0.05)
    assert is_read(Silent(*pieces)) is goes_on


@pytest.mark.parametrize("body", [Silent(), Silent(b"x"), SimpleNamespace(reader=SimpleNamespace(length=0))])
def test_a_body_that_was_given_up_ends_the_connection(body: Any) -> None:
    body.failed = True
    assert is_read(body) is False


def test_what_is_left_of_a_body_is_read_and_no_more() -> None:
    unreader = IterUnreader([b"ab", b"cd", b"GET"])
    body = Body(LengthReader(unreader, 4))
    assert (body.read(1), is_read(body), unreader.read()) == (b"a", True, b"GET")


# Between two requests


def test_a_connection_is_one_that_waits_only_between_two_requests() -> None:
    waits: Waits = {}
    while_answering: list[int] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        while_answering.append(len(waits))
        environ["wsgi.input"].read()
        while_answering.append(len(waits))
        return ignore(environ, start_response)

    seen: list[int] = []
    watcher = gevent.spawn_later(0.02, lambda: seen.append(len(waits)))
    talk(application, get("/a"), 0.04, ODD, post(b"abc")[:-1], b"c", waits=waits)
    watcher.join()
    assert (seen, while_answering, waits) == ([1], [0] * 6, {})


def test_requests_that_are_there_already_let_others_run() -> None:
    at: list[int] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        at.append(other.turns)
        return ignore(environ, start_response)

    with Other() as other:
        talk(application, get("/a") * 50)
    assert len(at) == 50
    assert len(set(at)) > 40
