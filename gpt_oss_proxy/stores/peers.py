"""The other workers of this gateway: which of them has an answer that another request may get, and reading it there.

In a folder that all workers share, an answer's name is a symbolic link to the worker that has it: to make one is
atomic, so of two workers that begin the same answer at the same moment one is the first. Of answers that their clients
left there may be several of one name; each has a link of its own. Each worker listens on a Unix socket there. A frame
is four bytes of length and a MessagePack.
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
from gpt_oss_proxy.errors import GatewayError, UpstreamIncomplete
from gpt_oss_proxy.net.client_watch import ClientWatch
from gpt_oss_proxy.net.lists import ClosableLists

_log = logging.getLogger(__name__)
_LENGTH = struct.Struct(">I")
_LONGEST_LINE = 256
_CONNECT_SECONDS = 2.0
_MOST_OFFERS = 8  # of one name in all workers; of more than that each worker finds its own


class Origin(msgspec.Struct, frozen=True):
    """Which upstream an answer comes from, as far as is known, and the request's fields that have no effect there."""

    upstream: str
    ignored: tuple[str, ...]


class Joinable(Protocol):
    """An answer that can be read from its beginning. `body` is the digest of the request's body."""

    id: str
    created: int
    body: str

    def read(self) -> ClosableLists:
        """Return its lists, which must be closed."""

    def origin(self) -> Origin:
        """Return where it comes from: with the first output that is certain."""


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
    """A head, events, or the end; with nothing in it a sign of life, or, where a head is due, that there is no answer.

    `origin` is set where it has changed since the frame before.
    """

    head: _Head | None = None
    origin: Origin | None = None
    events: list[Event] = []
    error: _Error | None = None
    over: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


class Remote:
    """An answer that another worker has. It must be read, or its lists closed."""

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
        """Return its lists. They raise its GatewayError; UpstreamIncomplete if that worker died."""
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
    """Lists that come over a connection, which is closed with them, also before the first was read."""

    def __init__(self, lists: Lists, *closed: IO[bytes] | socket.socket) -> None:
        self._lists = lists
        self._closed = closed

    def __iter__(self) -> Lists:
        return self._lists

    def __next__(self) -> list[Event]:
        return next(self._lists)

    def close(self) -> None:
        """Close the connection: that worker sees that this reader has left."""
        with contextlib.ExitStack() as closing:
            for one in self._closed:
                closing.callback(one.close)
            self._lists.close()


class Peers:
    """The workers' meeting place. Without a folder there are no others."""

    def __init__(self, folder: str | None) -> None:
        self._folder = Path(folder) if folder else None
        self._me = ""
        self.lent = 0  # how many clients of other workers read calls of this one

    def listen(self, find: Callable[[str], Joinable | None]) -> None:
        """Answer the other workers from now on; `find` returns the answer of a name. Called in each worker."""
        if not self._folder:
            return
        me = _socket_name(os.getpid())
        listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        try:
            (self._folder / me).unlink(missing_ok=True)  # of a dead worker that had our number
            listener.bind(str(self._folder / me))
        except OSError as error:  # the folder is gone, full, or its name too long for a socket
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
        """Return the answer of this name that another worker has. One to another body comes without its lists."""
        try:
            owner = os.readlink(self._link(name)) if self._me else self._me
        except OSError:  # there is none, or the folder is gone
            return None
        return None if owner == self._me else self._ask(owner, name, body)

    def claim(self, name: str, body: str) -> Remote | None:
        """Return what `find` does, or None and the name is ours."""
        while self._me:
            try:
                os.symlink(self._me, self._link(name))
            except FileExistsError:
                pass
            except OSError:  # the folder is gone or full: then there are no others
                return None
            else:
                return None
            with contextlib.suppress(FileNotFoundError):  # given up in this very moment
                owner = os.readlink(self._link(name))
                found = None if owner == self._me else self._ask(owner, name, body)
                if found is None:
                    self._seize(name)
                return found
        return None

    def offer(self, name: str) -> str:
        """Let other workers find an answer of this name here, beside those that have the same name.

        Returns the entry that has to be released, "" if there is none: then only this worker finds it.
        """
        for number in range(_MOST_OFFERS) if self._me else ():
            entry = f"{name}.{number}"
            try:
                os.symlink(self._me, self._link(entry))
            except FileExistsError:
                continue
            except OSError:  # the folder is gone or full
                break
            return entry
        return ""

    def adopt(self, name: str, body: str) -> Remote | None:
        """Return an answer of this name that another worker offers: each is given once."""
        for number in range(_MOST_OFFERS) if self._me else ():
            if found := self.find(f"{name}.{number}", body):
                return found
        return None

    def _seize(self, name: str) -> None:
        """Make the name ours, whoever's it was."""
        link = self._link(name)
        ours = f"{link}.{self._me}"
        with contextlib.suppress(OSError):  # the folder is gone or full: then the others do not find it
            with contextlib.suppress(FileExistsError):
                os.symlink(self._me, ours)
            os.replace(ours, link)

    def release(self, name: str) -> None:
        """Give the name up, if it is ours."""
        with contextlib.suppress(OSError):
            if name and self._me and os.readlink(self._link(name)) == self._me:
                os.unlink(self._link(name))

    def bury(self, pid: int) -> None:
        """Remove what a dead worker has left."""
        dead = _socket_name(pid)
        found: list[Path] = []
        with contextlib.suppress(OSError):  # the folder is gone, or no descriptor is left: the master must go on
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
            name, _, body = lines.readline(_LONGEST_LINE).strip().decode("ascii", "replace").partition(" ")
        answer = find(name)
        if answer is None or answer.body != body:
            _send(connection, _Frame(head=_head(answer)))
            return
        # Before a send, which may wait: an answer that was left is given up at the end of its time, unless it is read.
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
    name = type(error).__name__
    return _Error(name, error.message, error.code, error.param, error.retry_after, error.should_retry)


def _error_of(wire: _Error) -> GatewayError:
    kind: type[GatewayError] = getattr(errors, wire.kind)
    return kind(
        wire.message, code=wire.code, param=wire.param, retry_after=wire.retry_after, should_retry=wire.should_retry
    )
