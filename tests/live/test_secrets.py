"""Nothing secret gets out: into no answer, no log line, no metric, and from no client or upstream to another.

Secrets are planted wherever one can come in, an upstream fails in every way and tells more secrets in doing so, and all
that the gateway says is searched for them.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.live.children import Child, wait_for
from tests.live.conftest import StartGateway
from tests.live.talk import SECONDS
from tests.live.wire import Connection
from tests.upstreams.raw_server import Answer, RawServer, close, reset, with_length

CLIENT_KEY, OTHER_KEY, WRONG_KEY = "sk-client-71d2c9", "sk-other-71d2c9", "sk-wrong-71d2c9"
UPSTREAM_KEY = "sk-upstream-71d2c9"
PROMPT, QUERY, CLIENT_COOKIE, NETRC, USER = "promptword71", "queryword71", "clientcookie71", "netrcword71", "userword71"
FOLDER = "folderword71"  # in every upstream's URL
PROXY = "proxyword71"
TOLD = (
    "cannot reach postgres://admin:hunter2@db-7.corp.internal:5432/chats from 10.23.45.67:8443 (fe80::12:34), "
    "see /srv/model/serve.py; key sk-leaked-5f5f5f, Authorization: Bearer leaked-5f5f5f, https://corp.internal/?t=leaked"
)
HARDER = (
    "Authorization: Basic bGVha2VkOmxlYWtlZA== password=hunter2 AKIALEAKED5F5F5F5F5F "
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJsZWFrZWQifQ.c2lnbmVkbGVha2Vk token=leaked5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f"
)
TRACEBACK = f'Traceback (most recent call last):\n  File "/srv/model/serve.py", line 7, in <module>\nKeyError: {TOLD!r}'
HEADERS = (b"Set-Cookie: session=upstreamcookie71; Path=/", b"Server: serverword71", b"X-Internal: internalword71")
# Words of all these secrets.
SECRET = [
    *(
        CLIENT_KEY,
        OTHER_KEY,
        WRONG_KEY,
        UPSTREAM_KEY,
        QUERY,
        CLIENT_COOKIE,
        NETRC,
        FOLDER,
        PROXY,
        "upstreamcookie71",
        "serverword71",
    ),
    *(
        "internalword71",
        "hunter2",
        "db-7",
        "corp.internal",
        ":5432",
        "10.23.45.67",
        ":8443",
        "fe80::",
        "/srv/",
        "serve.py",
    ),
    *("leaked", "Traceback", 'File "', "bGVha2Vk", "AKIALEAKED", "eyJzdWIi", "requests.exceptions", "urllib3", "Errno"),
]

MODELS = {"chatkit": "gpt-oss-20b", "ai_sdk": "gpt-4o", "openai": "far-model"}
EACH = pytest.mark.parametrize("protocol", MODELS)
BEGUN = {  # an answer's first text
    "chatkit": {
        "type": "thread.item.updated",
        "item_id": "m",
        "update": {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": "Hi"},
    },
    "ai_sdk": {"type": "text-delta", "id": "0", "delta": "Hi"},
    "openai": {"id": "c1", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}]},
}
DONE = {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def failed(protocol: str, text: str) -> dict[str, object]:
    """Return the protocol's own event for a failure."""
    return {
        "chatkit": {"type": "error", "code": "custom", "message": text, "allow_retry": True},
        "ai_sdk": {"type": "error", "errorText": text},
        "openai": {"error": {"message": text, "type": "server_error", "code": None}},
    }[protocol]


def events(*told: object) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in told)


def says(status: str, body: bytes, kind: bytes = b"application/json") -> bytes:
    return with_length(body, b"Content-Type: " + kind, *HEADERS, status=status.encode())


def stream_of(body: bytes) -> bytes:
    return says("200 OK", body, b"text/event-stream")


