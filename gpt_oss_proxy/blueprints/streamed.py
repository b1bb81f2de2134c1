"""The body of a streamed answer: batches of events, rendered and sent as they come, with keep-alives and an end."""

import errno
import logging
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial

from gpt_oss_proxy.apis.base import StreamRenderer
from gpt_oss_proxy.chat.events import Event, Finish
from gpt_oss_proxy.errors import GatewayError, InternalError, InvalidField
from gpt_oss_proxy.gateway.answer import Answer
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.net.relay import ClientGone
from gpt_oss_proxy.sse import Last

_log = logging.getLogger(__name__)


class _EndFailed(Exception):
    """The renderer's end could not be made."""


class Streamed:
    """The body of a streamed answer. With `abort` a failure also breaks the transfer, for clients that read no events.

    Any server can iterate over it once; ours has it pushed, which is less work (see `Relay`).
    """

    def __init__(
        self,
        renderer: StreamRenderer,
        answer: Answer,
        record: Record,
        *,
        keepalive_seconds: float,
        abort: bool,
        spell: Callable[[tuple[str | int, ...]], str],
    ) -> None:
        """`spell` names a field as the client has spelled it."""
        self._feed = renderer.feed
        self._end = renderer.end
        self._fail = renderer.fail
        self._answer = answer
        self._record = record
        self._add = record.tally.add
        self._keepalive_seconds = keepalive_seconds
        self._abort = abort
        self._spell = spell
        self._last: list[Event] = []  # the batch with the end
        self._sent_at = time.monotonic()
        self._pieces = self._iterate()

    def __iter__(self) -> Iterator[bytes]:
        """Return its pieces, the last one as Last. They raise BrokenPipeError where the connection has to be closed."""
        return self._pieces

    def _iterate(self) -> Generator[bytes, None, None]:
        try:
            pieces: list[bytes] = []
            for events in self._answer:
                self._send(pieces.append, events)
                yield from pieces
                pieces.clear()
            if self._last:
                yield self._last_piece()
        except GeneratorExit:  # a write failed before the watch had noticed
            self._record.outcome = "client_gone"
            raise
        except Exception as error:  # whatever it is, the stream must not end as if it were whole
            yield self._ending(error)
            if self._abort:
                raise _broken_off("the answer failed") from error

    def push(self, write: Callable[[bytes], None]) -> None:
        """Write the same pieces. Raises BrokenPipeError, too, and what `write` raises."""
        try:
            self._answer.push(partial(self._send, write))
            if self._last:  # here the handler waits, and may go on to do so
                write(self._last_piece())
        except OSError:
            self._record.outcome = "client_gone"
            raise
        except Exception as error:  # whatever it is, the stream must not end as if it were whole
            write(self._ending(error))
            if self._abort:
                raise _broken_off("the answer failed") from error

    def close(self) -> None:
        """End it."""
        self._pieces.close()

    def _send(self, write: Callable[[bytes], None], events: list[Event]) -> None:
        if self._record.first is None and events:
            self._record.heard()
        self._add(events)
        if events and type(events[-1]) is Finish:
            self._last = events
            return
        piece = self._feed(events)
        if piece:
            self._sent_at = time.monotonic()
        elif time.monotonic() - self._sent_at >= self._keepalive_seconds:
            piece = self._feed([])  # the model thinks aloud, but its client is not shown that
            self._sent_at = time.monotonic()
        write(piece)  # b'', too: the first piece sends the head

    def _last_piece(self) -> Last:
        try:
            return Last(self._end(self._last))
        except OSError as error:  # of the renderer's store; else it would look like a write to a client that is gone
            raise _EndFailed from error

    def _ending(self, error: Exception) -> bytes:
        """Return the last piece of a stream that failed. Raises BrokenPipeError if its client is gone."""
        if isinstance(error, ClientGone):
            self._record.outcome = "client_gone"
            raise _broken_off("the client is gone") from error  # if it only half closed, it must not see a clean end
        if isinstance(error, InvalidField):
            error.spell(self._spell)
        failure = error if isinstance(error, GatewayError) else InternalError()
        if failure is not error:
            _log.error("request %s: a bug while streaming", self._record.id, exc_info=error)
        self._record.failed(failure)
        ending = self._fail(failure)
        return ending if self._abort else Last(ending)


def _broken_off(reason: str) -> BrokenPipeError:
    """Return what makes gunicorn close the connection, without the last chunk and without a traceback."""
    return BrokenPipeError(errno.EPIPE, f"{reason}, so its transfer is broken off")
