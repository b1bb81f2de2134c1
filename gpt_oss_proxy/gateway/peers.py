"""The other workers of this gateway: which of them runs a call that can be joined, and reading it from there.

In a folder that all workers share, a call's name is a symbolic link to the worker that runs it: to make one is atomic,
so of two workers that begin the same call at the same moment one is the first. Each worker listens on a Unix socket
there. A frame is four bytes of length and a MessagePack.
"""

import contextlib
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import gevent
import msgspec
from gevent import socket
from gevent.server import StreamServer

from gpt_oss_proxy import errors
from gpt_oss_proxy.chat.events import Event, Lists
from gpt_oss_proxy.chat.lists import ClosableLists
from gpt_oss_proxy.errors import GatewayError, UpstreamIncomplete
from gpt_oss_proxy.gateway.client_watch import ClientWatch

_log = logging.getLogger(__name__)
_LENGTH = struct.Struct(">I")
_LONGEST_NAME = 128
_CONNECT_SECONDS = 2.0


class Joinable(Protocol):
    """A call that can be read from its beginning. `body` is the digest of the request's body."""

    id: str
    created: int
    body: str

    def read(self) -> ClosableLists:
        """Return its lists, which must be closed."""


class _Head(msgspec.Struct, frozen=True):
    id: str
    created: int
    body: str


class _Error(msgspec.Struct, frozen=True):
    kind: str
    message: str
    code: str
    param: str | None
    retry_after: str | None
    should_retry: bool | None


class _Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """A head, events, or the end; with nothing in it a sign of life, or, where a head is due, that there is no call."""

    head: _Head | None = None
    events: list[Event] = []
    error: _Error | None = None
    over: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


class Remote:
    """A call that another worker runs."""

    def __init__(self, head: _Head, connection: socket.socket, frames: IO[bytes]) -> None:
        self.id = head.id
        self.created = head.created
        self.body = head.body
        self._connection = connection
        self._frames = frames

    def close(self) -> None:
        """Give it up unread."""
        self._frames.close()
        self._connection.close()

    def read(self) -> Lists:
        """Yield its lists. Raises its GatewayError; UpstreamIncomplete if that worker died."""
        with self._connection, self._frames:
            while True:
                frame = _receive(self._frames)
                if frame is None:
                    raise UpstreamIncomplete
                if frame.error:
                    raise _error_of(frame.error)
                if frame.over:
                    return
                yield frame.events


class Peers:
    """The workers' meeting place. Without a folder there are no others."""

    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder else None
        self._me = ""
        self.lent = 0  # how many clients of other workers read calls of this one

    def listen(self, find: Callable[[str], Joinable | None]) -> None:
        """Answer the other workers from now on; `find` returns the call of a name. Called in each worker."""
        if not self._folder:
            return
        me = _socket_name(os.getpid())
        listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        try:
            (self._folder / me).unlink(missing_ok=True)  # of a dead worker that had our number
            listener.bind(str(self._folder / me))
        except OSError as error:  # the folder is gone, full, or its name too long for a socket
            _log.error("retries find the calls of their own worker only: %s", error)
            listener.close()
            return
        self._me = me
        listener.listen()
        StreamServer(listener, lambda connection, _address: self._lend(connection, find)).start()

    def _lend(self, connection: socket.socket, find: Callable[[str], Joinable | None]) -> None:
        self.lent += 1
        try:
            _serve(connection, find)
        finally:
            self.lent -= 1

    def find(self, name: str) -> Remote | None:
        """Return the call of another worker, or None and the name is ours."""
        if not self._me:
            return None
        while True:
            try:
                os.symlink(self._me, self._claim(name))
            except FileExistsError:
                pass
            except OSError:  # the folder is gone or full: then there are no others
                return None
            else:
                return None
            with contextlib.suppress(FileNotFoundError):  # given up in this very moment
                owner = os.readlink(self._claim(name))
                found = None if owner == self._me else self._ask(owner, name)
                if found is None:
                    self.claim(name)
                return found

    def claim(self, name: str) -> None:
        """Make the name ours, whoever's it was."""
        if not self._me:
            return
        claim = self._claim(name)
        ours = f"{claim}.{self._me}"
        with contextlib.suppress(OSError):  # the folder is gone or full: then nobody will join
            try:
                os.symlink(self._me, claim)
            except FileExistsError:
                with contextlib.suppress(FileExistsError):
                    os.symlink(self._me, ours)
                os.replace(ours, claim)

    def release(self, name: str) -> None:
        """Give the name up, if it is ours."""
        with contextlib.suppress(OSError):
            if self._me and os.readlink(self._claim(name)) == self._me:
                os.unlink(self._claim(name))

    def bury(self, pid: int) -> None:
        """Remove what a dead worker has left."""
        dead = _socket_name(pid)
        for path in self._folder.iterdir() if self._folder and self._folder.is_dir() else ():
            with contextlib.suppress(OSError):
                if path.name == dead or (path.is_symlink() and os.readlink(path) == dead):
                    path.unlink()

    def _claim(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _ask(self, owner: str, name: str) -> Remote | None:
        connection = socket.socket(socket.AF_UNIX)
        frames = connection.makefile("rb")
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(f"{self._folder}/{owner}")
            connection.sendall(name.encode() + b"\n")
            frame = _receive(frames)
        except OSError:  # it is dead
            frame = None
        if frame is None or frame.head is None:
            frames.close()
            connection.close()
            return None
        connection.settimeout(None)
        return Remote(frame.head, connection, frames)


def _socket_name(pid: int) -> str:
    return f"{pid}.sock"


def _serve(connection: socket.socket, find: Callable[[str], Joinable | None]) -> None:
    with connection, contextlib.suppress(OSError):  # that worker, or its client, has gone
        with connection.makefile("rb") as lines:
            call = find(lines.readline(_LONGEST_NAME).strip().decode("ascii", "replace"))
        if call is None:
            _send(connection, _Frame())
            return
        _send(connection, _Frame(head=_Head(call.id, call.created, call.body)))
        reader: Any = gevent.getcurrent()
        watch = ClientWatch(connection, lambda: reader.kill(block=False))
        try:
            with contextlib.closing(call.read()) as lists:
                for events in lists:
                    _send(connection, _Frame(events=events))
            _send(connection, _Frame(over=True))
        except GatewayError as error:
            _send(connection, _Frame(error=_wire_of(error)))
        finally:
            watch.close()


def _send(connection: socket.socket, frame: _Frame) -> None:
    data = _encode(frame)
    connection.sendall(_LENGTH.pack(len(data)) + data)


def _receive(frames: IO[bytes]) -> _Frame | None:
    """Return the next frame, None at the end."""
    head = frames.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = frames.read(length)
    return _decode(data) if len(data) == length else None


def _wire_of(error: GatewayError) -> _Error:
    name = type(error).__name__
    return _Error(name, error.message, error.code, error.param, error.retry_after, error.should_retry)


def _error_of(wire: _Error) -> GatewayError:
    kind: type[GatewayError] = getattr(errors, wire.kind)
    return kind(
        wire.message, code=wire.code, param=wire.param, retry_after=wire.retry_after, should_retry=wire.should_retry
    )
