"""A client's connection: read fairly, written to in bounded time."""

import errno
import os
from typing import Any

import gevent
import gevent.socket


class ClientSocket(gevent.socket.socket):
    """Others run before each read, however fast the client sends.

    A write ends after `write_seconds`: a client that reads nothing must not keep its place for ever. `descriptor` is
    its number, -1 when it is closed.
    """

    write_seconds = 600.0
    _readable: Any = None
    descriptor = -1

    @classmethod
    def of(cls, accepted: Any, write_seconds: float) -> "ClientSocket":
        """Return the same connection as one of ours."""
        own = cls(accepted.family, accepted.type, accepted.proto, accepted.detach())
        own.write_seconds = write_seconds
        own.descriptor = own.fileno()
        own._readable = gevent.get_hub().loop.io(own.descriptor, 1)
        return own

    def recv(self, size: int, *flags: int) -> bytes:
        """Read, after waiting in the hub: gevent's own recv lets no one else run for as long as there is data."""
        gevent.get_hub().wait(self._readable)
        return super().recv(size, *flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write everything. Raises BrokenPipeError, as for a client that has gone, if it takes too long."""
        try:
            sent = os.write(self.descriptor, data)  # mostly that is all; gevent would first ask for the buffer's size
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            with gevent.Timeout(self.write_seconds, BrokenPipeError(errno.EPIPE, "the client does not read")):
                super().sendall(memoryview(data)[sent:], flags)

    def close(self) -> None:
        """Close it."""
        if self._readable is not None:
            self._readable.close()
            self._readable = None
        self.descriptor = -1
        super().close()
