"""An upstream whose certificate a private authority has signed, behind a gateway as the README starts it."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.live.children import Child, wait_for
from tests.live.conftest import StartGateway
from tests.live.talk import AWKWARD, Upstream, chat, failed, stream, text_of
from tests.upstreams.certificates import Authority
from tests.upstreams.raw_server import RawServer, tunnel_to

MODEL = "gpt-oss-120b"


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure(chatkit: Upstream, private: Authority) -> Iterator[RawServer]:
    """The ChatKit server, behind one that speaks TLS."""
    behind = tunnel_to(urlsplit(chatkit.address).port or 0)
    server = RawServer([behind], listens=False, tls=private.server("127.0.0.1", "chatkit.test"))
    yield server
    server.stop()


def logged(child: Child, response: requests.Response) -> dict[str, Any]:
    """Return the request's line of the log, which is written after its answer."""

    def look() -> dict[str, Any] | None:
        lines = [line for line in child.text().splitlines() if response.headers["x-request-id"] in line]
        return json.loads(lines[0]) if lines else None

    return wait_for("the line of the log", look, seconds=10)


def test_with_ca_file_it_is_reached(start_gateway: StartGateway, secure: RawServer, private: Authority) -> None:
    _, base = start_gateway(BASE_URL=secure.url, CHATKIT_DIALECT="published", CA_FILE=str(private.path))
    assert text_of(chat(base, MODEL, AWKWARD)) == AWKWARD
    answer = stream(base, MODEL, "::echo words=5 gap=100::")
    assert answer.first_arrival("w4") - answer.first_arrival("w0") > 0.2
    assert answer.finishes() == ["stop"]


def test_without_it_the_answer_says_that_and_the_log_says_why(start_gateway: StartGateway, secure: RawServer) -> None:
    child, base = start_gateway(BASE_URL=secure.url)
    for streamed in (False, True):
        response = chat(base, MODEL, "hi", stream=streamed)
        assert failed(response) == (502, "upstream_error", "upstream_tls")
        assert response.headers["x-should-retry"] == "false"
        assert "CA_FILE" in response.text
        assert "127.0.0.1" not in response.text
        assert "issuer" not in response.text
        line = logged(child, response)
        assert (line["outcome"], line["tries"]) == ("upstream_tls", 1)
        assert line["reason"] == "unable to get local issuer certificate"


@pytest.mark.parametrize("http", ["fast", "requests"])
def test_it_is_reached_through_a_proxy_that_alone_sees_the_password(
    start_gateway: StartGateway, secure: RawServer, private: Authority, http: str
) -> None:
    accepted = [b"HTTP/1.1 200 Connection established\r\n\r\n", tunnel_to(secure.port)]
    proxy = RawServer(accepted, [b"HTTP/1.1 407 Who are you\r\nContent-Length: 12\r\n\r\nproxysword71"])
    child, base = start_gateway(
        BASE_URL="https://chatkit.test:8443",
        CHATKIT_DIALECT="published",
        VERCEL_MINIMAL_API_URL="https://refused.test/api/chat",
        CA_FILE=str(private.path),
        UPSTREAM_PROXY=proxy.url.replace("http://", "http://ada:proxyword71@"),
        UPSTREAM_HTTP=http,
    )
    assert text_of(chat(base, MODEL, AWKWARD)) == AWKWARD
    assert proxy.heads[0][0].startswith("CONNECT chatkit.test:8443 HTTP/1.")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'ada:proxyword71').decode()}" in proxy.heads[0]
    response = chat(base, "gpt-4o", "hi")
    assert failed(response) == (502, "upstream_error", "upstream_unreachable")
    assert logged(child, response)["reason"] == "Tunnel connection failed: 407 Who are you"
    assert "word71" not in child.text() + response.text
    proxy.stop()
