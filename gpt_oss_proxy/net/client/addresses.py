"""The addresses of one server: concurrent look-ups share one query, and its result is used for 5 seconds.

gevent looks names up in threads, even numeric addresses. In a busy worker a thread gets Python's lock only every few
milliseconds: a thousand new streams at once would wait for seconds if each looked the name up itself.
"""

import math
import socket
import time
from typing import Any

from gevent import monkey

from gpt_oss_proxy.net.client.single_flight import SingleFlight

_BELIEVED_SECONDS = 5.0

# What socket.getaddrinfo returns: (family, type, protocol, canonical name, address to connect to).
Address = tuple[int, int, int, str, Any]

# gevent's own would use a thread; the original only parses the digits and does not block.
_read = monkey.get_original("socket", "getaddrinfo")


class Addresses:
    """The addresses of one host and port."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._found = _read_digits(host, port)
        self._until = math.inf if self._found else 0.0
        self._look_up = SingleFlight(self._look_up_now)

    def find(self) -> list[Address]:
        """Return the addresses, the best first. Raises OSError for an unknown name, ValueError for an invalid one."""
        if time.monotonic() < self._until:
            return self._found
        found = self._look_up.join()
        if isinstance(found, Exception):
            raise found.with_traceback(None)  # raised to many callers: each would extend the traceback
        return found

    def doubt(self) -> None:
        """Look the name up again at the next `find`: no address accepted a connection."""
        if self._until < math.inf:
            self._until = 0.0

    def _look_up_now(self) -> list[Address] | Exception:
        try:
            self._found = list(socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM))
            self._until = time.monotonic() + _BELIEVED_SECONDS
        except (OSError, ValueError) as error:
            return error
        return self._found


def _read_digits(host: str, port: int) -> list[Address]:
    """Return the address if `host` is a numeric one; [] if it is a name."""
    try:
        found: list[Address] = _read(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return []
    return found
