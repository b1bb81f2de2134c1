"""A client's connection: reads let other greenlets run, writes have a time limit."""

import contextlib
import errno
import os
from typing import Any

import gevent
import gevent.socket

from gpt_oss_proxy.net.turn import Reader, turn


class ClientSocket(gevent.socket.socket):
    """A socket on which other greenlets run before each read, however fast the client sends.

    A write fails after `write_seconds`, so that a client that reads nothing does not keep its slot. `descriptor` is its
    number, -1 once closed. `unsent` is written at the end of this iteration of the loop; the rest, when the client
    accepts it.
    """

    write_seconds = 600.0
    descriptor = -1
    unsent = b""
    _reader: Reader | None = None
    _turn: Any = None
    _writable: Any = None
    _failed = False  # a write failed, so all later ones do

    @classmethod
    def of(cls, accepted: Any, write_seconds: float) -> "ClientSocket":
        """Return the accepted connection as a ClientSocket."""
        own = cls(accepted.family, accepted.type, accepted.proto, accepted.detach())
        own.write_seconds = write_seconds
        own.descriptor = own.fileno()
        own._reader = Reader(own.descriptor)
        own._turn = turn()
        return own

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read, after letting others run: gevent's own recv does not let others run while there is data."""
        return self._reader.read(size) if self._reader and not flags else super().recv(size, flags)

    @property
    def unread(self) -> Reader | None:
        """The Reader that calls back on data that no greenlet waits for; None if the socket is closed."""
        return self._reader

    @property
    def holds(self) -> bool:
        """Whether bytes were read that `recv` has not returned yet."""
        return bool(self._reader and self._reader.holds)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write everything. Raises BrokenPipeError, as for a client that has gone, if it takes too long.

        After a failure nothing more is written: it is unknown how much the client has read.
        """
        if self._failed:
            raise BrokenPipeError(errno.EPIPE, "a write has failed before")
        if self.unsent:
            data, self.unsent = b"".join((self.unsent, data)), b""
            self._listen_for_room()
        try:
            self._send_all(data, flags)
        except BaseException:  # also when the greenlet is killed: it is raised again
            self._failed = True
            raise

    def _send_all(self, data: Any, flags: int) -> None:
        try:
            sent = os.write(self.descriptor, data)  # mostly that is all; gevent would first query the buffer's size
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            with gevent.Timeout(self.write_seconds, BrokenPipeError(errno.EPIPE, "the client does not read")):
                super().sendall(memoryview(data)[sent:], flags)

    def send_soon(self, data: bytes) -> None:
        """Write it after all data of this iteration of the loop was handled. Raises OSError if an earlier write failed.

        It does not block while the client accepts what it is sent.
        """
        if self.unsent or self._failed:
            self.sendall(data)
        else:
            self.unsent = data
            self._turn.write(self._write_soon)

    def flush(self) -> None:
        """Write what `send_soon` has queued. Raises OSError."""
        if self.unsent:
            self.sendall(b"")

    def _write_soon(self) -> None:
        # In the hub.
        if self.unsent:
            try:
                self.unsent = self.unsent[os.write(self.descriptor, self.unsent) :]
            except BlockingIOError:
                pass
            except OSError:  # the next write raises
                self._failed = True
            if self.unsent or self._writable:
                self._listen_for_room()

    def _listen_for_room(self) -> None:
        """Write the rest, if any, as soon as the client accepts more."""
        if self.unsent and not self._failed:
            self._writable = self._writable or gevent.get_hub().loop.io(self.descriptor, 2)
            self._writable.start(self._write_soon)
        elif self._writable:
            self._writable.stop()

    def close(self) -> None:
        """Close it, after one more attempt to write what `send_soon` has queued."""
        if self.unsent and not self._failed:
            with contextlib.suppress(OSError):
                os.write(self.descriptor, self.unsent)
        self.unsent = b""
        reader, self._reader, writable, self._writable = self._reader, None, self._writable, None
        self.descriptor = -1
        try:
            if reader:
                reader.close()
        finally:
            try:
                if writable:
                    writable.close()
            finally:
                super().close()
