"""A body is read whole, bounded and in bounded time, or refused."""

import io
import json
from typing import Any

import gevent
import pytest
from gunicorn.http.errors import InvalidChunkSize
from werkzeug.test import TestResponse

from gpt_oss_proxy.chat.events import Finish
from gpt_oss_proxy.errors import Overloaded
from tests.doubles import CHAT, HELLO, Scripted, error_shown, gateway

BODY = json.dumps({"messages": HELLO}).encode()
LIMIT = 4096


class Slow(io.RawIOBase):
    """A body whose pieces come one by one; a number is waited for, an exception raised."""

    failed = False  # as gunicorn's bodies have it

    def __init__(self, *pieces: bytes | float | Exception) -> None:
        self.pieces = list(pieces)
        self.wanted: list[int] = []

    def read(self, size: int = -1) -> bytes:
        self.wanted.append(size)
        while self.pieces:
            piece = self.pieces.pop(0)
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                if piece[size:]:
                    self.pieces.insert(0, piece[size:])
                return piece[:size]
            gevent.sleep(piece)
        return b""


def post(
    body: object,
    *,
    headers: dict[str, str] | None = None,
    silence_seconds: float = 20,
    total_seconds: float = 20,
    budget: int = 100 * LIMIT,
    **environ: Any,
) -> TestResponse:
    app = gateway(
        Scripted([Finish("stop")]),
        max_body_bytes=LIMIT,
        max_bodies_bytes=budget,
        request_timeout_seconds=silence_seconds,
        total_timeout_seconds=total_seconds,
    )
    stream = io.BytesIO(body) if isinstance(body, bytes) else body
    environ = {"wsgi.input": stream, **environ}
    return app.test_client().post(CHAT, headers=headers, environ_overrides=environ)


def chunked(body: object, **limits: Any) -> TestResponse:
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    return post(body, **limits, **environ)


def sized(body: object, length: object, **limits: Any) -> TestResponse:
    return post(body, **limits, CONTENT_LENGTH=str(length))


def refusal(response: TestResponse) -> tuple[int, str]:
    assert response.json is not None
    assert response.json["error"]["type"] == "invalid_request_error"
    return response.status_code, response.json["error"]["code"]


def padded(size: int) -> bytes:
    return BODY + b" " * (size - len(BODY))


def test_a_body_of_known_length_is_read_to_its_length_and_no_further() -> None:
    stream = io.BytesIO(BODY + b"GET / HTTP/1.1\r\n")
    assert sized(stream, len(BODY)).status_code == 200
    assert stream.read() == b"GET / HTTP/1.1\r\n"


def test_a_chunked_body_is_read_to_its_end() -> None:
    assert chunked(BODY).status_code == 200


def test_a_body_may_come_in_any_pieces() -> None:
    letters = [bytes([byte]) for byte in BODY]
    assert sized(Slow(*letters), len(BODY)).status_code == 200
    assert chunked(Slow(*letters)).status_code == 200


def test_slow_is_allowed_as_long_as_something_comes() -> None:
    assert len(BODY) < 60
    pieces = [step for start in range(0, 60, 10) for step in (0.05, BODY[start : start + 10])]
    assert sized(Slow(*pieces), len(BODY), silence_seconds=0.2).status_code == 200


@pytest.mark.parametrize("pieces", [(20.0,), (BODY[:9], 20.0)])
def test_silence_is_refused(pieces: tuple[bytes | float, ...]) -> None:
    assert refusal(sized(Slow(*pieces), len(BODY), silence_seconds=0.03)) == (400, "incomplete_body")
    assert refusal(chunked(Slow(*pieces), silence_seconds=0.03)) == (400, "incomplete_body")


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(size: int) -> None:
    for response in (sized(padded(size), size), chunked(padded(size))):
        assert response.status_code == (200 if size == LIMIT else 413)


def test_a_body_that_is_too_large_is_told_what_is_allowed() -> None:
    response = chunked(padded(LIMIT + 1))
    assert refusal(response) == (413, "body_too_large")
    assert response.json is not None
    message = "The request's body is larger than 4096 bytes. Send less, or smaller images."
    assert response.json["error"]["message"] == message


