"""A forward proxy: tunnels for https, whole URLs for http, by both adapters; only the proxy sees its credentials."""

import base64
from collections.abc import Callable, Iterator

import pytest

from gpt_oss_proxy.errors import GatewayError, UpstreamFailed, UpstreamTls, UpstreamUnreachable
from gpt_oss_proxy.net.client import connections
from gpt_oss_proxy.net.client.proxy import Proxy, is_loopback, parse_proxy
from gpt_oss_proxy.net.client.tls import client_context
from gpt_oss_proxy.net.client.transport import HTTPStatusError, Transport, read_blocks
from gpt_oss_proxy.upstreams.status_error import error_from_status, read_status
from tests.upstreams.certificates import Authority
from tests.upstreams.raw_server import Answer, RawServer, Step, close, reset, tunnel_to, with_length

BASIC = "Proxy-Authorization: Basic " + base64.b64encode("ada:s@cret é:".encode()).decode()
CREDENTIALS = "ada:s%40cret%20%C3%A9%3A@"
ACCEPTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
BOTH = pytest.mark.parametrize("fast", [True, False], ids=["fast", "standard"])
Serve = Callable[..., RawServer]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    started: list[RawServer] = []

    def start(*answers: Answer, **options: object) -> RawServer:
        started.append(RawServer(*answers, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


class Client:
    """A transport through a proxy that trusts a private authority."""

    def __init__(self, proxy: RawServer, private: Authority, *, fast: bool, credentials: str = "") -> None:
        url = proxy.url.replace("http://", f"http://{credentials}")
        trusting = client_context(added=str(private.path))
        self.transport = Transport(connect_timeout_seconds=5, fast=fast, tls=trusting, proxy=url)

    def ask(self, url: str) -> bytes:
        with self.transport.send("POST", f"{url}/say?x=1", headers={"X-Mine": "1"}, body=b"hello") as response:
            return b"".join(read_blocks(response))

    def refusal(self, url: str) -> GatewayError:
        with pytest.raises(GatewayError) as raised:
            self.ask(url)
        return raised.value


@pytest.fixture(params=[True, False], ids=["fast", "standard"])
def through(request: pytest.FixtureRequest, private: Authority) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(proxy: RawServer, credentials: str = "") -> Client:
        clients.append(Client(proxy, private, fast=request.param, credentials=credentials))
        return clients[-1]

    yield make
    for client in clients:
        client.transport.close()


SENT = ["Accept-Encoding: identity", "Content-Length: 5", "User-Agent: gpt-oss-proxy", "X-Mine: 1"]


@pytest.mark.parametrize("name", ["upstream.test", "upstream.test.", "192.0.2.7", "[2001:db8::7]"])
def test_an_https_upstream_is_spoken_to_through_a_tunnel(through, serve, private, name):
    host = name.strip("[]").rstrip(".")
    upstream = serve([with_length(b"Hi")], tls=private.server(host))
    proxy = serve([ACCEPTED, tunnel_to(upstream.port)])
    client = through(proxy, CREDENTIALS)
    assert [client.ask(f"https://{name}:8443"), client.ask(f"https://{name}:8443")] == [b"Hi", b"Hi"]
    (asked,) = proxy.heads  # the second request found a tunnel
    assert asked[0].startswith(f"CONNECT {name}:8443 HTTP/1.")
    assert BASIC in asked
    for head in upstream.heads:
        assert (head[0], sorted(head[1:])) == ("POST /say?x=1 HTTP/1.1", sorted([f"Host: {name}:8443", *SENT]))


def test_an_http_upstream_is_asked_for_with_its_whole_url(through, serve):
    proxy = serve([with_length(b"Hi")])
    client = through(proxy, CREDENTIALS)
    for name in ("upstream.test:8080", "upstream.test:8080", "me:pass@other.test"):
        assert client.ask(f"http://{name}") == b"Hi"
    basic = f"Authorization: Basic {base64.b64encode(b'me:pass').decode()}"
    for head, host, more in zip(
        proxy.heads, ["upstream.test:8080", "upstream.test:8080", "other.test"], [[], [], [basic]], strict=True
    ):
        assert head[0] == f"POST http://{host}/say?x=1 HTTP/1.1"
        assert sorted(head[1:]) == sorted([f"Host: {host}", BASIC, *SENT, *more])


def test_a_proxy_without_credentials_gets_none(through, serve, private):
    upstream = serve([with_length(b"Hi")], tls=private.server("upstream.test"))
    proxy = serve([ACCEPTED, tunnel_to(upstream.port)], [with_length(b"Ho")])
    client = through(proxy)
    assert [client.ask("https://upstream.test"), client.ask("http://upstream.test")] == [b"Hi", b"Ho"]
    assert [line for head in proxy.heads for line in head if line.startswith("Proxy-")] == []


def test_tunnels_to_different_servers_are_not_mixed(through, serve, private):
    one, two = (serve([with_length(name)], tls=private.server("one.test", "two.test")) for name in (b"one", b"two"))
    to_one, to_two = (ACCEPTED, tunnel_to(one.port)), (ACCEPTED, tunnel_to(two.port))
    client = through(serve(to_one, to_two))
    names = ["one", "two", "one", "two"]
    assert [client.ask(f"https://{name}.test").decode() for name in names] == names


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_an_upstream_on_loopback_is_asked_directly(through, serve, private, name):
    proxy = serve([with_length(b"proxy")])
    plain, secure = serve([with_length(b"Hi")]), serve([with_length(b"Ho")], tls=private.server(name))
    client = through(proxy, CREDENTIALS)
    urls = [server.url.replace("127.0.0.1", name) for server in (plain, secure)]
    assert [client.ask(url) for url in urls] == [b"Hi", b"Ho"]
    assert proxy.connections == 0
    assert [line for head in (*plain.heads, *secure.heads) for line in head if line.startswith("Proxy-")] == []


# What goes wrong

REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 6\r\n\r\nsecret"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((REFUSED,), "Tunnel connection failed: 407 Proxy Authentication Required"),
        ((b"HTTP/1.0 403 Not for you\r\n\r\n", close), "Tunnel connection failed: 403 Not for you"),
        ((b"HTTP/1.1 502 \r\n\r\n", close), "Tunnel connection failed: 502"),
        ((with_length(b"secret", status=b"504 Gateway Timeout"),), "Tunnel connection failed: 504 Gateway Timeout"),
    ],
)
def test_a_tunnel_that_the_proxy_refuses_is_unreachable_and_the_reason_is_its_answer(through, serve, answer, reason):
    proxy = serve(answer)
    found = through(proxy, CREDENTIALS).refusal("https://upstream.test")
    assert (type(found), found.reason.strip()) == (UpstreamUnreachable, reason)
    assert found.message == UpstreamUnreachable.message
    assert len(proxy.heads) == 1


