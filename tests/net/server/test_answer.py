"""Answers, as the bytes of each write."""

from types import SimpleNamespace
from typing import Any

import pytest

from gpt_oss_proxy.net.server.answer import Answer
from gpt_oss_proxy.sse import Last

Headers = list[tuple[str, str]]
TYPE = ("Content-Type", "text/plain")
DATE = "Thu, 01 Jan 1970 00:00:07 GMT"


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_oss_proxy.net.server.answer.time", SimpleNamespace(time=lambda: 7.9))


class Sock:
    """Keeps each write, and which of them may wait for others."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.soon: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self.writes.append(bytes(data))

    def send_soon(self, data: bytes) -> None:
        self.writes.append(bytes(data))
        self.soon.append(bytes(data))

    def flush(self) -> None:
        self.soon.clear()


def begin(
    method: str = "GET", version: tuple[int, int] = (1, 1), *, keep_alive: bool = True
) -> tuple[Answer, list[bytes]]:
    sock = Sock()
    return Answer(sock, method, version, keep_alive=keep_alive), sock.writes


def head(*lines: str, status: str = "200 OK", version: str = "1.1", connection: str = "keep-alive") -> bytes:
    told = [f"HTTP/{version} {status}", "Server: gunicorn", f"Date: {DATE}", f"Connection: {connection}", *lines]
    return "".join(f"{line}\r\n" for line in told).encode("latin-1") + b"\r\n"


CHUNKED = "Transfer-Encoding: chunked"


def test_the_head_goes_out_with_the_first_piece_and_each_piece_is_one_write() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [TYPE])
    assert (writes, answer.begun) == ([], False)
    for piece in (b"Hello", b"x" * 20):
        answer.write(piece)
    assert answer.begun
    answer.close()
    assert writes == [
        head(CHUNKED, "Content-Type: text/plain") + b"5\r\nHello\r\n",
        b"14\r\n" + b"x" * 20 + b"\r\n",
        b"0\r\n\r\n",
    ]


@pytest.mark.parametrize(
    ("method", "version", "status", "headers", "pieces", "writes"),
    [
        ("GET", (1, 1), "200 OK", [("content-length", "3")], [b"ab", b"c"], [head("content-length: 3") + b"ab", b"c"]),
        ("GET", (1, 1), "200 OK", [("Content-Length", "0")], [b""], [head("Content-Length: 0")]),
        ("GET", (1, 1), "200 OK", [("Content-Length", "0")], [], [head("Content-Length: 0")]),
        ("GET", (1, 1), "200 OK", [], [], [head(CHUNKED) + b"0\r\n\r\n"]),
        ("HEAD", (1, 1), "200 OK", [("Content-Length", "3")], [b"abc"], [head("Content-Length: 3")]),
        ("HEAD", (1, 1), "200 OK", [], [b"abc", Last(b"d")], [head()]),
        ("HEAD", (1, 0), "200 OK", [], [], [head(version="1.0")]),
        ("GET", (1, 1), "204 No Content", [], [b"abc"], [head(status="204 No Content")]),
        ("GET", (1, 1), "304 Not Modified", [], [b"abc"], [head(status="304 Not Modified")]),
        ("GET", (1, 0), "200 OK", [], [b"ab", b"c"], [head(version="1.0", connection="close") + b"ab", b"c"]),
        (
            "GET",
            (1, 0),
            "200 OK",
            [("Content-Length", "1")],
            [b"a"],
            [head("Content-Length: 1", version="1.0") + b"a"],
        ),
        ("POST", (1, 1), "400 Bad Request", [], [b"a"], [head(CHUNKED, status="400 Bad Request") + b"1\r\na\r\n", b""]),
    ],
)
def test_where_a_body_ends_is_told_as_its_client_understands_it(
    method: str,
    version: tuple[int, int],
    status: str,
    headers: Headers,
    pieces: list[bytes],
    writes: list[bytes],
) -> None:
    answer, written = begin(method, version)
    answer.start_response(status, headers)
    for piece in pieces:
        answer.write(piece)
    answer.close()
    if writes[-1] == b"":  # only to say that the last chunk goes out alone
        writes = [*writes[:-1], b"0\r\n\r\n"]
    assert written == writes


@pytest.mark.parametrize(
    ("method", "version", "status", "headers", "goes_on"),
    [
        ("GET", (1, 1), "200 OK", [], True),
        ("GET", (1, 1), "200 OK", [("CONTENT-LENGTH", "1")], True),
        ("GET", (1, 0), "200 OK", [("CONTENT-LENGTH", "1")], True),
        ("GET", (1, 0), "200 OK", [], False),
        ("HEAD", (1, 0), "200 OK", [], True),
        ("GET", (1, 0), "204 No Content", [], True),
        ("GET", (1, 0), "304 Not Modified", [], True),
    ],
)
@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_connection_goes_on_if_both_want_it_and_the_bodys_end_can_be_told(
    method: str, version: tuple[int, int], status: str, headers: Headers, goes_on: bool, keep_alive: bool
) -> None:
    answer, writes = begin(method, version, keep_alive=keep_alive)
    answer.start_response(status, headers)
    answer.write(b"a")
    assert answer.keep_alive is (goes_on and keep_alive)
    told = b"keep-alive" if answer.keep_alive else b"close"
    assert writes[0].split(b"\r\n")[3] == b"Connection: " + told


def test_the_last_piece_brings_the_last_chunk() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [])
    answer.write(b"a")
    answer.write(Last(b"bc"))
    answer.close()
    assert writes == [head(CHUNKED) + b"1\r\na\r\n", b"2\r\nbc\r\n0\r\n\r\n"]


def test_a_whole_answer_is_one_write() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [])
    answer.write(Last(b"bc"))
    answer.close()
    assert writes == [head(CHUNKED) + b"2\r\nbc\r\n0\r\n\r\n"]


def test_only_what_is_in_the_middle_waits_for_others() -> None:
    sock = Sock()
    answer = Answer(sock, "GET", (1, 1), keep_alive=True)
    answer.start_response("200 OK", [])
    for piece in (b"first", b"a", b"", b"b", Last(b"last")):
        answer.write(piece)
    answer.close()
    assert sock.soon == [b"1\r\na\r\n", b"1\r\nb\r\n"]
    assert len(sock.writes) == 4


@pytest.mark.parametrize(("version", "headers"), [((1, 1), [("Content-Length", "3")]), ((1, 0), [])])
def test_the_last_piece_of_a_body_without_chunks_is_like_any_other(version: tuple[int, int], headers: Headers) -> None:
    answer, writes = begin(version=version)
    answer.start_response("200 OK", headers)
    answer.write(b"a")
    answer.write(Last(b"bc"))
    answer.close()
    assert [writes[0].partition(b"\r\n\r\n")[2], *writes[1:]] == [b"a", b"bc"]


def test_an_empty_last_piece_does_not_end_the_body_twice() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [])
    answer.write(Last(b""))
    answer.close()
    assert b"".join(writes) == head(CHUNKED) + b"0\r\n\r\n"


def test_an_empty_first_piece_sends_the_head_and_later_ones_nothing() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [])
    answer.write(b"")
    assert (writes, answer.begun) == ([head(CHUNKED)], True)
    answer.write(b"")
    answer.write(b"a")
    answer.write(b"")
    answer.close()
    assert writes == [head(CHUNKED), b"1\r\na\r\n", b"0\r\n\r\n"]


def test_the_function_that_wsgi_wants_back_writes() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [])(b"a")
    assert writes == [head(CHUNKED) + b"1\r\na\r\n"]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\n\r\n", "\n\r"])
@pytest.mark.parametrize(
    ("status", "name", "value"),
    [("200 OK{}X: y", "a", "b"), ("200 OK", "a{}X", "b"), ("200 OK", "a", "b{}X: y"), ("200 OK", "a", "b{}")],
)
def test_a_header_cannot_become_two(end: str, status: str, name: str, value: str) -> None:
    answer, writes = begin()
    with pytest.raises(ValueError, match="a line end in a header"):
        answer.start_response(status.format(end), [TYPE, (name.format(end), value.format(end))])
    assert (writes, answer.begun) == ([], False)


@pytest.mark.parametrize("value", ["\u010d\u010a", "\u2028"])
def test_what_does_not_fit_into_a_byte_is_no_header(value: str) -> None:
    answer, writes = begin()
    with pytest.raises(ValueError, match="latin-1"):
        answer.start_response("200 OK", [("a", value)])
    assert writes == []


def test_what_fits_into_a_byte_is_that_byte() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [("a", "\xe9")])
    answer.close()
    assert writes == [head(CHUNKED, "a: \xe9") + b"0\r\n\r\n"]


def raised(error: Exception) -> tuple[Any, ...]:
    return type(error), error, error.__traceback__


def test_an_error_before_the_head_has_gone_out_has_a_head_of_its_own() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [TYPE])
    answer.start_response("500 Oh", [], raised(KeyError("x")))
    answer.close()
    assert writes == [head(CHUNKED, status="500 Oh") + b"0\r\n\r\n"]


def test_an_error_after_it_has_gone_out_is_raised() -> None:
    answer, writes = begin()
    answer.start_response("200 OK", [])
    answer.write(b"")
    with pytest.raises(KeyError):
        answer.start_response("500 Oh", [], raised(KeyError("x")))
    answer.write(b"a")
    assert writes == [head(CHUNKED), b"1\r\na\r\n"]


def test_each_second_has_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, date in ((0, "Thu, 01 Jan 1970 00:00:00 GMT"), (951782400.2, "Tue, 29 Feb 2000 00:00:00 GMT")):
        monkeypatch.setattr("gpt_oss_proxy.net.server.answer.time", SimpleNamespace(time=lambda now=seconds: now))
        answer, writes = begin()
        answer.start_response("200 OK", [])
        answer.close()
        assert writes[0].split(b"\r\n")[2] == f"Date: {date}".encode()


def test_the_middle_of_a_stream_without_chunks_is_sent_soon_too_and_its_end_waits_for_that() -> None:
    sock = Sock()
    answer = Answer(sock, "GET", (1, 0), keep_alive=False)
    answer.start_response("200 OK", [TYPE])
    for piece in (b"first", b"a", b"b"):
        answer.write(piece)
    assert sock.soon == [b"a", b"b"]
    answer.close()
    assert sock.soon == []
