"""Connections to upstreams over gevent's sockets: opened within one deadline, idle ones kept for a while."""

import contextlib
import math
import os
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from gevent import monkey

from gpt_oss_proxy.net.client.addresses import Addresses
from gpt_oss_proxy.net.client.connecting import connecting
from gpt_oss_proxy.net.client.proxy import Proxy, open_tunnel
from gpt_oss_proxy.net.client.standard_adapter import IDLE_SECONDS, POOLED_CONNECTIONS
from gpt_oss_proxy.net.turn import Reader

_READ_BYTES = 64 * 1024
REST_SECONDS = 0.05

# gevent's own poll would switch to other greenlets; the original polls without waiting.
_poll = monkey.get_original("select", "poll")


class Origin(msgspec.Struct, frozen=True):
    """A server. `name` is its value of the Host header."""

    scheme: str
    host: str
    port: int
    name: str


class Connection:
    """A connected socket and the greenlet that waits for its data."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._descriptor = sock.fileno()
        self._encrypted = hasattr(sock, "pending")
        self._reader = _TlsReader(sock) if self._encrypted else Reader(self._descriptor)
        # Waits (others run meanwhile), then returns the bytes read; b'' at the end. Takes a size. Raises OSError.
        self.receive: Callable[..., bytes] = self._reader.read
        self.idle_since = 0.0

    def offer(self, on_bytes: Callable[[bytes], bool] | None) -> None:
        """Call `on_bytes` in the hub with the bytes of each read; if it returns False, `receive` returns them."""
        self._reader.on_bytes = on_bytes

    def send(self, data: bytes) -> None:
        """Send all. Raises OSError."""
        try:
            sent = 0 if self._encrypted else os.write(self._descriptor, data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._sock.sendall(memoryview(data)[sent:])

    @property
    def is_quiet(self) -> bool:
        """Whether neither data nor an end of file has arrived: an idle connection that can be used."""
        if self._reader.holds:
            return False
        poll = _poll()
        poll.register(self._descriptor, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it, whatever state it is in."""
        try:
            self._reader.close()
        finally:
            self._sock.close()


class _TlsReader:
    """Like Reader for a TLS socket, without the loop's phases: bytes may be decrypted before the socket is ready.

    It never calls `on_bytes`.
    """

    holds = False
    on_bytes: Callable[[bytes], bool] | None = None

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(sock.fileno(), 1)

    def read(self, size: int = _READ_BYTES) -> bytes:
        if not self._sock.pending():
            self._hub.wait(self._readable)
        data: bytes = self._sock.recv(size)
        return data

    def close(self) -> None:
        self._readable.stop()
        self._readable.close()


class Connections:
    """The idle connections to one origin. Of those idle for REST_SECONDS, the most recently used is taken first.

    Idle connections are closed before their servers do it, because a POST into a closed one could not be repeated. Some
    servers close right after an answer without announcing it, so no connection is reused at once.
    """

    def __init__(self, origin: Origin, connect_seconds: float, tls: ssl.SSLContext, proxy: Proxy | None = None) -> None:
        """With a proxy, connections lead to it, and tunnel through it if the origin speaks TLS."""
        self.origin = origin
        self.proxy = proxy
        self._connect_seconds = connect_seconds
        self._tls = tls
        self._addresses = Addresses(proxy.host, proxy.port) if proxy else Addresses(origin.host, origin.port)
        self._resting: deque[Connection] = deque()
        self._rested: list[Connection] = []
        self._sweeping = False

    def take(self) -> Connection:
        """Return a connection that is not in use. Raises UpstreamUnreachable and its kin."""
        now = time.monotonic()
        while self._resting and self._resting[0].idle_since <= now - REST_SECONDS:
            self._rested.append(self._resting.popleft())
        while self._rested:
            connection = self._rested.pop()
            if connection.idle_since > now - IDLE_SECONDS and connection.is_quiet:
                return connection
            connection.close()
        return Connection(self._connect())

    def put(self, connection: Connection) -> None:
        """Keep the connection for reuse, or close it if enough are idle."""
        if len(self._rested) + len(self._resting) >= POOLED_CONNECTIONS:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        self._resting.append(connection)
        if not self._sweeping:
            self._sweeping = True
            gevent.spawn_later(IDLE_SECONDS, self._sweep)

    @property
    def idle(self) -> list[Connection]:
        """The unused connections, the most recently used last."""
        return [*self._rested, *self._resting]

    def close(self) -> None:
        """Close all idle connections."""
        self._close_before(math.inf)

    def _connect(self) -> Any:
        """Return a connected socket. Raises as `connecting` does."""
        origin = self.origin
        sock: Any = None
        try:
            with connecting(self._connect_seconds):
                sock = _connect_to_one(self._addresses)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if origin.scheme == "https":
                    if self.proxy:
                        open_tunnel(sock, origin.host, origin.port, self.proxy)
                    name = origin.host.rstrip(".")  # certificates leave out the trailing dot
                    # Not on connect: killed during its handshake, the socket would stay open until garbage collection.
                    sock = self._tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
                    sock.do_handshake()
                connected, sock = sock, None
                return connected
        finally:
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.close()

    def _sweep(self) -> None:
        self._close_before(time.monotonic() - IDLE_SECONDS)
        self._sweeping = bool(self.idle)
        if self._sweeping:
            gevent.spawn_later(IDLE_SECONDS / 4, self._sweep)

    def _close_before(self, oldest: float) -> None:
        idle = self.idle
        self._rested, self._resting = [], deque(connection for connection in idle if connection.idle_since > oldest)
        for connection in idle:
            if connection.idle_since <= oldest:
                connection.close()


def _connect_to_one(addresses: Addresses) -> Any:
    """Return a socket connected to the first address that accepts. Raises the OSError of the last one that failed."""
    failure: OSError = ConnectionRefusedError()
    for family, kind, protocol, _, address in addresses.find():
        try:
            with contextlib.ExitStack() as stack:
                sock = stack.enter_context(socket.socket(family, kind, protocol))
                sock.connect(address)
                stack.pop_all()
                return sock
        except OSError as error:
            failure = error
    addresses.doubt()
    raise failure
