"""A client that reads exactly as much as it wants, and leaves in any of the ways in which clients leave."""

import asyncio
import contextlib
import json
import re
import socket
import struct
from typing import Any, Literal
from urllib.parse import urlsplit

How = Literal["fin", "rst", "half"]
CALLER = "a-key"  # with which clients ask, unless told otherwise
HOWS: tuple[How, ...] = ("fin", "rst", "half")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST instead of FIN
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_READ_BYTES = 65536
_MUCH_BYTES = 4 * 1024 * 1024


class Client:
    """One connection. `heard` is what was read of its answer; beyond that not much is taken from the gateway."""

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = bytearray()
        self.left_at: float | None = None
        self._host = host
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, base: str, *, buffers: bool = True) -> "Client":
        """Return one that has connected; without buffers it takes next to nothing that it does not read."""
        url = urlsplit(base)
        sock = socket.socket()
        sock.setblocking(False)
        if not buffers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the system makes some kilobytes of it
        await asyncio.get_running_loop().sock_connect(sock, (url.hostname, url.port))
        return cls(url.netloc, *await asyncio.open_connection(sock=sock))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def request(self, body: Any, *headers: str, caller: str = CALLER, chunked: bool = False) -> tuple[bytes, bytes]:
        """Return head and body of a chat."""
        data = json.dumps(body).encode()
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"
        lines = ["POST /v1/chat/completions HTTP/1.1", f"Host: {self._host}", f"Authorization: Bearer {caller}"]
        head = "\r\n".join([*lines, *headers, framing, "", ""]).encode()
        return head, b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if chunked else data

    async def get(self, path: str) -> bytes:
        """Return the body of what is there."""
        self.heard.clear()
        self.send(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        body = await self.whole()
        self.heard.clear()
        return body

    async def until(self, words: bytes) -> None:
        """Read until they have come."""
        while words not in self.heard:
            piece = await self._reader.read(_READ_BYTES)
            assert piece, f"{words!r} never came: {bytes(self.heard)!r}"
            self.heard += piece

    async def whole(self) -> bytes:
        """Read one whole answer; return its body, a stream's with its transfer coding."""
        await self.until(b"\r\n\r\n")
        end = self.heard.index(b"\r\n\r\n") + 4
        if length := _LENGTH.search(self.heard, 0, end):
            while len(self.heard) < end + int(length[1]):
                piece = await self._reader.read(_READ_BYTES)
                assert piece, f"cut: {bytes(self.heard)!r}"
                self.heard += piece
        else:
            await self.until(b"\r\n0\r\n\r\n")
        return bytes(self.heard[end:])

    @property
    def status(self) -> int:
        """The answer's status, 0 if none has come."""
        return int(self.heard.split()[1]) if self.heard else 0

    def leave(self, how: How) -> None:
        """Leave at once."""
        self.left_at = asyncio.get_running_loop().time()
        if how == "rst":
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._writer.transport.abort()
        elif how == "half":
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _MUCH_BYTES)
            self._writer.write_eof()
        else:
            self._writer.close()

    async def drop(self) -> None:
        """Close it, whatever it has done."""
        self._writer.transport.abort()
        await self.gone()

    async def gone(self) -> None:
        """Wait for the connection's end: behind a half-close it is the gateway that must close it."""
        with contextlib.suppress(ConnectionError):
            while not self._writer.is_closing() and await self._reader.read(_READ_BYTES):
                pass
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
