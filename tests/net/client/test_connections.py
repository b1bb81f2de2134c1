"""Connections to upstreams: TLS, what is idle, and what must not be used again."""

import gevent.socket
import pytest
import requests

from gpt_oss_proxy.net.client import connections
from gpt_oss_proxy.net.client.connections import Connection, Connections, Origin
from gpt_oss_proxy.net.client.fast_adapter import FastAdapter
from gpt_oss_proxy.net.client.tls import client_context
from gpt_oss_proxy.net.client.transport import read_blocks
from tests.upstreams.certificates import Authority
from tests.upstreams.raw_server import RawServer, close, with_length

LARGE = b"0123456789" * 30_000


def test_a_long_answer_is_read_over_tls(tmp_path):
    private = Authority(tmp_path)
    server = RawServer([with_length(LARGE)], tls=private.server("127.0.0.1"))
    adapter = FastAdapter(5, client_context(added=str(private.path)))
    with adapter.send(requests.Request("GET", server.url).prepare(), stream=True) as response:
        assert b"".join(read_blocks(response)) == LARGE
    adapter.close()
    server.stop()


def taken_from(server: RawServer) -> tuple[Connections, Connection]:
    pool = Connections(Origin("http", "127.0.0.1", server.port, "localhost"), 5, client_context())
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
