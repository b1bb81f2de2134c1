"""Finds the other worker that has an answer which a request may get, and reads the answer from it.

In a folder that all workers share, the name of an answer is a symbolic link to its worker. Creating a link is atomic:
if two workers begin the same answer at the same moment, one of them is the first. Answers that their clients left may
share a name, so each has its own numbered link. Each worker listens on a Unix socket in the folder. A frame is a length
of four bytes and a MessagePack.
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
from gpt_oss_proxy.errors import GatewayError, InvalidField, UpstreamIncomplete
from gpt_oss_proxy.net.client_watch import ClientWatch
from gpt_oss_proxy.net.lists import ClosableLists

_log = logging.getLogger(__name__)
_LENGTH = struct.Struct(">I")
_LONGEST_LINE = 256
_CONNECT_SECONDS = 2.0
_MOST_OFFERS = 8  # per name, in all workers; further ones are found by their own worker only


class Origin(msgspec.Struct, frozen=True):
    """The upstream that an answer comes from, as far as known, and the request's fields without effect there."""

    upstream: str
    ignored: tuple[str, ...]


class Joinable(Protocol):
    """An answer that can be read from its beginning. `body` is the digest of the request's body."""

    id: str
    created: int
    body: str

    def read(self) -> ClosableLists:
        """Return its batches, which must be closed."""

    def origin(self) -> Origin:
        """Return the answer's origin, which is certain from the first output on."""


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
    field: tuple[tuple[str | int, ...], str, bool] | None = None  # of an InvalidField: path, text, is_named


class _Frame(msgspec.Struct, frozen=True, omit_defaults=True):
    """A head, events, or the end. An empty frame is a sign of life; in place of a head it means "no answer".

    `origin` is set if it has changed since the frame before.
    """

    head: _Head | None = None
    origin: Origin | None = None
    events: list[Event] = []
    error: _Error | None = None
    over: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


class Remote:
    """An answer in another worker. It must be read, or its batches closed."""

    def __init__(self, head: _Head, connection: socket.socket, frames: IO[bytes]) -> None:
        self.id = head.id
        self.created = head.created
        self.body = head.body
        self._origin = Origin("", ())
        self._connection = connection
        self._frames = frames

    def origin(self) -> Origin:
        """See Joinable."""
        return self._origin

    def read(self) -> "RemoteLists":
        """Return its batches. They raise its GatewayError, or UpstreamIncomplete if that worker died."""
        return RemoteLists(self._read(), self._frames, self._connection)

    def _read(self) -> Lists:
        while True:
            frame = _receive(self._frames)
            if frame is None:
                raise UpstreamIncomplete
            self._origin = frame.origin or self._origin
            if frame.error:
                raise _error_of(frame.error)
            if frame.over:
                return
            yield frame.events


class RemoteLists:
    """Batches from a connection. Closing them closes the connection, even before the first was read."""

    def __init__(self, lists: Lists, *closed: IO[bytes] | socket.socket) -> None:
        self._lists = lists
        self._closed = closed

    def __iter__(self) -> Lists:
        return self._lists

    def __next__(self) -> list[Event]:
        return next(self._lists)

    def close(self) -> None:
        """Close the connection: the other worker sees that this reader has left."""
        with contextlib.ExitStack() as closing:
            for one in self._closed:
                closing.callback(one.close)
            self._lists.close()


