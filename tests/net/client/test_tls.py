"""Which authorities are trusted, over real TLS: the same by both adapters, and it is known which check failed."""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import pytest

from gpt_oss_proxy.errors import UpstreamTls, UpstreamUnreachable
from gpt_oss_proxy.net.client.tls import client_context
from gpt_oss_proxy.net.client.transport import Transport, read_blocks
from tests.upstreams.certificates import Authority, self_signed
from tests.upstreams.raw_server import RawServer, close, reset, with_length

BOTH = pytest.mark.parametrize("fast", [True, False], ids=["fast", "standard"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def private(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def other(folder: Path) -> Authority:
    return Authority(folder, "other")


@pytest.fixture
def serve() -> Iterator[Callable[[ssl.SSLContext], RawServer]]:
    started: list[RawServer] = []

    def start(tls: ssl.SSLContext) -> RawServer:
        started.append(RawServer([with_length(b"Hi")], tls=tls))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def ask(url: str, trusting: ssl.SSLContext | None, *, fast: bool) -> bytes:
    transport = Transport(connect_timeout_seconds=5, fast=fast, tls=trusting)
    try:
        with transport.send("POST", url, headers={}, body=b"hello") as response:
            return b"".join(read_blocks(response))
    finally:
        transport.close()


def called(server: RawServer, name: str) -> str:
    return server.url.replace("127.0.0.1", name)


@BOTH
def test_a_private_authority_vouches_only_where_it_is_known(private, serve, fast):
    server = serve(private.server("localhost", "127.0.0.1"))
    trusting = client_context(added=str(private.path))
    for name in ("localhost", "127.0.0.1"):
        assert ask(called(server, name), trusting, fast=fast) == b"Hi"
    with pytest.raises(UpstreamTls):
        ask(server.url, None, fast=fast)
    assert len(server.heads) == 2


UNKNOWN = "unable to get local issuer certificate"
NOT_LOCALHOST = "Hostname mismatch, certificate is not valid for 'localhost'."
NOT_LOOPBACK = "IP address mismatch, certificate is not valid for '127.0.0.1'."


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (lambda private, _: private.server("localhost", ended=True), "localhost", "certificate has expired"),
        (lambda private, _: private.server("elsewhere.example"), "localhost", NOT_LOCALHOST),
        (lambda private, _: private.server(common_name="localhost"), "localhost", NOT_LOCALHOST),
        (lambda private, _: private.server("127.0.0.2"), "127.0.0.1", NOT_LOOPBACK),
        (lambda _, other: other.server("localhost"), "localhost", UNKNOWN),
        (
            lambda _, other: other.server("localhost", chain=other.pem),
            "localhost",
            "self-signed certificate in certificate chain",
        ),
        (lambda private, _: self_signed(private.path.parent, "localhost")[0], "localhost", "self-signed certificate"),
    ],
    ids=["expired", "other host", "name without extension", "other address", "unknown", "unknown root", "self-signed"],
)
@BOTH
def test_a_refused_certificate_has_its_reason_and_gets_no_request(private, other, serve, make, name, reason, fast):
    server = serve(make(private, other))
    with pytest.raises(UpstreamTls) as refused:
        ask(called(server, name), client_context(added=str(private.path)), fast=fast)
    assert refused.value.reason == reason
    assert "localhost" not in refused.value.message
    assert server.heads == []


@BOTH
def test_no_tls_that_both_speak_is_a_failed_handshake(private, serve, fast):
    old = private.server("localhost")
    old.set_ciphers("AES128-SHA")  # no elliptic curve certificate can serve it
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(UpstreamTls) as refused:
        ask(called(serve(old), "localhost"), client_context(added=str(private.path)), fast=fast)
    assert refused.value.reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"


@BOTH
def test_a_server_that_does_not_speak_tls_has_failed_its_handshake(fast):
    server = RawServer([b"HTTP/1.1 400 Bad Request\r\n\r\n", close], listens=False)
    with pytest.raises(UpstreamTls) as refused:
        ask(server.url.replace("http:", "https:"), None, fast=fast)
    server.stop()
    assert refused.value.reason == "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize("end", [close, reset])
@BOTH
def test_a_server_that_hangs_up_in_the_handshake_is_unreachable(end, fast):
    server = RawServer([lambda connection: connection.recv(65536), end], listens=False)
    with pytest.raises(UpstreamUnreachable):
        ask(server.url.replace("http:", "https:"), None, fast=fast)
    server.stop()


# Which authorities


def test_by_default_they_are_certifi_s():
    assert client_context().cert_store_stats() == ssl.create_default_context(cafile=certifi.where()).cert_store_stats()


def number(**authorities: Path) -> int:
    found = client_context(**{name: str(path) for name, path in authorities.items()}).cert_store_stats()["x509"]
    assert isinstance(found, int)
    return found


@pytest.fixture(scope="module")
def folders(folder: Path, private: Authority) -> Path:
    """A folder as `openssl rehash` makes them."""
    path = folder / "hashed"
    path.mkdir()
    (path / "f3eaf3dc.0").write_bytes(private.pem)  # the hash of its name; the key does not matter
    return path


def test_a_file_or_a_bundle_stands_in_their_place_and_what_is_added_beside_any(private, other, folders):
    certifis = number()
    assert number(added=private.path) == certifis + 1
    assert number(file=private.path) == number(bundle=private.path) == 1
    assert number(folders=folders) == number(bundle=folders) == 0  # OpenSSL looks there when it needs one
    assert number(file=private.path, added=other.path) == number(bundle=private.path, added=other.path) == 2


@BOTH
def test_authorities_in_a_folder_count_alone_or_beside_a_file(private, other, folders, serve, fast):
    server, alien = serve(private.server("localhost")), serve(other.server("localhost"))
    for authorities in ({"folders": folders}, {"bundle": folders}, {"file": other.path, "folders": folders}):
        trusting = client_context(**{name: str(path) for name, path in authorities.items()})
        assert ask(called(server, "localhost"), trusting, fast=fast) == b"Hi"
        expected = b"Hi" if "file" in authorities else UpstreamTls
        try:
            seen: object = ask(called(alien, "localhost"), trusting, fast=fast)
        except UpstreamTls as error:
            seen = type(error)
        assert seen == expected


@BOTH
def test_a_bundle_goes_before_a_file_and_folders(private, other, folders, serve, fast):
    trusting = client_context(bundle=str(other.path), file=str(private.path), folders=str(folders))
    assert ask(called(serve(other.server("localhost")), "localhost"), trusting, fast=fast) == b"Hi"
    with pytest.raises(UpstreamTls):
        ask(called(serve(private.server("localhost")), "localhost"), trusting, fast=fast)


@BOTH
def test_an_intermediate_authority_can_be_trusted_without_its_root(folder, private, serve, fast):
    between = Authority(folder, f"intermediate {fast}", issuer=private)
    server = serve(between.server("localhost"))
    assert ask(called(server, "localhost"), client_context(added=str(between.path)), fast=fast) == b"Hi"


@BOTH
def test_a_server_that_has_signed_itself_can_be_added(tmp_path, serve, fast):
    context, path = self_signed(tmp_path, "localhost")
    assert ask(called(serve(context), "localhost"), client_context(added=str(path)), fast=fast) == b"Hi"


@BOTH
def test_a_request_adds_no_authorities(private, serve, fast):
    trusting = client_context(file=str(private.path))
    ask(called(serve(private.server("localhost")), "localhost"), trusting, fast=fast)
    assert trusting.cert_store_stats()["x509"] == 1


def test_all_upstreams_share_one_context(private):
    assert client_context(added=str(private.path)) is client_context(added=str(private.path))
