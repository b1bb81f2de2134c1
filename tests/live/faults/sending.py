"""How an answer is sent: its head, chunks and codings, and the ways in which it can be broken off."""

import gzip
import itertools
import os
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from tests.live.faults.answers import Protocol, Record

Step = bytes | Callable[[socket.socket], None]
CHUNKED = b"Transfer-Encoding: chunked"
UNTIL_CLOSE = b"Connection: close"
LAST = b"0\r\n\r\n"  # the last chunk
_LONGEST_SECONDS = 60


class Answer:
    """The good answer to one request, in the pieces that faults are made of. `address` is the server's own."""

    def __init__(self, protocol: Protocol, texts: Sequence[str], address: str) -> None:
        self.protocol = protocol
        self.address = address
        records = protocol.records(texts)
        self.frames = [protocol.encode(record) for record in records]
        middle = next(index for index, record in enumerate(records) if record.text) + 1
        end = len(records) + protocol.end + 1
        self.middle = middle
        self.begun = self.frames[:1]  # no text yet
        self.half = self.frames[:middle]  # its last record brings the first text
        self.rest = self.frames[middle:]
        self.endless = self.frames[: len(records) + min(protocol.end, protocol.last)]  # all but what ends it
        self.whole = self.frames[:end]
        self.noise = protocol.encode(Record(protocol.noise))
        self.error = protocol.encode(Record(protocol.error))
        self.word = self.frames[middle]  # brings text, and may be repeated

    def head(
        self, *more: bytes, framing: bytes = CHUNKED, status: bytes = b"200 OK", headers: Sequence[bytes] | None = None
    ) -> bytes:
        own = self.protocol.headers if headers is None else headers
        return b"\r\n".join((b"HTTP/1.1 " + status, *own, framing, *more, b"", b""))

    def good(self, *more: bytes) -> list[Step]:
        return [self.head(*more), *chunks(self.frames), LAST]

    def record(self, data: str) -> bytes:
        return self.protocol.encode(Record(data))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunks(pieces: Iterable[bytes]) -> list[bytes]:
    return [chunk(piece) for piece in pieces]


def chunked(a: Answer) -> list[bytes]:
    """Return a whole good answer, head and all."""
    return [a.head(), *chunks(a.frames), LAST]


def in_one(a: Answer) -> bytes:
    return b"".join(a.frames)


def refuse(status: int, *headers: bytes, body: bytes = b"") -> list[Step]:
    """Answer with a status other than 200."""
    lines = (b"HTTP/1.1 %d No" % status, *headers, b"Content-Length: %d" % len(body), b"", body)
    return [b"\r\n".join(lines)]


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


# Ends and silences


def fin(connection: socket.socket) -> None:
    """End in order: what was sent arrives, then the end."""
    connection.shutdown(socket.SHUT_WR)
    raise ConnectionAbortedError


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())
    raise ConnectionResetError


def stall(connection: socket.socket) -> None:
    """Say nothing more, until the client leaves."""
    connection.settimeout(_LONGEST_SECONDS)
    while connection.recv(65536):
        pass
    raise ConnectionAbortedError


def cork(connection: socket.socket) -> None:
    """Let what follows leave in one packet, its FIN included."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)


def pause(seconds: float) -> Step:
    return lambda _connection: time.sleep(seconds)


def for_ever(block: bytes, gap_seconds: float = 0.0) -> Iterator[Step]:
    """Send a block again and again, until the client leaves."""
    ends = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < ends:
        yield block
        if gap_seconds:
            yield pause(gap_seconds)


def slowly(data: bytes, gap_seconds: float) -> Iterator[Step]:
    return itertools.chain.from_iterable((byte, pause(gap_seconds)) for byte in bytewise(data))


# Codings


def compressed(pieces: Iterable[bytes], window: int = 31, *, end: bool = True) -> list[bytes]:
    """Return pieces that can be decoded as they come. Window 31 is gzip, 15 deflate, -15 deflate without its head."""
    coder = zlib.compressobj(wbits=window)
    coded = [coder.compress(piece) + coder.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*coded, coder.flush()] if end else coded


def bomb(block: bytes, times: int, window: int = 31) -> Iterator[bytes]:
    """Yield `times` times the block, compressed and without an end."""
    coder = zlib.compressobj(9, wbits=window)
    yield coder.compress(b"") + coder.flush(zlib.Z_FULL_FLUSH)
    one = coder.compress(block) + coder.flush(zlib.Z_FULL_FLUSH)
    for _ in range(times // 64):
        yield one * 64


def bomb_in_a_bomb(megabytes: int) -> bytes:
    """Return zeros, compressed twice."""
    return gzip.compress(b"".join(bomb(bytes(2**20), megabytes)))
