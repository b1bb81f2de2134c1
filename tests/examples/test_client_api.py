"""A client API is one folder and one row: its routes, errors, events, key header and description work as they are."""

import hashlib
import json
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from gpt_oss_proxy.app import CLIENT_APIS, create_app
from gpt_oss_proxy.chat.events import Counted, Event, Finish, TextDelta
from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.errors import InternalError, UpstreamIncomplete
from tests.doubles import Characters, Scripted, Step
from tests.examples.client_api import LetterApi, Letters

LETTER: list[Step] = [[TextDelta("Dear A")], [TextDelta("nn!"), Finish("stop")]]


class Slow(dict[str, str]):
    """A store that waits, and notes in which greenlets."""

    def __init__(self) -> None:
        super().__init__()
        self.greenlets: set[Any] = set()

    def __setitem__(self, name: str, value: str) -> None:
        gevent.sleep(0.01)
        self.greenlets.add(gevent.getcurrent())
        super().__setitem__(name, value)


def client(*script: Step, letters: Letters | None = None, **settings: Any) -> tuple[FlaskClient, Scripted]:
    upstream = Scripted(*script, native_options=None)
    row = lambda *_: LetterApi({} if letters is None else letters)  # noqa: E731 - as in app.CLIENT_APIS
    app = create_app(
        Settings(default_model="model-1", **settings),
        upstreams=[upstream],
        vocabulary=Characters(),
        client_apis=(*CLIENT_APIS, row),
    )
    return app.test_client(), upstream


@pytest.fixture(params=["/v1", ""])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_answer_is_shown_again_by_its_id(prefix: str) -> None:
    asking, upstream = client(*LETTER)
    letter = asking.post(f"{prefix}/letters", json={"to": "Ann", "about": "tea"}).json
    assert letter is not None
    assert (letter["to"], letter["text"], letter["ended_by"]) == ("Ann", "Dear Ann!", "")
    assert letter["id"].startswith("letter-")
    assert upstream.asked[0].messages[0].text == "Write a letter to Ann about tea."
    assert (
        asking.post(f"{prefix}/letters", json={"about": "x"}, headers={"x-request-id": "r"}).headers["letter-for"]
        == "r"
    )
    streamed = asking.post(f"{prefix}/letters", json={"about": "x", "stream": True}, headers={"x-request-id": "r"})
    assert (streamed.headers["letter-for"], b'"request": "r"' in streamed.data) == ("r", True)
    shown = asking.get(f"{prefix}/letters/{letter['id']}")
    assert (shown.status_code, shown.json) == (200, {"id": letter["id"], "text": "Dear Ann!"})


def test_a_stream_has_named_events_and_its_store_may_wait_in_the_handler_s_greenlet() -> None:
    letters = Slow()
    asking, _ = client(*LETTER, letters=letters)
    body = asking.post("/v1/letters", json={"about": "tea", "stream": True}).data.decode()
    lines, end = body.split("event: letter\ndata: ")
    assert lines == 'event: line\ndata: "Dear A"\n\nevent: line\ndata: "nn!"\n\n'
    assert letters == {json.loads(end)["id"]: "Dear Ann!"}
    assert letters.greenlets == {gevent.getcurrent()}


def test_where_the_server_has_a_stream_pushed_the_store_waits_in_the_handler_s_greenlet_too() -> None:
    letters = Slow()
    asking, _ = client([TextDelta("Dear")], 0.01, *LETTER, letters=letters)
    environ = EnvironBuilder("/v1/letters", method="POST", json={"about": "tea", "stream": True}).get_environ()
    written: list[bytes] = []
    pieces: Any = asking.application(environ, lambda *_: None)
    pieces.push(written.append)
    pieces.close()
    assert [piece.split(b"\n")[0] for piece in written] == [b"event: line", b"event: line", b"event: line"]
    assert (b"event: letter" in written[-1], [*letters.values()]) == (True, ["DearDear Ann!"])
    assert letters.greenlets == {gevent.getcurrent()}


