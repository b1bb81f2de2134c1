"""The upstream as a program on loopback: what only a real socket shows."""

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CREATE = {"op": "threads.create", "params": {"input": {"content": [{"type": "input_text", "text": "a b c"}]}}}
CHAT = {"modelId": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@contextmanager
def upstream(*arguments: str) -> Iterator[http.client.HTTPConnection]:
    command = [sys.executable, "-m", "gpt_oss_proxy.demo.upstream", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        word, port = process.stdout.readline().split()
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
        yield connection
        connection.close()
        process.terminate()
    assert word == b"ready"


def post(connection: http.client.HTTPConnection, path: str, body: object) -> http.client.HTTPResponse:
    connection.request("POST", path, json.dumps(body))
    return connection.getresponse()


def test_several_requests_share_a_connection_and_an_unknown_thread_breaks_it() -> None:
    with upstream("--echo", "--words", "3") as connection:
        for _ in range(3):
            assert post(connection, "/api/chat", CHAT).read().count(b"\n0:") == 3
        unknown = {"op": "threads.addMessage", "params": CREATE["params"] | {"threadId": "thr_0"}}
        response = post(connection, "/chatkit", unknown)
        assert response.status == 200
        with pytest.raises(http.client.IncompleteRead):
            response.read()


@pytest.mark.parametrize(("path", "body"), [("/chatkit", CREATE), ("/api/chat", CHAT)])
@pytest.mark.parametrize("said", [b"", b'data: {"choices":[{"delta":{"content":"Well"}}]}\n\n'])
def test_a_client_that_leaves_ends_the_question_while_the_model_is_silent(path: str, body: object, said: bytes) -> None:
    model = socket.create_server(("127.0.0.1", 0))
    with model, upstream("--model-url", f"http://127.0.0.1:{model.getsockname()[1]}") as connection:
        connection.request("POST", path, json.dumps(body))
        asked, _ = model.accept()
        with asked:
            asked.settimeout(1)
            while b'"include_usage":true' not in asked.recv(65536):
                pass
            if said:
                asked.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + said)
            connection.close()
            assert asked.recv(1) == b""


def test_a_model_that_cannot_be_reached_is_an_error_event() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with upstream("--model-url", url) as connection:
        assert post(connection, "/api/chat", CHAT).read().endswith(b'3:"An error occurred."\n')
        last = post(connection, "/chatkit", CREATE).read().split(b"\n\n")[-2]
        assert last == b'data: {"type":"error","code":"stream.error","allow_retry":true}'