def read_on(connection: object) -> None:
    connection.recv(1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "answer",
    [
        [close],
        [reset],
        [b"HTTP/1.1 200", close],
        [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", read_on],
        [b"HTTP/2.0 200 OK\r\n\r\n", close],
        [b"HTTP/1.1 abc\r\n\r\n", close],
        [b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000, read_on],
        [ACCEPTED, close],
    ],
    ids=["closed", "reset", "half a line", "no HTTP", "HTTP/2", "no status", "long line", "closed behind"],
)
def test_a_proxy_that_breaks_off_or_speaks_something_else_is_unreachable(through, serve, answer):
    assert type(through(serve(answer)).refusal("https://upstream.test")) is UpstreamUnreachable


@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\n\r\n", b"x"])
def test_a_proxy_that_says_more_than_an_answer_is_unreachable(serve, private, more):
    """http.client, below requests' own adapter, takes no notice of it."""
    client = Client(serve([ACCEPTED + more, read_on]), private, fast=True)
    found = client.refusal("https://upstream.test")
    assert (type(found), found.reason) == (UpstreamUnreachable, "Tunnel connection failed: more than an answer")


def test_a_proxy_s_answer_may_come_byte_by_byte(through, serve, private):
    upstream = serve([with_length(b"Hi")], tls=private.server("upstream.test"))
    steps: list[Step] = [bytes([byte]) for byte in ACCEPTED]
    assert through(serve([*steps, tunnel_to(upstream.port)])).ask("https://upstream.test") == b"Hi"


def test_a_proxy_that_is_not_there_is_unreachable(through, serve):
    proxy = RawServer()
    proxy.stop()
    client = through(proxy, CREDENTIALS)
    for url in ("http://upstream.test", "https://upstream.test"):
        found = client.refusal(url)
        assert (type(found), found.reason) == (UpstreamUnreachable, "Connection refused")


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_a_request_that_the_proxy_refuses_for_its_credentials_is_unreachable(through, serve, scheme):
    found = through(serve([REFUSED]), CREDENTIALS).refusal(f"{scheme}://upstream.test")
    assert (type(found), found.reason) == (UpstreamUnreachable, "the proxy answered 407 Proxy Authentication Required")
    assert found.message == UpstreamUnreachable.message


def test_a_407_of_an_upstream_itself_is_its_own(through, serve, private):
    upstream = serve([REFUSED], tls=private.server("upstream.test", "127.0.0.1"))
    client = through(serve([ACCEPTED, tunnel_to(upstream.port)]))
    for url in ("https://upstream.test", upstream.url, serve([REFUSED]).url):
        with pytest.raises(HTTPStatusError) as raised:
            client.ask(url)
        assert type(error_from_status(read_status(raised.value))) is UpstreamFailed


def test_a_certificate_is_checked_behind_a_tunnel_for_the_upstream_s_name(through, serve, private):
    upstream = serve([with_length(b"Hi")], tls=private.server("127.0.0.1"))
    found = through(serve([ACCEPTED, tunnel_to(upstream.port)])).refusal("https://upstream.test")
    assert type(found) is UpstreamTls
    assert found.reason == "Hostname mismatch, certificate is not valid for 'upstream.test'."


# The pieces


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy:3128", Proxy("proxy", 3128, {})),
        ("http://[::1]:3128", Proxy("::1", 3128, {})),
        ("http://ad%61@proxy:1", Proxy("proxy", 1, {"Proxy-Authorization": "Basic YWRhOg=="})),
        (f"http://{CREDENTIALS}proxy:1", Proxy("proxy", 1, {"Proxy-Authorization": BASIC.partition(": ")[2]})),
    ],
)
def test_a_proxy_is_read_from_its_url(url, proxy):
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.1", "[::1]")),
        *((host, False) for host in ("localhost.example", "notlocalhost", "10.0.0.1", "[2001:db8::1]", "a.example")),
    ],
)
def test_loopback_is_known_by_its_name_or_address(host, expected):
    assert is_loopback(f"https://me:pass@{host}:1/v1") is expected
