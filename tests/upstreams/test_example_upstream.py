"""The example upstream of docs/development.md works, and is the one that the page shows."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_oss_proxy import app as app_module
from gpt_oss_proxy.app import UPSTREAMS, Protocol, create_app
from gpt_oss_proxy.config.settings import Settings
from gpt_oss_proxy.net.client.transport import Transport
from tests.doubles import Characters
from tests.upstreams.example_upstream import Lines

ROOT = Path(__file__).parents[2]


class _Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(200)
        self.end_headers()  # no length: the body ends with the connection
        self.wfile.write(f"You said:\n{said}\n".encode() + (b"" if "cut" in said else b"END\n"))

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}/say"
    server.shutdown()
    server.server_close()


def ask(url: str, text: str) -> tuple[int, object]:
    app = create_app(
        Settings(), upstreams=[Lines(Transport(connect_timeout_seconds=5), url=url)], vocabulary=Characters()
    )
    body = {"model": "lines-1", "messages": [{"role": "user", "content": text}]}
    answer = app.test_client().post("/v1/chat/completions", data=json.dumps(body))
    return answer.status_code, answer.json


def test_the_example_answers_as_a_model(url: str) -> None:
    status, answer = ask(url, "Good morning!")
    assert status == 200
    assert isinstance(answer, dict)
    assert answer["choices"][0]["message"]["content"] == "You said:\nGood morning!\n"


def test_a_cut_answer_is_an_error_without_another_line_of_code(url: str) -> None:
    status, answer = ask(url, "cut me")
    assert status == 502
    assert isinstance(answer, dict)
    assert answer["error"]["code"] == "upstream_incomplete"


def test_it_is_one_file_and_one_row(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Protocol(lambda _settings, transport, url: Lines(transport, url=url))
    monkeypatch.setattr(app_module, "UPSTREAMS", {**UPSTREAMS, "lines": row})
    gone = "http://127.0.0.1:1"
    environ = {"BASE_URL": gone, "FAILOVER": f"gpt-oss-20b=lines+{url}", "RETRIES": "0"}
    asking = create_app(Settings.from_environ(environ), vocabulary=Characters()).test_client()
    body = {"model": "gpt-oss-20b", "messages": [{"role": "user", "content": "Good morning!"}]}
    answer = asking.post("/v1/chat/completions", data=json.dumps(body)).json
    assert answer is not None
    assert answer["choices"][0]["message"]["content"] == "You said:\nGood morning!\n"


def test_the_page_shows_this_code() -> None:
    shown = re.search(r"```python\n(.*?)```", (ROOT / "docs/development.md").read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] in (ROOT / "tests/upstreams/example_upstream.py").read_text()