STATUSES = [
    "400 Bad Request",
    "401 No",
    "403 No",
    "404 No",
    "413 No",
    "422 No",
    "429 No",
    "500 No",
    "502 No",
    "503 No",
    "504 No",
]
BODIES = {
    "openai's object": json.dumps({"error": {"message": TOLD, "code": "x"}}).encode(),
    "a detail": json.dumps({"detail": [{"msg": TOLD}]}).encode(),
    "a text": TOLD.encode(),
    "a traceback": TRACEBACK.encode(),
    "a page": f"<html>{TOLD}</html>".encode(),
}
BROKEN: dict[str, Answer] = {
    "a page": [says("200 OK", b"<html>" + TOLD.encode(), b"text/html")],
    "a redirect": [b"HTTP/1.1 307 No\r\nLocation: https://corp.internal/leaked\r\nContent-Length: 0\r\n\r\n"],
    "a malformed event": [stream_of(b"data: {" + TOLD.encode() + b"\n\n")],
    "a short body": [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9999\r\n\r\n" + TOLD.encode(),
        close,
    ],
    "no http": [TOLD.encode() + b"\r\n\r\n", close],
    "an end": [close],
    "a reset": [reset],
    "silence": [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"],
}


class Upstream(RawServer):
    """Gives to every request the answer that was set last."""

    def will_say(self, *answer: object) -> None:
        self.heads.clear()
        self._answers = [answer]  # type: ignore[list-item]


class Gateway:
    """The gateway with secrets in all its settings, and all that it has told."""

    def __init__(self, child: Child, address: str, upstream: Upstream) -> None:
        self.child = child
        self.address = address
        self.secret = [*SECRET, f":{urlsplit(upstream.url).port}"]

    def ask(self, protocol: str, *, streamed: bool = False, key: str = CLIENT_KEY, **headers: str) -> str:
        """Return status, headers and body of the answer to a chat with secrets wherever a client can put some."""
        body = {
            "model": MODELS[protocol],
            "messages": [{"role": "user", "content": f"{PROMPT} Hello!"}],
            "stream": streamed,
            "user": USER,
        }
        sent = {"Authorization": f"Bearer {key}", "Cookie": f"c={CLIENT_COOKIE}", **headers}
        url = f"{self.address}/v1/chat/completions?api_key={QUERY}"
        with requests.post(url, json=body, headers=sent, stream=True, timeout=SECONDS) as response:
            pieces = []
            with contextlib.suppress(requests.RequestException):
                pieces += response.iter_content(None)
        return f"{response.status_code} {response.headers}\n{b''.join(pieces).decode()}"

    def get(self, path: str) -> str:
        response = requests.get(
            f"{self.address}{path}", headers={"Authorization": f"Bearer {CLIENT_KEY}"}, timeout=SECONDS
        )
        return f"{response.status_code} {response.headers}\n{response.text}"

    def leaks(self, told: str) -> list[str]:
        return [word for word in (*self.secret, PROMPT) if word in told]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    server = Upstream([close])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def trap() -> Iterator[RawServer]:
    """A proxy that nobody should ask, and the target of redirects that nobody should follow."""
    server = RawServer([says("200 OK", b"{}"), close])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(
    start_gateway: StartGateway, upstream: Upstream, trap: RawServer, tmp_path_factory: pytest.TempPathFactory
) -> Gateway:
    home: Path = tmp_path_factory.mktemp("home")
    (home / ".netrc").write_text(f"default login {NETRC} password {NETRC}\n")
    (home / ".netrc").chmod(0o600)
    base = f"{upstream.url}/{FOLDER}"
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"), trap.url)
    child, address = start_gateway(
        BASE_URL=base,
        CHATKIT_DIALECT="published",
        VERCEL_MINIMAL_API_URL=f"{base}/api/chat",
        OPENAI_BASE_URL=f"{base}/v1",
        OPENAI_API_KEY=UPSTREAM_KEY,
        OPENAI_MODELS="far-model",
        API_KEYS=f"{CLIENT_KEY},{OTHER_KEY}",
        FAILOVER=f"gpt-4o=openai+{base}/spare/v1",
        REQUEST_TIMEOUT_SECONDS="0.5",
        RETRIES="0",
        BREAKER_FAILURES="0",
        UPSTREAM_PROXY=trap.url.replace("http://", f"http://{PROXY}:{PROXY}@"),  # not for loopback
        HOME=str(home),
        NETRC=str(home / ".netrc"),
        **proxies,
    )
    return Gateway(child, address, upstream)


@pytest.fixture(autouse=True)
def nothing_leaks(gateway: Gateway, upstream: Upstream, trap: RawServer) -> Iterator[None]:
    """After each test: no secret is in the log, nobody asked the trap, and no upstream got what was a client's."""
    yield
    gateway.get("/the-log-has-come-to-this")
    wait_for("the log", lambda: "/the-log-has-come-to-this" in gateway.child.news(), SECONDS)
    # The operator's log names the upstream's own host and port, and nothing else of it.
    assert gateway.leaks(gateway.child.news().replace(urlsplit(upstream.url).netloc, "")) == []
    assert USER not in gateway.child.news()
    assert trap.connections == 0
    heads = [line for head in upstream.heads for line in head]
    assert [line for line in heads if line.lower().startswith(("cookie:", "proxy-"))] == []
    assert not [line for line in heads for word in (CLIENT_KEY, CLIENT_COOKIE, QUERY, NETRC, "Basic") if word in line]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("body", BODIES)
@EACH
def test_an_upstreams_refusal_tells_no_secret(
    gateway: Gateway, upstream: Upstream, protocol: str, body: str, streamed: bool
) -> None:
    for status in STATUSES:
        upstream.will_say(says(status, BODIES[body]))
        told = gateway.ask(protocol, streamed=streamed)
        assert told[:3] in ("400", "404", "429", "502", "503"), told
        assert gateway.leaks(told) == [], (status, told)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", BROKEN)
@EACH
def test_a_broken_answer_tells_no_secret(
    gateway: Gateway, upstream: Upstream, protocol: str, fault: str, streamed: bool
) -> None:
    upstream.will_say(*BROKEN[fault])
    told = gateway.ask(protocol, streamed=streamed)
    assert '"error"' in told
    assert gateway.leaks(told) == [], told


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize("text", [TOLD, TRACEBACK, HARDER], ids=["told", "traceback", "harder"])
@EACH
def test_a_failure_within_a_stream_tells_no_secret(
    gateway: Gateway, upstream: Upstream, protocol: str, text: str, accept: str
) -> None:
    for begun in ([], [BEGUN[protocol]]):
        upstream.will_say(stream_of(events(*begun, failed(protocol, text))))
        told = gateway.ask(protocol, streamed=accept != "application/json", Accept=accept)
        assert "error" in told
        assert ("Hi" in told) == bool(begun and accept != "application/json")
        assert gateway.leaks(told) == [], told


@pytest.mark.parametrize("protocol", ["chatkit", "openai"])
def test_an_upstreams_id_of_the_answer_is_passed_on_only_if_it_is_no_more_than_an_id(
    gateway: Gateway, upstream: Upstream, protocol: str
) -> None:
    reference = "http://10.23.45.67:8443/leaked"
    begun = {
        "chatkit": [{"type": "thread.created", "thread": {"id": reference}}, BEGUN["chatkit"]],
        "openai": [{**BEGUN["openai"], "id": reference}],
    }[protocol]
    upstream.will_say(stream_of(events(*begun)))
    told = gateway.ask(protocol, streamed=True)
    assert "Hi" in told
    assert gateway.leaks(told) == [], told


def test_a_redirect_is_not_followed(gateway: Gateway, upstream: Upstream, trap: RawServer) -> None:
    for protocol in MODELS:
        for status in (301, 302, 303, 307, 308):
            upstream.will_say(
                b"HTTP/1.1 %d No\r\nLocation: %b/redirected\r\nContent-Length: 0\r\n\r\n" % (status, trap.url.encode())
            )
            told = gateway.ask(protocol)
            assert told.startswith("502")
            assert trap.url not in told


def test_what_an_upstream_sets_as_cookies_is_never_sent_back_for_whoever_asks(
    gateway: Gateway, upstream: Upstream
) -> None:
    for protocol in MODELS:
        upstream.will_say(stream_of(events(BEGUN[protocol])))
        asking = [threading.Thread(target=gateway.ask, args=[protocol]) for _ in range(6)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        gateway.ask(protocol)
        assert len(upstream.heads) >= 7
        assert not [line for head in upstream.heads for line in head if line.lower().startswith("cookie:")]


def test_no_client_joins_anothers_answer_whatever_it_calls_its_request(gateway: Gateway, upstream: Upstream) -> None:
    upstream.will_say(stream_of(events(BEGUN["openai"], DONE)))
    repeated = {"Idempotency-Key": "same", "x-stainless-retry-count": "1"}
    told = [gateway.ask("openai", key=key, **repeated) for key in (CLIENT_KEY, OTHER_KEY, CLIENT_KEY)]
    assert all("Hi" in each for each in told)
    assert len(upstream.heads) == 2


def test_the_upstreams_key_goes_to_its_upstream_only(gateway: Gateway, upstream: Upstream) -> None:
    authorised = {}
    for protocol in MODELS:
        upstream.will_say(says("503 No", b""))  # so that the spare one is asked, too
        gateway.ask(protocol)
        authorised |= {
            head[0].split()[1]: [line for line in head if line.lower().startswith("authorization:")]
            for head in upstream.heads
        }
    assert authorised == {
        f"/{FOLDER}/chatkit": [],
        f"/{FOLDER}/api/chat": [],
        f"/{FOLDER}/v1/chat/completions": [f"Authorization: Bearer {UPSTREAM_KEY}"],
        f"/{FOLDER}/spare/v1/chat/completions": [],
    }


def test_our_own_refusals_tell_no_secret(gateway: Gateway) -> None:
    told = gateway.ask("openai", key=WRONG_KEY)
    assert told.startswith("401")
    assert gateway.leaks(told) == []
    url = f"{gateway.address}/v1/chat/completions?key={QUERY}"
    headers = {"Authorization": f"Bearer {CLIENT_KEY}"}
    for body in (PROMPT, json.dumps({"messages": PROMPT}), '{"messages": []}', f'{{"a": 1, "a": "{PROMPT}"}}'):
        response = requests.post(url, data=body, headers=headers, timeout=SECONDS)
        assert response.status_code == 400
        assert gateway.leaks(f"{response.headers} {response.text}") == []
    for method, path in (("GET", "/nope"), ("PUT", "/v1/models"), ("GET", "/v1/models/unknown")):
        response = requests.request(method, f"{gateway.address}{path}?key={QUERY}", headers=headers, timeout=SECONDS)
        assert response.status_code in (404, 405)
        assert gateway.leaks(f"{response.headers} {response.text}") == []


def test_what_is_no_http_is_neither_answered_nor_logged_with_what_it_held(gateway: Gateway) -> None:
    with contextlib.closing(Connection(gateway.address)) as client:
        client.send(
            f"POST /?{QUERY} HTTP/1.1\r\nAuthorization: Bearer {CLIENT_KEY}\r\nno colon {PROMPT}\r\n\r\n".encode()
        )
        answer = client.answer()
    assert answer.status == 400
    assert gateway.leaks(f"{answer.headers} {answer.body!r}") == []


@pytest.mark.parametrize(
    "path", ["/metrics", "/readyz", "/healthz", "/v1/models", "/v1/models/far-model", "/openapi.json", "/"]
)
def test_what_can_be_read_of_the_gateway_itself_holds_no_secret(
    gateway: Gateway, upstream: Upstream, path: str
) -> None:
    for protocol in MODELS:  # something has happened
        upstream.will_say(says("500 No", TOLD.encode()))
        gateway.ask(protocol)
    told = gateway.get(path)
    assert told.startswith("200")
    assert gateway.leaks(told) == []
    assert "127.0.0.1" not in told
