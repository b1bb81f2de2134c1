"""Detects that a client has closed its connection while nothing is being written to it."""

import select
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey

# The peer has closed at least its writing half. poll reports it even if unread bytes precede the end, and for Unix
# sockets, too. A client that half-closes counts as gone, as it does for nginx.
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
_LOOK_SECONDS = 0.5

# gevent's own poll would switch to other greenlets; the original polls without waiting.
_poll = monkey.get_original("select", "poll")


class ClientWatch:
    """Calls back once, from the hub, when the client is gone. The callback must not block."""

    def __init__(self, client: socket.socket, gone: Callable[[], None]) -> None:
        self._descriptor = client.fileno()
        self._gone = gone
        self._loop = gevent.get_hub().loop
        # A ClientSocket has a Reader that listens anyway; any other socket gets its own watcher.
        shared = getattr(client, "unread", None)
        self._own: list[Any] = [] if shared else [self._loop.io(self._descriptor, 1)]  # to be closed
        self._readable = shared or self._own[0]
        self._readable.start(self._look)
        self._timer: Any = None

    def close(self) -> None:
        """Stop watching."""
        self._readable.stop()
        for watcher in self._own:
            watcher.stop()
            watcher.close()

    def _look(self) -> None:
        poll = _poll()
        poll.register(self._descriptor, _GONE)
        if poll.poll(0):
            self._readable.stop()
            if self._timer:
                self._timer.stop()
            self._gone()
        elif not self._timer:
            # The next request has already arrived (pipelining) and keeps the socket readable: poll on a timer instead.
            self._readable.stop()
            self._timer = self._loop.timer(_LOOK_SECONDS, repeat=_LOOK_SECONDS)
            self._own.append(self._timer)
            self._timer.start(self._look)
