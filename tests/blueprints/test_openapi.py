"""GET /openapi.json tells of every path, and of every answer."""

import hashlib
import json
import re
from typing import Any

import pytest
from werkzeug.test import TestResponse

from gpt_oss_proxy import errors
from gpt_oss_proxy.chat.events import Finish, ReasoningDelta, Started, TextDelta, Usage
from gpt_oss_proxy.errors import GatewayError, UpstreamIncomplete
from tests.described import Described
from tests.doubles import CHAT, Scripted, ask, client, described, gateway

DOCUMENT = described()
ANSWER = [Started("up-1"), ReasoningDelta("Hm"), TextDelta("Hi"), Usage(1, 2), Finish("stop")]
FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]

SECRET = hashlib.sha256(b"secret").hexdigest()


def assert_described(response: TestResponse) -> None:
    request = response.request
    headers = {name.lower(): value for name, value in response.headers}
    Described(DOCUMENT).assert_fits(request.method, request.path, response.status_code, headers, response.data)


def test_the_document_is_served_and_needs_no_key() -> None:
    response = gateway(Scripted(), api_keys=(SECRET,)).test_client().get("/openapi.json")
    assert (response.status_code, response.content_type, response.json) == (200, "application/json", DOCUMENT)
    assert_described(response)


def test_every_path_is_described_and_no_other() -> None:
    served = {
        (re.sub(r"<\w+:\w+>", "{id}", rule.rule), method)
        for rule in gateway(Scripted()).url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }
    described = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    without_prefix = {(path.removeprefix("/v1"), method) for path, method in described if path.startswith("/v1/")}
    deployed = {
        (f"{prefix}/deployments/{{id}}{path}", method)
        for path, method in without_prefix
        for prefix in ("", "/openai", "/v1", "/v1/openai")
        if method == "POST"
    }
    assert served == described | without_prefix | deployed


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/model-1", "/models"]
)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_what_is_got_is_described(path: str, accept: str) -> None:
    response = gateway(Scripted(models=["model-1"])).test_client().get(path, headers={"Accept": accept})
    assert response.status_code == 200
    assert_described(response)


def test_a_demonstration_is_described() -> None:
    assert_described(client(demonstration="A small model.").get("/v1/models"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 1},
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"model": "unknown"},
        {"messages": []},
        {"stop": "END"},
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/plain"])
def test_answers_and_refusals_are_described(fields: dict[str, Any], accept: str) -> None:
    assert_described(ask(client(ANSWER), {"Accept": accept}, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stream": True, "echo": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"model": "unknown"},
        {"prompt": [1]},
        {"suffix": "END"},
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/plain"])
@pytest.mark.parametrize("path", ["/v1/completions", "/completions"])
def test_completions_are_described(fields: dict[str, Any], accept: str, path: str) -> None:
    body = json.dumps({"prompt": "a", **fields})
    assert_described(client(ANSWER).post(path, data=body, headers={"Accept": accept}))


def test_a_failure_within_a_stream_is_described() -> None:
    response = ask(client([TextDelta("Hi")], UpstreamIncomplete()), stream=True)
    assert b"upstream_incomplete" in response.data
    assert_described(response)


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("stream", [False, True])
def test_every_error_of_a_chat_is_described_but_a_bug(kind: type[GatewayError], stream: bool) -> None:
    response = ask(client(kind(), retries=0), stream=stream)
    assert response.status_code == kind.status
    if kind.status in (405, 500):
        assert str(kind.status) not in DOCUMENT["paths"][CHAT]["post"]["responses"]
    else:
        assert_described(response)


def test_a_missing_key_and_a_large_body_are_described() -> None:
    app = gateway(Scripted(), api_keys=(SECRET,), max_body_bytes=1024).test_client()
    for response in (app.get("/v1/models"), app.get("/v1/models/a"), ask(app)):
        assert response.status_code == 401
        assert_described(response)
    response = ask(app, {"Authorization": "Bearer secret"}, user="x" * 2000)
    assert response.status_code == 413
    assert_described(response)
    response = app.get("/v1/models/a", headers={"Authorization": "Bearer secret"})
    assert response.status_code == 404
    assert_described(response)
