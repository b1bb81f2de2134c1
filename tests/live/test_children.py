"""Ports for the programs that the live tests start: none is given twice, whatever runs side by side."""

import socket

import pytest

from tests.live import children
from tests.live.children import free_port, ports


def test_workers_side_by_side_have_different_ports() -> None:
    given = [port for worker in range(16) for port in ports(f"gw{worker}")]
    assert sorted(given) == list(range(20000, 32000))


def test_no_port_is_given_twice() -> None:
    assert len({free_port() for _ in range(100)}) == 100


def test_a_port_where_somebody_listens_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(children, "_PORTS", iter([server.getsockname()[1], free]))
        assert free_port() == free
