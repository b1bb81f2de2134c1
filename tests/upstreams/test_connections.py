"""Connections to upstreams: TLS, what is idle, and what must not be used again."""

import ssl
import subprocess
from pathlib import Path

import gevent.socket
import pytest
import requests

from gpt_oss_proxy.errors import UpstreamUnreachable
from gpt_oss_proxy.upstreams import connections
from gpt_oss_proxy.upstreams.connections import Connection, Connections, Origin
from gpt_oss_proxy.upstreams.fast_adapter import FastAdapter
from gpt_oss_proxy.upstreams.transport import read_blocks
from tests.upstreams.raw_server import RawServer, close, with_length

LARGE = b"0123456789" * 30_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def over_tls(certificate: Path, answer: bytes) -> RawServer:
    """Serve one answer over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def wrapped(connection: object) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:  # type: ignore[arg-type]
            secure.recv(65536)
            secure.sendall(answer)

    return RawServer([wrapped], listens=False)


def get(server: RawServer) -> bytes:
    """Ask it once, over TLS, and stop it."""
    adapter = FastAdapter(5)
    url = server.url.replace("http://127.0.0.1", "https://localhost")
    try:
        with adapter.send(requests.Request("GET", url).prepare(), stream=True) as response:
            return b"".join(read_blocks(response))
    finally:
        adapter.close()
        server.stop()


def test_tls_is_spoken_with_those_whom_requests_trusts(certificate, monkeypatch):
    answer = with_length(LARGE)
    with pytest.raises(UpstreamUnreachable) as refused:
        get(over_tls(certificate, answer))
    assert "certificate verify failed" in str(refused.value.__cause__)
    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    monkeypatch.setattr(connections, "_tls", lambda: trusting)
    assert get(over_tls(certificate, answer)) == LARGE


def taken_from(server: RawServer) -> tuple[Connections, Connection]:
    port = int(server.url.rpartition(":")[2])
    pool = Connections(Origin("http", "127.0.0.1", port, "localhost"), 5)
    return pool, pool.take()


def test_the_latest_idle_connection_is_used_again(monkeypatch):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    server = RawServer([with_length(b"")] * 2, [with_length(b"")] * 2)
    pool, first = taken_from(server)
    second = pool.take()
    pool.put(first)
    pool.put(second)
    assert (pool.take(), pool.take()) == (second, first)
    first.close()
    second.close()
    server.stop()


def test_a_connection_rests_before_it_is_used_again(monkeypatch):
    server = RawServer([with_length(b"")] * 2, [with_length(b"")] * 2)
    pool, first = taken_from(server)
    pool.put(first)
    second = pool.take()
    assert second is not first
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    assert pool.take() is first
    first.close()
    second.close()
    server.stop()


def test_a_connection_that_its_server_has_closed_is_not_used_again(monkeypatch):
    monkeypatch.setattr(connections, "REST_SECONDS", 0)
    server = RawServer([with_length(b"x"), close], [with_length(b"")])
    pool, connection = taken_from(server)
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    while connection.receive():
        pass
    pool.put(connection)
    other = pool.take()
    assert other is not connection
    other.close()
    server.stop()


def test_there_is_a_most_of_idle_connections(monkeypatch):
    monkeypatch.setattr(connections, "POOLED_CONNECTIONS", 1)
    server = RawServer([with_length(b"")], [with_length(b"")])
    pool, first = taken_from(server)
    second = pool.take()
    pool.put(first)
    pool.put(second)
    assert pool.idle == [first]
    pool.close()
    assert pool.idle == []
    server.stop()


def test_a_socket_is_closed_whatever_the_end_of_its_reader_raises(monkeypatch):
    close_reader = connections.Reader.close

    def fail(reader):
        close_reader(reader)
        raise LookupError("a bug")

    ours, servers = gevent.socket.socketpair()
    with ours, servers:
        monkeypatch.setattr(connections.Reader, "close", fail)
        with pytest.raises(LookupError):
            Connection(ours).close()
        assert (ours.fileno(), servers.recv(9)) == (-1, b"")