@pytest.mark.parametrize("error", [OSError("disk full"), TimeoutError(), ValueError("a bug")])
def test_a_store_that_fails_ends_a_stream_with_an_error_however_it_is_sent(error: Exception) -> None:
    class Broken(dict[str, str]):
        def __setitem__(self, name: str, value: str) -> None:
            raise error

    asking, _ = client(*LETTER, letters=Broken())
    asked = {"about": "tea", "stream": True}
    iterated = asking.post("/v1/letters", json=asked).data
    environ = EnvironBuilder("/v1/letters", method="POST", json=asked).get_environ()
    written: list[bytes] = []
    pieces: Any = asking.application(environ, lambda *_: None)
    pieces.push(written.append)
    pieces.close()
    assert iterated == b"".join(written)
    assert iterated.endswith(b"event: torn\ndata: " + json.dumps({"wrong": InternalError.message}).encode() + b"\n\n")


def test_a_stream_that_fails_ends_in_its_own_way() -> None:
    asking, _ = client([TextDelta("Dear")], UpstreamIncomplete())
    body = asking.post("/v1/letters", json={"about": "tea", "stream": True}).data
    assert body.endswith(b'event: torn\ndata: {"wrong": "%b"}\n\n' % UpstreamIncomplete.message.encode())


def test_a_field_is_emulated_where_the_api_asks_for_that_and_the_stop_word_is_known() -> None:
    asking, upstream = client(*LETTER)
    letter = asking.post("/v1/letters", json={"about": "tea", "until": ["Ann"]}).json
    assert letter is not None
    assert (letter["text"], letter["ended_by"]) == ("Dear ", "Ann")
    assert upstream.asked[0].stop == ()  # else both would look for it


def test_the_prompt_is_counted_before_the_answer_begins() -> None:
    class Noting(LetterApi):
        def collector(self, request: Any) -> Any:
            collector = super().collector(request)
            add = collector.add

            def note(events: list[Event]) -> None:
                seen.extend(events)
                add(events)

            collector.add = note  # type: ignore[method-assign]
            return collector

    seen: list[Event] = []
    app = create_app(
        Settings(default_model="model-1"),
        upstreams=[Scripted(*LETTER)],
        vocabulary=Characters(),
        client_apis=[lambda *_: Noting({})],
    )
    app.test_client().post("/letters", json={"about": "tea"})
    frames = 4 + 3
    assert seen[0] == Counted(len("Write a letter to a friend about tea.") + frames)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "wrong"),
    [
        ("POST", "/letters", "{}", 400, "about: it must be text."),
        ("POST", "/letters", "[]", 400, "The body must be a JSON object: it is not an object."),
        ("GET", "/letters/none", "", 418, "There is no letter none."),
        ("GET", "/letters", "", 405, "This path does not take GET."),
        ("GET", "/letters/a/b", "", 418, None),
        ("POST", "/letters", "x" * 2000, 413, None),
    ],
)
def test_its_errors_have_its_form(
    prefix: str, method: str, path: str, body: str, status: int, wrong: str | None
) -> None:
    asking, _ = client(max_body_bytes=1024)
    answer = asking.open(f"{prefix}{path}", method=method, data=body, headers={"x-request-id": "r"})
    assert answer.status_code == status
    assert answer.json is not None
    assert answer.json["request"] == "r"
    assert wrong in (None, answer.json["wrong"])


def test_other_paths_have_their_own_form_still() -> None:
    asking, _ = client()
    for path in ("/v1/lettersets", "/v1/chat/completions/x", "/nothing"):
        assert "error" in (asking.get(path).json or {})


def test_its_clients_send_their_key_in_a_header_of_its_own() -> None:
    asking, _ = client(*LETTER, api_keys=(hashlib.sha256(b"a").hexdigest(),))
    refused = asking.post("/v1/letters", json={"about": "tea"})
    assert (refused.status_code, set(refused.json or {})) == (401, {"wrong", "request"})
    assert asking.post("/v1/letters", json={"about": "tea"}, headers={"x-stamp": "a"}).status_code == 200


def test_it_is_in_the_document() -> None:
    asking, _ = client()
    paths = (asking.get("/openapi.json").json or {})["paths"]
    assert {"/v1/letters", "/v1/letters/{id}", "/v1/chat/completions"} <= set(paths)
