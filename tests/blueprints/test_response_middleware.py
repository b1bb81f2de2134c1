"""What holds for every request, known path or not."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.exceptions import ImATeapot, InternalServerError, ServiceUnavailable
from werkzeug.test import EnvironBuilder, TestResponse

from gpt_oss_proxy.blueprints.reply import Chat
from gpt_oss_proxy.chat.events import Finish, TextDelta
from gpt_oss_proxy.errors import RateLimited
from tests.doubles import CHAT, Scripted, ask, gateway

Log = list[dict[str, Any]]


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return gateway(Scripted([TextDelta("Hi"), Finish("stop")], models=["model-1"])).test_client()


def send(client: FlaskClient, method: str, path: str, **headers: str) -> TestResponse:
    # As a server does: the path goes in undisturbed.
    return client.open("/", method=method, headers=headers, environ_overrides={"PATH_INFO": path})


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/v1",
        "/v1/",
        "/v1//models",
        "/v1/v1/models",
        "/v2/models",
        "/V1/models",
        "/v1/chat",
        "/v1/chat/completions/x",
        "/v1/../healthz",
        "/static/x",
        "/favicon.ico",
        "/\xff\xfe",
        "/\x00",
        "*",
    ],
)
def test_an_unknown_path_is_a_404_in_openais_shape(client: FlaskClient, method: str, path: str, accept: str) -> None:
    response = send(client, method, path, Accept=accept)
    assert (response.status_code, response.content_type) == (404, "application/json")
    assert response.json == {
        "error": {
            "message": "Unknown path. Try POST /v1/chat/completions or GET /v1/models.",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        }
    }


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/chat/completions", "POST"),
        ("/chat/completions", "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/models/org/b", "GET, HEAD"),
        ("/", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_another_method_is_a_405_in_openais_shape(client: FlaskClient, method: str, path: str, allowed: str) -> None:
    if method in allowed:
        method = "PATCH"
    response = send(client, method, path, Accept="text/html")
    assert (response.status_code, response.content_type) == (405, "application/json")
    assert response.headers["Allow"] == allowed
    assert response.json == {
        "error": {
            "message": f"This path does not take {method}.",
            "type": "invalid_request_error",
            "param": None,
            "code": "method_not_allowed",
        }
    }


def test_a_doubled_first_slash_is_forgiven(client: FlaskClient) -> None:
    # A base URL that ends with one, joined to a path that begins with one.
    assert send(client, "GET", "//v1/models").status_code == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/healthz", 200), ("/v1/models", 200), ("/nope", 404), (CHAT, 405)]
)
def test_head_is_get_without_a_body(client: FlaskClient, path: str, status: int) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.data) == (status, b"")
    assert (get.status_code, head.content_type) == (status, get.content_type)
    assert head.headers["x-request-id"] != get.headers["x-request-id"]


def test_a_preflight_of_a_foreign_page_is_not_granted(client: FlaskClient) -> None:
    response = client.options(
        CHAT,
        headers={
            "Origin": "https://evil.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        },
    )
    assert response.status_code == 405
    assert not [name for name, _ in response.headers if name.lower().startswith("access-control")]


def answers(client: FlaskClient, **headers: str) -> list[TestResponse]:
    return [
        client.get("/", headers=headers),
        client.get("/nope", headers=headers),
        client.post("/", headers=headers),
        client.post(CHAT, data=b"junk", headers=headers),
        ask(client, headers=headers),
        ask(client, headers=headers, stream=True),
        ask(client, headers=headers, model="unknown"),
    ]


def test_every_answer_bears_an_id_of_its_own_and_its_time(client: FlaskClient) -> None:
    found = answers(client)
    ids = [response.headers["x-request-id"] for response in found]
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", request_id) for request_id in ids)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"\d{1,4}", response.headers["openai-processing-ms"]) for response in found)


@pytest.mark.parametrize("given", ["a", "req-1", "!~" * 64, 'x"<>%'])
def test_the_clients_own_id_is_kept(client: FlaskClient, given: str) -> None:
    found = answers(client, **{"X-Request-ID": given})
    assert [response.headers["x-request-id"] for response in found] == [given] * len(found)


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a\tb", "a\x7f", "a\r\nSet-Cookie: x=1", "a\n", "\x00"])
def test_an_id_that_is_no_visible_ascii_is_replaced(client: FlaskClient, given: str) -> None:
    response = client.get("/", environ_overrides={"HTTP_X_REQUEST_ID": given})
    assert re.fullmatch(r"req_[0-9a-f]{32}", response.headers["x-request-id"])
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("host", ["a" * 70 + ".example", "a..b", "\xff", "<", "a b", "a:port", "[", "x@y"])
def test_no_host_name_is_a_500_or_a_page(client: FlaskClient, host: str) -> None:
    response = client.get("/v1/models", environ_overrides={"HTTP_HOST": host})
    assert (response.status_code in (200, 400), response.content_type) == (True, "application/json")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValueError("secret"), 500, "internal_error"),
        (RecursionError("secret"), 500, "internal_error"),
        (InternalServerError("secret"), 500, "internal_error"),
        (ServiceUnavailable("secret"), 500, "internal_error"),
        (ImATeapot("secret"), 400, "invalid_request"),
        (RateLimited(), 429, "upstream_rate_limited"),
    ],
)
@pytest.mark.parametrize("testing", [False, True])
def test_whatever_is_raised_has_openais_shape_and_tells_no_secret(
    log: Log, error: Exception, status: int, code: str, testing: bool
) -> None:
    app = gateway(Scripted())
    app.testing = testing

    def view() -> str:
        raise error

    app.add_url_rule("/raise", "raise", view)
    response = app.test_client().get("/raise")
    assert (response.status_code, response.content_type) == (status, "application/json")
    assert response.json is not None
    assert set(response.json["error"]) == {"message", "type", "param", "code"}
    assert response.json["error"]["code"] == code
    assert b"secret" not in response.data
    response.close()
    assert [(line["status"], line["outcome"]) for line in log] == [(status, code)]


def test_every_request_is_logged_once(client: FlaskClient, log: Log) -> None:
    for response in answers(client):
        response.close()
    assert [(line["method"], line["path"], line["status"], line["outcome"]) for line in log] == [
        ("GET", "/", 200, "ok"),
        ("GET", "/nope", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("POST", CHAT, 400, "invalid_json"),
        ("POST", CHAT, 200, "ok"),
        ("POST", CHAT, 200, "client_gone"),  # closed before its end
        ("POST", CHAT, 404, "model_not_found"),
    ]


def test_the_log_holds_no_more_of_a_path_than_a_line_can(client: FlaskClient, log: Log) -> None:
    send(client, "GET", "/" + "ä\n" * 500).close()
    assert [len(line["path"]) for line in log] == [200]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/healthz"), ("GET", "/v1/models"), ("GET", "/nope"), ("PUT", "/"), ("POST", CHAT)],
)
def test_no_answer_is_sniffed_or_kept_by_others(client: FlaskClient, method: str, path: str) -> None:
    headers = send(client, method, path).headers
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


def test_a_stream_keeps_its_own_cache_control(client: FlaskClient) -> None:
    assert ask(client, stream=True).headers["Cache-Control"] == "no-cache, no-transform"


def test_an_answer_that_fails_in_its_closing_is_logged_and_counted(log: Log) -> None:
    def fail() -> None:
        raise LookupError("a bug")

    def view() -> Any:
        chat = Chat((b"a",), "text/plain")
        chat.call_on_close(fail)
        return chat

    app = gateway(Scripted())
    app.add_url_rule("/fail", "fail", view)
    body: Any = app(EnvironBuilder("/fail").get_environ(), lambda *_: None)
    with pytest.raises(LookupError):
        body.close()
    assert [(line["path"], line["status"]) for line in log] == [("/fail", 200)]
    assert b'outcome="ok",status="200"' in app.metrics.text()
