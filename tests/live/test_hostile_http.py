"""What is hardly HTTP, sent to real gunicorn: never a page, never a 500, and the gateway goes on."""

import contextlib
import json
import socket
import time

import pytest

from tests.live.children import wait_for
from tests.live.conftest import Gateway, answers
from tests.live.talk import SECONDS, chat, error_of, failed, post, text_of
from tests.live.wire import Connection

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
HELLO = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()

NO_HTTP = [
    b"garbage\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # somebody speaks TLS
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\nna me: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nx-long: " + b"a" * 20_000 + b"\r\n\r\n",
    CHAT + b"Content-Length: -1\r\n\r\n",
    CHAT + b"Content-Length: 5, 6\r\n\r\nhello",
    CHAT + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    CHAT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",  # smuggling
    CHAT + b"Transfer-Encoding: cow\r\n\r\n0\r\n\r\n",
]


def say(base: str, *pieces: bytes, pause: float = 0, end: bool = False) -> bytes:
    """Send raw bytes, perhaps with a pause between them, and return all that comes back."""
    host, port = base.removeprefix("http://").split(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        if end:
            connection.shutdown(socket.SHUT_WR)
        try:
            while more := connection.recv(65536):
                heard += more
        except ConnectionResetError:  # the gateway need not read to the end what it has refused
            pass
    return heard


def refused(answer: bytes) -> tuple[int, str]:
    """Return status and code of an answer, whose shape is checked."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower(), answer
    error = json.loads(body)["error"]
    assert list(error) == ["message", "type", "param", "code"]
    return int(head.split()[1]), error["code"]


@pytest.mark.parametrize("request_bytes", NO_HTTP)
def test_what_is_no_http_is_refused_in_openais_shape(base: str, request_bytes: bytes) -> None:
    status, code = refused(say(base, request_bytes))
    assert (status, code) in [(400, "invalid_http"), (400, "incomplete_body")]
    assert answers(f"{base}/healthz")


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nhello\r\n0\r\n\r\n",  # no length of a chunk
        b"5\r\nhelloXX0\r\n\r\n",  # no end of a chunk
        b"-5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_a_broken_chunked_body_is_a_400(base: str, body: bytes) -> None:
    assert refused(say(base, CHAT + b"Transfer-Encoding: chunked\r\n\r\n" + body)) == (400, "incomplete_body")


@pytest.mark.parametrize(
    "coding", [b"Content-Length: 1000\r\n\r\n" + HELLO, b"Transfer-Encoding: chunked\r\n\r\nff\r\nx"]
)
def test_a_body_that_ends_too_early_is_a_400(base: str, coding: bytes) -> None:
    assert refused(say(base, CHAT + coding, end=True)) == (400, "incomplete_body")


def test_a_chunked_body_is_read_as_well_as_any(base: str) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(HELLO[i : i + 7]), HELLO[i : i + 7]) for i in range(0, len(HELLO), 7))
    answer = say(base, CHAT + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"] == "hello"


def test_a_chunked_body_above_the_limit_is_a_413_and_not_cut(gateway: Gateway) -> None:
    base = gateway(MAX_BODY_BYTES=2048)
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    assert refused(say(base, CHAT + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 4)) == (413, "body_too_large")


def test_a_body_above_the_limit_is_a_413_and_the_connection_can_be_used_on(gateway: Gateway) -> None:
    base = gateway(MAX_BODY_BYTES=2048)
    assert failed(post(base, b" " * 4096)) == (413, "invalid_request_error", "body_too_large")
    assert text_of(chat(base, "gpt-4o", "hello")) == "hello"


def test_a_body_that_finds_no_room_beside_others_is_a_503_before_it_comes_until_they_are_gone(gateway: Gateway) -> None:
    base = gateway(MAX_BODY_BYTES=2048, MAX_BODIES_BYTES=2048)
    with contextlib.closing(Connection(base)) as slow:
        slow.head("Content-Length: 2000", "Expect: 100-continue")
        slow.read_until(b"100 Continue")  # it is counted
        assert chat(base, "gpt-4o", "hello").status_code == 503
        answer = say(base, CHAT + b"Content-Length: 100\r\n\r\n")
        assert refused(answer) == (503, "overloaded")
        assert b"\r\nretry-after: 5\r\n" in answer
    wait_for("room", lambda: chat(base, "gpt-4o", "hello").status_code == 200, SECONDS)


def test_a_body_that_does_not_arrive_is_a_400_in_bounded_time(gateway: Gateway) -> None:
    base = gateway(REQUEST_TIMEOUT_SECONDS=1)
    began = time.monotonic()
    assert refused(say(base, CHAT + b"Content-Length: 100\r\n\r\n{")) == (400, "incomplete_body")
    assert time.monotonic() - began < 10


def test_a_slow_body_is_read_as_long_as_it_moves(base: str) -> None:
    pieces = [HELLO[i : i + 10] for i in range(0, len(HELLO), 10)]
    answer = say(base, CHAT + b"Content-Length: %d\r\n\r\n" % len(HELLO), *pieces, pause=0.05)
    assert b'"content":"hello"' in answer


def test_http_1_0_gets_a_whole_answer_and_its_connection_closed(base: str) -> None:
    head = b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(HELLO)
    assert b'"content":"hello"' in say(base, head + HELLO)


def test_pipelined_requests_are_answered_in_order(base: str) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    asked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HELLO) + HELLO
    last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = say(base, first + asked + last)
    order = [answer.index(b'"status":'), answer.index(b'"content":"hello"'), answer.index(b'"not_found"')]
    assert order == sorted(order)


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "TRACE", "BREW"])
def test_other_methods_are_a_405_in_openais_shape(base: str, method: str) -> None:
    request = f"{method} /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert refused(say(base, request.encode())) == (405, "method_not_allowed")


def test_head_has_the_head_of_get_and_no_body(base: str) -> None:
    answer = say(base, b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/v1//models", "/v1/../models", "/%ff%fe", "/v1/models/%00", "/v1/x?a=%ff"])
def test_odd_paths_are_a_404_in_openais_shape(base: str, path: str) -> None:
    answer = say(base, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert refused(answer)[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"messages": NaN}',
        b'{"messages": [], "model": "a", "model": "b"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "\\ud83d"}]}',
        '{"messages": []}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_object_is_a_400(base: str, body: bytes) -> None:
    error = error_of(post(base, body))
    assert (error["status"], error["type"]) == (400, "invalid_request_error")


def test_a_foreign_page_cannot_post_a_form(base: str) -> None:
    answer = post(base, HELLO, {"Origin": "https://evil.example", "Content-Type": "text/plain"})
    assert failed(answer) == (400, "invalid_request_error", "unsupported_content_type")
    assert text_of(post(base, HELLO, {"Origin": "https://good.example", "Content-Type": "application/json"})) == "hello"


def test_a_header_of_ours_cannot_be_split_by_what_a_client_sends(base: str) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "bad\r\nx-evil: 1": 1, "näme": 2}
    answer = post(base, body, {"x-request-id": "ä"})
    assert text_of(answer) == "hello"
    assert "x-evil" not in answer.headers
    assert answer.headers["x-ignored-params"] == "bad??x-evil: 1, n?me"
    assert answer.headers["x-request-id"].startswith("req_")
