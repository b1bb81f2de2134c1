"""Responses as a server gets them."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from flask import Flask

from gpt_oss_proxy.blueprints.reply import Chat, Pieces, Reply
from gpt_oss_proxy.sse import Last

Headers = list[tuple[str, str]]


def called(reply: Reply, method: str = "GET") -> tuple[str, Headers, Any]:
    """Return what a server gets: status, headers, and the body that it iterates over."""
    begun: list[tuple[str, Headers]] = []
    body = reply({"REQUEST_METHOD": method}, lambda status, headers: begun.append((status, headers)))
    ((status, headers),) = begun
    return status, headers, body


@pytest.mark.parametrize(
    ("reply", "status", "headers", "pieces"),
    [
        (
            Reply(b"abc", content_type="text/plain"),
            "200 OK",
            [("Content-Type", "text/plain"), ("Content-Length", "3")],
            [b"abc"],
        ),
        (
            Reply([b"a", b"b"], content_type="text/event-stream", headers={"X-A": "1"}),
            "200 OK",
            [("X-A", "1"), ("Content-Type", "text/event-stream")],
            [b"a", b"b"],
        ),
        (Reply(status=499, mimetype="application/json"), "499 UNKNOWN", [("Content-Type", "application/json")], []),
        (
            Reply(b"", status=404, content_type="a/b"),
            "404 NOT FOUND",
            [("Content-Type", "a/b"), ("Content-Length", "0")],
            [b""],
        ),
    ],
)
def test_it_goes_to_the_server_as_it_is(reply: Reply, status: str, headers: Headers, pieces: list[bytes]) -> None:
    found_status, found_headers, body = called(reply)
    assert (found_status, found_headers, list(body)) == (status, headers, pieces)


def test_the_last_piece_is_still_known_as_such() -> None:
    _, _, body = called(Reply(iter([b"", b"a", Last(b"b")])))
    assert [(type(piece), piece) for piece in body] == [(bytes, b""), (bytes, b"a"), (Last, b"b")]


def test_no_frame_of_ours_is_entered_for_a_piece() -> None:
    pieces: Iterator[bytes] = iter([b"a"])
    assert iter(called(Reply(pieces))[2]) is pieces


def test_who_asks_for_the_head_alone_gets_that_of_the_whole() -> None:
    status, headers, body = called(Reply(b"abc", content_type="text/plain"), "HEAD")
    assert (status, headers) == called(Reply(b"abc", content_type="text/plain"))[:2]
    assert list(body) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_to_happen_at_its_end_happens_when_the_server_closes_it(method: str) -> None:
    told: list[str] = []

    def stream() -> Iterator[bytes]:
        try:
            yield b"a"
        finally:
            told.append("closed")

    pieces = stream()
    reply = Reply(pieces)
    reply.call_on_close(lambda: told.append("called"))
    body = called(reply, method)[2]
    begun = [next(iter(body))] if method == "GET" else []
    assert told == []
    body.close()
    assert (begun, told) == (([b"a"], ["closed", "called"]) if method == "GET" else ([], ["called"]))
    assert list(pieces) == []


def test_the_headers_of_a_reply_are_not_the_servers_to_change() -> None:
    reply = Reply(b"a", content_type="text/plain")
    called(reply)[1].clear()
    assert len(called(reply)[1]) == 2


def test_pieces_are_iterated_over_and_closed() -> None:
    closed: list[None] = []
    pieces: Iterable[bytes] = Pieces([b"a", b"b"], lambda: closed.append(None))
    assert ([*pieces], closed) == ([b"a", b"b"], [])
    pieces.close()  # type: ignore[attr-defined]
    assert closed == [None]


def test_a_body_that_can_write_its_pieces_itself_is_told_so() -> None:
    class Body(list[bytes]):
        def push(self, write: Any) -> None:
            write(b"pushed")

    written: list[bytes] = []
    outer: Any = Pieces(Pieces(Body(), lambda: None), lambda: None)
    outer.push(written.append)
    assert written == [b"pushed"]
    assert Pieces([b"a"], lambda: None).push is None


def test_flask_makes_them_of_what_a_view_returns() -> None:
    app = Flask(__name__)
    app.response_class = Reply
    app.add_url_rule("/", view_func=lambda: "caf\xe9")
    answer = app.test_client().get("/")
    assert (answer.status_code, answer.data, answer.content_length) == (200, "caf\xe9".encode(), 5)
    assert app.test_client().options("/").data == b""


# A model's answer


def test_a_chat_is_its_status_headers_and_pieces() -> None:
    chat = Chat([b"a", b""], "text/plain", ("X-A", "1"))
    begun: list[Any] = []
    body = chat({}, lambda status, headers: begun.append((status, headers)))
    assert begun == [("200 OK", [("Content-Type", "text/plain"), ("X-A", "1")])]
    assert list(body) == [b"a", b""]


@pytest.mark.parametrize("read", [0, 1, 2])
def test_closing_a_chat_closes_its_body_and_then_all_else_in_order(read: int) -> None:
    told: list[str] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            told.append("body")

    chat = Chat(pieces(), "text/plain")
    chat.call_on_close(lambda: told.append("first"))
    chat.call_on_close(lambda: told.append("second"))
    body: Any = chat({}, lambda *_: None)
    reader = iter(body)
    assert [next(reader) for _ in range(read)] == [b"a", b"b"][:read]
    body.close()
    assert told == [*(["body"] if read else []), "first", "second"]


def test_all_is_closed_whatever_one_of_them_raises_and_the_first_error_is_not_lost() -> None:
    told: list[str] = []

    class Body(list[bytes]):
        def close(self) -> None:
            told.append("body")
            raise LookupError("body")

    def fail() -> None:
        told.append("first")
        raise OSError("first")

    chat = Chat(Body(), "text/plain")
    chat.call_on_close(fail)
    chat.call_on_close(lambda: told.append("second"))
    body: Any = chat({}, lambda *_: None)
    with pytest.raises(OSError, match="first") as raised:
        body.close()
    assert told == ["body", "first", "second"]
    assert repr(raised.value.__context__) == "LookupError('body')"


def test_an_answer_that_cannot_begin_is_closed() -> None:
    told: list[str] = []

    def refuse(*_arguments: Any) -> None:
        raise ValueError("a line end in a header")

    chat = Chat([b"a"], "text/plain")
    chat.call_on_close(lambda: told.append("closed"))
    with pytest.raises(ValueError, match="a line end"):
        chat({}, refuse)
    assert told == ["closed"]
