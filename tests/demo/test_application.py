"""The WSGI application in echo mode, called in-process."""

import io
import json
from wsgiref.types import WSGIApplication

import pytest

from gpt_oss_proxy.demo.application import application
from gpt_oss_proxy.demo.conversation import ConnectionCut
from gpt_oss_proxy.demo.echo import echo


@pytest.fixture
def app() -> WSGIApplication:
    return application(echo(0, None, lambda _: None))


def ask(
    app: WSGIApplication, path: str, body: object, method: str = "POST", **headers: str
) -> tuple[str, dict[str, str], list[bytes]]:
    started: list[tuple[str, dict[str, str]]] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(json.dumps(body).encode())}
    writes = list(app(environ | headers, lambda status, given, *_: started.append((status, dict(given)))))
    return *started[0], writes


def create(text: str) -> dict[str, object]:
    return {"op": "threads.create", "params": {"input": {"content": [{"type": "input_text", "text": text}]}}}


def add(text: str, thread_id: str) -> dict[str, object]:
    given = {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}}
    return {"type": "threads.add_user_message", "params": {"input": given, "thread_id": thread_id}}


def events(writes: list[bytes]) -> list[dict[str, object]]:
    return [json.loads(event[6:]) for event in b"".join(writes).split(b"\n\n")[:-1]]


def test_chatkit_echoes_the_text_exactly_and_a_write_a_word(app: WSGIApplication) -> None:
    text = "hello  brave\nnew 🙂 world "
    status, headers, writes = ask(app, "/chatkit", create(text))
    done = events(writes)[-1]["item"]
    deltas = [event["update"]["delta"] for event in events(writes) if event["type"] == "thread.item_updated"]
    assert (status, headers["content-type"]) == ("200 OK", "text/event-stream; charset=utf-8")
    assert "".join(deltas) == text
    assert done["content"][0]["text"] == text
    assert len(writes) == 1 + 1 + len(deltas) + 1  # created, the user's item, deltas, the end


def test_chatkit_keeps_a_thread_for_the_cookie_that_made_it() -> None:
    seen = []

    def answer(question):
        seen.append(question.messages)
        return echo(0, None, lambda _: None)(question)

    app = application(answer)
    _, headers, writes = ask(app, "/chatkit", create("My name is Ada."))
    cookie = headers["set-cookie"].split(";")[0]
    thread_id = events(writes)[0]["thread"]["id"]
    status, headers, writes = ask(app, "/chatkit", add("Who am I?", thread_id), HTTP_COOKIE=cookie)
    assert (status, "set-cookie" in headers) == ("200 OK", False)
    assert events(writes)[0]["type"] == "thread.item.done"
    assert [(message.role, message.text) for message in seen[1]] == [
        ("user", "My name is Ada."),
        ("assistant", "My name is Ada."),
        ("user", "Who am I?"),
    ]
    with pytest.raises(ConnectionCut):
        ask(app, "/chatkit", add("Who am I?", thread_id), HTTP_COOKIE="user_id=another")


def test_chatkit_breaks_the_connection_at_an_unknown_attachment(app: WSGIApplication) -> None:
    body = create("see")
    body["params"]["input"]["attachments"] = ["atc_1"]
    with pytest.raises(ConnectionCut):
        ask(app, "/chatkit", body)


def test_api_chat_answers_in_data_stream_v1(app: WSGIApplication) -> None:
    body = {"modelId": "gpt-4o", "messages": [{"role": "user", "content": "hello world"}]}
    status, headers, writes = ask(app, "/api/chat", body)
    lines = b"".join(writes).split(b"\n")
    assert (status, headers["x-vercel-ai-data-stream"]) == ("200 OK", "v1")
    assert [line[:1] for line in lines] == [b"2", b"f", b"0", b"0", b"e", b"d", b""]
    assert lines[2:4] == [b'0:"hello"', b'0:" world"']


def test_api_chat_answers_in_the_ui_stream_where_messages_have_parts(app: WSGIApplication) -> None:
    body = {"modelId": "gpt-4o", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hello"}]}]}
    _, headers, writes = ask(app, "/api/chat", body)
    assert (headers["content-type"], headers["x-vercel-ai-ui-message-stream"]) == ("text/event-stream", "v1")
    assert b"".join(writes).endswith(b"data: [DONE]\n\n")


def test_api_chat_shows_an_unreadable_system_message_as_an_error_in_the_stream(app: WSGIApplication) -> None:
    messages = [{"role": "system", "content": [{"type": "text", "text": "x"}]}, {"role": "user", "content": "hello"}]
    status, _, writes = ask(app, "/api/chat", {"modelId": "gpt-4o", "messages": messages})
    assert (status, writes[1:]) == ("200 OK", [b'3:"An error occurred."\n'])


@pytest.mark.parametrize(
    ("path", "method", "body", "status", "answer"),
    [
        ("/chatkit", "POST", {"op": "x"}, "500 Internal Server Error", b"Internal Server Error"),
        ("/api/chat", "POST", {"modelId": "gpt-9"}, "404 Not Found", b"Model not found"),
        ("/elsewhere", "POST", {}, "404 Not Found", b'{"detail":"Not Found"}'),
        ("/chatkit", "GET", {}, "405 Method Not Allowed", b'{"detail":"Method Not Allowed"}'),
    ],
)
def test_refusals_have_a_status_and_a_length(
    app: WSGIApplication, path: str, method: str, body: object, status: str, answer: bytes
) -> None:
    told, headers, writes = ask(app, path, body, method)
    assert (told, writes, headers["content-length"]) == (status, [answer], str(len(answer)))
