"""A forward proxy between us and upstreams: a tunnel (CONNECT) for https, the whole URL as the path for http.

Source: RFC 9110, 9.3.6 (CONNECT) and 11.7 (Proxy-Authorization), RFC 9112, 3.2.2 (absolute-form).
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

_MOST_HEAD_BYTES = 64 * 1024
_LONGEST_LINE = 100  # of the quoted status line
_ACCEPTED = re.compile(rb"HTTP/1\.[01] 2\d\d(?: |$)")


class Proxy(msgspec.Struct, frozen=True):
    """A proxy's address, and the headers that are sent to it only."""

    host: str
    port: int
    headers: Mapping[str, str]


@lru_cache(8)
def parse_proxy(url: str) -> Proxy:
    """Return the proxy of a URL, `http://host:port`. A name and password in it are percent-encoded UTF-8."""
    parts = urlsplit(url)
    headers = {}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    return Proxy(parts.hostname or "", parts.port or 80, headers)


@lru_cache(256)
def is_loopback(url: str) -> bool:
    """Return whether a URL leads to this machine. A remote proxy would resolve it to itself.

    Names are not looked up. Go's ProxyFromEnvironment has the same rule.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")  # RFC 6761, 6.3


def open_tunnel(sock: Any, host: str, port: int, proxy: Proxy) -> None:
    """Ask the proxy at the other end of `sock` for a tunnel to `host`. Raises OSError if it refuses."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = {"Host": target, **proxy.headers}
    lines = [f"CONNECT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    sock.sendall("\r\n".join(lines).encode("ascii"))
    head = b""
    while (end := head.find(b"\r\n\r\n")) < 0:
        data = sock.recv(4096)
        if not data or len(head) > _MOST_HEAD_BYTES:
            raise OSError("Tunnel connection failed: no answer")
        head += data
    line = head.partition(b"\r\n")[0]
    if not _ACCEPTED.match(line):
        raise OSError(f"Tunnel connection failed: {line[:_LONGEST_LINE].decode('latin-1').partition(' ')[2]}")
    if end + 4 < len(head):  # a TLS server does not send first, so these bytes are the proxy's
        raise OSError("Tunnel connection failed: more than an answer")
