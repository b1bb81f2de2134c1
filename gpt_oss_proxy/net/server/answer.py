"""Writes one answer to a client's connection: its head is sent together with the first piece of its body.

gunicorn's own response writes them separately; each write costs the client a wake-up, and costs us more than the data
itself. Sources: RFC 9112 (framing), PEP 3333 (start_response).
"""

import email.utils
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from gpt_oss_proxy.sse import Last

_LAST_CHUNK = b"0\r\n\r\n"


class Answer:
    """Writes to `sock`. `version` is the request's, (1, 1) for example."""

    def __init__(self, sock: Any, method: str, version: tuple[int, int], *, keep_alive: bool) -> None:
        self._sock = sock
        self._method = method
        self._version = version
        self._head: bytes | None = None
        self._streams = False  # its length is unknown: pieces are sent as they are made
        self._chunked = False
        self._bodiless = False
        self._ended = False
        self.keep_alive = keep_alive
        self.begun = False  # some of it has been sent

    def start_response(self, status: str, headers: Sequence[tuple[str, str]], exc_info: Any = None) -> Any:
        """Take status and headers (PEP 3333). Raises ValueError if one contains a line end."""
        if exc_info and self.begun:
            raise exc_info[1]
        code = int(status[:3])
        first = f"HTTP/{self._version[0]}.{self._version[1]} {status}\r\n"
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers])
        lines = first + fields
        if not lines.count("\r") == lines.count("\n") == len(headers) + 1:
            raise ValueError("a line end in a header")
        length = "\ncontent-length: " in lines.lower()
        self._bodiless = self._method == "HEAD" or code in (204, 304) or code < 200
        self._streams = not (length or self._bodiless)
        self._chunked = self._streams and self._version > (1, 0)
        self.keep_alive = self.keep_alive and (length or self._chunked or self._bodiless)
        ours = f"Server: gunicorn\r\nDate: {_date(int(time.time()))}\r\n"
        ours += f"Connection: {'keep-alive' if self.keep_alive else 'close'}\r\n"
        ours += "Transfer-Encoding: chunked\r\n" if self._chunked else ""
        self._head = f"{first}{ours}{fields}\r\n".encode("latin-1")
        return self.write

    def write(self, data: bytes) -> None:
        """Send a piece of the body, with the head before the first, even an empty one. Raises OSError."""
        if self._ended:
            raise ValueError("a piece behind the last one")
        if self._streams and self.begun and data and type(data) is bytes:
            self._sock.send_soon(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
            return
        if self._bodiless:
            data = b""
        elif self._chunked and data:
            data = b"%x\r\n%b\r\n%b" % (len(data), data, self._end() if type(data) is Last else b"")
        self._send(data)

    def close(self) -> None:
        """Send what ends the answer. Raises OSError."""
        self._send(self._end())
        if self._streams and not self._chunked:  # no later write would send what is queued
            self._sock.flush()

    def _end(self) -> bytes:
        ended, self._ended = self._ended, True
        return _LAST_CHUNK if self._chunked and not ended else b""

    def _send(self, data: bytes) -> None:
        if self._head is not None:
            data = self._head + data
            self._head = None
        if data:
            self.begun = True
            self._sock.sendall(data)


@lru_cache(2)
def _date(second: int) -> str:
    return email.utils.formatdate(second, usegmt=True)
