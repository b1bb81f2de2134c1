"""What probes and the curious ask."""

import re

import pytest

from gpt_oss_proxy import __version__
from gpt_oss_proxy.errors import ShuttingDown
from tests.doubles import Scripted, error_shown, gateway

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("accept", ["*/*", "", "text/plain", "application/json", "nonsense;,"])
def test_the_root_says_ok_to_programs(accept: str) -> None:
    response = gateway(Scripted()).test_client().get("/", headers={"Accept": accept})
    assert (response.status_code, response.data) == (200, b"ok\n")
    assert (response.content_type, response.headers["Vary"]) == ("text/plain; charset=utf-8", "Accept")


def page(host: str) -> str:
    client = gateway(Scripted()).test_client()
    response = client.get("/", headers={"Accept": BROWSER}, environ_overrides={"HTTP_HOST": host})
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    assert response.headers["Vary"] == "Accept"
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    return response.text


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("localhost:3000", "http://localhost:3000/"),
        ("gateway.example", "http://gateway.example/"),
        ("[::1]:3000", "http://[::1]:3000/"),
        ("", "/"),
        ("<script>alert(1)</script>", "/"),
        ('a"onload="x', "/"),
        ("a b", "/"),
        ("a/../b", "/"),
        ("a@b", "/"),
        ("bücher.example", "/"),
    ],
)
def test_the_root_shows_a_browser_where_to_point_its_client(host: str, base: str) -> None:
    text = page(host)
    assert f"at <code>{base}v1</code>;" in text
    assert f"<pre>curl {base}v1/chat/completions -d " in text
    assert set(re.findall(r"<(\w+)", text)) == {"html", "meta", "title", "body", "h1", "p", "code", "pre", "a"} | {
        *re.findall(r"(?<=<)head", text)
    }


def test_liveness_asks_no_upstream() -> None:
    upstream = Scripted()
    upstream.served = AssertionError("asked")
    response = gateway(upstream).test_client().get("/healthz")
    assert (response.status_code, response.json) == (200, {"status": "ok", "version": __version__})


def test_readiness_ends_with_the_drain_and_liveness_does_not() -> None:
    app = gateway(Scripted())
    client = app.test_client()
    ready = {"status": "ready", "circuits": {"scripted": "closed"}}
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (200, ready)
    app.dispatcher.drain(20)
    response = client.get("/readyz")
    assert (response.status_code, response.json) == (503, error_shown(ShuttingDown()))
    assert client.get("/healthz").status_code == 200


def test_liveness_tells_the_commit_where_it_is_known() -> None:
    for settings in ({"git_commit": "abc"}, {"render_git_commit": "abc"}):
        found = gateway(Scripted(), **settings).test_client().get("/healthz").json
        assert found == {"status": "ok", "version": __version__, "commit": "abc"}