def test_a_length_above_the_limit_is_refused_unread() -> None:
    stream = Slow(BODY)
    assert refusal(sized(stream, 10**18)) == (413, "body_too_large")
    assert stream.wanted == []


def test_a_body_without_end_is_refused_at_the_limit() -> None:
    stream = Slow(*[b" " * 1024] * 1000)
    assert refusal(chunked(stream)) == (413, "body_too_large")
    assert len(stream.wanted) == 5
    assert sum(stream.wanted) >= LIMIT + 1


def test_a_body_that_ends_before_its_length_is_refused_even_if_it_is_json() -> None:
    assert refusal(sized(BODY, len(BODY) + 1)) == (400, "incomplete_body")


@pytest.mark.parametrize("fault", [InvalidChunkSize(b"x"), ConnectionResetError(), OSError(), ValueError()])
def test_a_broken_body_is_refused(fault: Exception) -> None:
    assert refusal(chunked(Slow(BODY[:9], fault))) == (400, "incomplete_body")


@pytest.mark.parametrize("environ", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "0"}, {"CONTENT_LENGTH": "-5"}])
def test_a_request_without_a_body_is_no_json(environ: dict[str, str]) -> None:
    assert refusal(post(Slow(20.0), **environ)) == (400, "invalid_json")


@pytest.mark.parametrize("coding", ["gzip", "deflate, gzip", "x"])
def test_a_compressed_body_is_refused(coding: str) -> None:
    response = post(BODY, CONTENT_LENGTH=str(len(BODY)), headers={"Content-Encoding": coding})
    assert refusal(response) == (400, "unsupported_encoding")


def test_an_uncompressed_body_may_say_so() -> None:
    headers = {"Content-Encoding": "Identity"}
    assert post(BODY, CONTENT_LENGTH=str(len(BODY)), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/plain", 400),
        ("text/plain; application/json", 400),
        ("application/x-www-form-urlencoded", 400),
        ("multipart/form-data; boundary=x", 400),
        ("application/jsonx", 400),
        ("", 400),
    ],
)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
def test_a_foreign_page_must_send_what_needs_a_preflight(content_type: str, status: int, origin: str) -> None:
    headers = {"Origin": origin, "Content-Type": content_type}
    response = post(BODY, CONTENT_LENGTH=str(len(BODY)), headers=headers)
    assert response.status_code == status
    if status == 400:
        assert refusal(response) == (400, "unsupported_content_type")


def test_a_body_that_keeps_moving_is_limited_too_and_its_rest_is_no_request() -> None:
    body = Slow(*[b"x", 0.02] * 1000)
    assert refusal(post(body, total_seconds=0.2, CONTENT_LENGTH="1000")) == (400, "incomplete_body")
    assert body.failed


def test_time_limits_of_others_are_not_taken_for_ours() -> None:
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        sized(Slow(20.0), len(BODY))


# What all requests may hold together


def test_a_body_may_be_as_large_as_the_room_that_is_left() -> None:
    assert sized(padded(1000), 1000, budget=1000).status_code == 200
    assert sized(Slow(padded(500), b" " * 500), 1000, budget=1000).status_code == 200
    assert chunked(padded(1000), budget=1000).status_code == 200


def test_a_length_that_finds_no_room_is_refused_unread() -> None:
    stream = Slow(BODY)
    response = sized(stream, 1001, budget=1000)
    assert (response.status_code, response.json, stream.wanted) == (503, error_shown(Overloaded()), [])
    assert response.headers["retry-after"] == "5"


def test_a_body_without_a_length_is_refused_when_it_has_come_to_the_end_of_the_room() -> None:
    stream = Slow(*[b" " * 100] * 1000)
    response = chunked(stream, budget=1000)
    assert (response.status_code, response.json, len(stream.wanted)) == (503, error_shown(Overloaded()), 11)


def test_what_could_never_be_taken_is_too_large_however_little_room_there_is() -> None:
    assert sized(Slow(BODY), LIMIT + 1, budget=10).status_code == 413
