"""requests' own adapter over urllib3, made fair and bounded, with its own mapping of connect errors."""

import http.client
import io
import socket
import ssl
import time
from typing import Any

import gevent
import requests.adapters
import urllib3.connection
import urllib3.connectionpool

from gpt_oss_proxy.net.client.connecting import connecting
from gpt_oss_proxy.net.client.proxy import parse_proxy
from gpt_oss_proxy.net.client.tls import client_context

IDLE_SECONDS = 4.0  # uvicorn and Node close connections that are idle for 5
POOLED_CONNECTIONS = 1024  # per upstream and worker; further connections are closed after use
_BUFFER_BYTES = 16 * 1024
_SLICE_SECONDS = 0.001  # how long one response may be read before other greenlets run
_A_MOMENT = 1e-6  # seconds; not 0: gevent would check timers and sockets only after fifty rounds
_MOST_INTERIM_HEADS = 8


class StandardAdapter(requests.adapters.HTTPAdapter):
    """requests' adapter with connections that map their connect errors."""

    def __init__(self, connect_timeout_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        """Without `tls` it trusts certifi's authorities."""
        self._connect_timeout_seconds = connect_timeout_seconds
        self._tls = tls or client_context()
        super().__init__(pool_maxsize=POOLED_CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create pools of our own connection classes."""
        super().init_poolmanager(*args, **kwargs)
        seconds = self._connect_timeout_seconds

        class Plain(_Connecting, urllib3.connection.HTTPConnection):
            limit_seconds = seconds
            response_class = _Answer

        class Secure(_Connecting, urllib3.connection.HTTPSConnection):
            limit_seconds = seconds
            response_class = _Answer

        class PlainPool(_Pool, urllib3.connectionpool.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(_Pool, urllib3.connectionpool.HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Use our connection classes for proxies, too."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the headers for the proxy only; requests itself cannot encode credentials beyond Latin-1."""
        return dict(parse_proxy(proxy).headers)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """Use our TLS context, unless the caller asks for other settings."""
        host, tls = super().build_connection_pool_key_attributes(request, verify, cert)
        if verify is True and not cert:
            tls["ssl_context"] = self._tls
        return host, tls

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing for our own context; requests would add certifi's authorities to it."""
        if verify is not True or cert:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call] # requests' own lack


class _FairReader(io.RawIOBase):
    """A socket's raw stream, read fairly: gevent's recv does not let others run while there is data.

    It wraps the raw stream below all buffers, because http.client (trailers, chunk heads) and urllib3 (empty compressed
    data) loop for as long as an upstream sends.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._since = time.monotonic()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        begun = time.monotonic()
        if begun - self._since > _SLICE_SECONDS:
            gevent.sleep(_A_MOMENT)
            begun = self._since = time.monotonic()
        size = self._raw.readinto(buffer)
        now = time.monotonic()
        if now - begun > _SLICE_SECONDS:  # the read waited, so others have run
            self._since = now
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """A response read fairly; http.client itself would loop for as long as `100 Continue` is sent."""

    _interim = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        raw: io.RawIOBase = self.fp.detach()
        self.fp = io.BufferedReader(_FairReader(raw), _BUFFER_BYTES)

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc] # typeshed leaves it out
        if size < 0:  # http.client would return the chunks' heads as text
            raise ValueError
        return size

    def _read_status(self) -> tuple[str, int, str]:
        line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc] # typeshed leaves it out
        if line[1] == http.client.SWITCHING_PROTOCOLS:  # we never request an upgrade
            raise http.client.HTTPException
        if 100 <= line[1] < 200:
            # http.client skips only 100: a 103 would be taken for the response, and the real one for the next
            # request's.
            line = line[0], http.client.CONTINUE, line[2]
        self._interim += line[1] == http.client.CONTINUE
        if self._interim > _MOST_INTERIM_HEADS:
            raise http.client.HTTPException
        return line


class _Pool:
    """A pool that closes connections before their servers do: a POST into a closed one could not be repeated."""

    pool: Any  # urllib3's queue
    _sweeping = False

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout)  # type: ignore[misc] # a mix-in over urllib3's pools
        if conn.sock is not None and conn.idle_since <= time.monotonic() - IDLE_SECONDS:
            conn.close()
        return conn

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc] # a mix-in over urllib3's pools
        if not self._sweeping:
            self._sweeping = True
            gevent.spawn_later(IDLE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        open_ones = (
            [conn for conn in self.pool.queue if conn is not None and conn.sock is not None] if self.pool else []
        )
        oldest = time.monotonic() - IDLE_SECONDS
        for conn in open_ones:
            if conn.idle_since <= oldest:
                conn.close()
        self._sweeping = any(conn.sock is not None for conn in open_ones)
        if self._sweeping:
            gevent.spawn_later(IDLE_SECONDS / 4, self._sweep)


class _Connecting:
    """A connection that maps the failures of connecting."""

    limit_seconds: float
    sock: socket.socket

    def connect(self) -> None:
        with connecting(self.limit_seconds):
            super().connect()  # type: ignore[misc] # a mix-in over urllib3's connections
            self.sock.settimeout(None)  # else it would limit sending the request, too