class Peers:
    """The directory of the workers' answers. Without a folder a worker finds only its own."""

    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder else None
        self._me = ""
        self.lent = 0  # number of readers in other workers that read this one's answers

    def listen(self, find: Callable[[str], Joinable | None]) -> None:
        """Serve the other workers from now on; `find` returns the answer of a name. Called in each worker."""
        if not self._folder:
            return
        me = _socket_name(os.getpid())
        listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        try:
            (self._folder / me).unlink(missing_ok=True)  # left by a dead worker with the same process id
            listener.bind(str(self._folder / me))
        except OSError as error:  # the folder is missing or full, or its name is too long for a socket
            _log.error("retries find the answers of their own worker only: %s", error)
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

    def find(self, name: str, body: str) -> Remote | None:
        """Return another worker's answer of this name. An answer to a different body comes without its batches."""
        try:
            owner = os.readlink(self._link(name)) if self._me else self._me
        except OSError:  # no such link, or the folder is missing
            return None
        return None if owner == self._me else self._ask(owner, name, body)

    def claim(self, name: str, body: str) -> Remote | None:
        """Return what `find` does, or None after registering the name for this worker."""
        while self._me:
            try:
                os.symlink(self._me, self._link(name))
            except FileExistsError:
                pass
            except OSError:  # the folder is missing or full: no other worker is reachable
                return None
            else:
                return None
            with contextlib.suppress(FileNotFoundError):  # released in this very moment
                owner = os.readlink(self._link(name))
                found = None if owner == self._me else self._ask(owner, name, body)
                if found is None:
                    self._seize(name)
                return found
        return None

    def offer(self, name: str) -> str:
        """Register an answer of this name for other workers, beside others of the same name.

        Returns the entry to be released, or "" if there is none: then only this worker finds the answer.
        """
        for number in range(_MOST_OFFERS) if self._me else ():
            entry = f"{name}.{number}"
            try:
                os.symlink(self._me, self._link(entry))
            except FileExistsError:
                continue
            except OSError:  # the folder is missing or full
                break
            return entry
        return ""

    def adopt(self, name: str, body: str) -> Remote | None:
        """Return an answer of this name that another worker offers. Each is given to one request."""
        for number in range(_MOST_OFFERS) if self._me else ():
            if found := self.find(f"{name}.{number}", body):
                return found
        return None

    def _seize(self, name: str) -> None:
        """Register the name for this worker, even if another one had it."""
        link = self._link(name)
        ours = f"{link}.{self._me}"
        with contextlib.suppress(OSError):  # the folder is missing or full: the other workers do not find it
            with contextlib.suppress(FileExistsError):
                os.symlink(self._me, ours)
            os.replace(ours, link)

    def release(self, name: str) -> None:
        """Remove the entry if it belongs to this worker."""
        with contextlib.suppress(OSError):
            if name and self._me and os.readlink(self._link(name)) == self._me:
                os.unlink(self._link(name))

    def bury(self, pid: int) -> None:
        """Remove the socket and the entries of a dead worker."""
        dead = _socket_name(pid)
        found: list[Path] = []
        with contextlib.suppress(OSError):  # no folder or no descriptor is left: the master must go on
            found += self._folder.iterdir() if self._folder else ()
        for path in found:
            with contextlib.suppress(OSError):
                if path.name == dead or (path.is_symlink() and os.readlink(path) == dead):
                    path.unlink()

    def _link(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _ask(self, owner: str, name: str, body: str) -> Remote | None:
        connection = socket.socket(socket.AF_UNIX)
        frames = connection.makefile("rb")
        try:
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(f"{self._folder}/{owner}")
            connection.sendall(f"{name.partition('.')[0]} {body}\n".encode())
            frame = _receive(frames)
        except OSError:  # that worker is dead
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
    with connection, contextlib.suppress(OSError):  # the other worker, or its client, has gone
        with connection.makefile("rb") as lines:
            name, _, body = lines.readline(_LONGEST_LINE).strip().decode("ascii", "replace").partition(" ")
        answer = find(name)
        if answer is None or answer.body != body:
            _send(connection, _Frame(head=_head(answer)))
            return
        # Read before sending, which may wait: an answer that was left is dropped when its time is over unless it has a
        # reader.
        with contextlib.closing(answer.read()) as lists:
            _send(connection, _Frame(head=_head(answer)))
            reader: Any = gevent.getcurrent()
            watch = ClientWatch(connection, lambda: reader.kill(block=False))
            try:
                _send_lists(connection, lists, answer.origin)
            finally:
                watch.close()


def _head(answer: Joinable | None) -> _Head | None:
    return _Head(answer.id, answer.created, answer.body) if answer else None


def _send_lists(connection: socket.socket, lists: ClosableLists, origin: Callable[[], Origin]) -> None:
    sent: Origin | None = None

    def news() -> Origin | None:
        nonlocal sent
        found = origin()
        changed, sent = found != sent, found
        return found if changed else None

    try:
        for events in lists:
            _send(connection, _Frame(origin=news(), events=events))
        _send(connection, _Frame(over=True))
    except GatewayError as error:
        _send(connection, _Frame(origin=news(), error=_wire_of(error)))


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
    field = (error.path, error.text, error.is_named) if isinstance(error, InvalidField) else None
    name = type(error).__name__
    return _Error(name, error.message, error.code, error.param, error.retry_after, error.should_retry, field)


def _error_of(wire: _Error) -> GatewayError:
    if wire.field:
        path, text, is_named = wire.field
        return InvalidField(path, text, code=wire.code, is_named=is_named)
    kind: type[GatewayError] = getattr(errors, wire.kind)
    return kind(
        wire.message, code=wire.code, param=wire.param, retry_after=wire.retry_after, should_retry=wire.should_retry
    )
