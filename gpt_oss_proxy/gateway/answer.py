"""An answer from its first output on, as the client API gets it, and where its lists come from."""

import itertools
import os
import time
from collections.abc import Callable, Iterator

import msgspec

from gpt_oss_proxy.chat.completion import Collector
from gpt_oss_proxy.chat.events import Event, Started
from gpt_oss_proxy.gateway.attempts import Attempts
from gpt_oss_proxy.gateway.choices import Choices
from gpt_oss_proxy.net.lists import ClosableLists
from gpt_oss_proxy.net.relay import Relay
from gpt_oss_proxy.stores.peers import Joinable, Origin


class Source(msgspec.Struct, frozen=True):
    """Where an answer's lists come from: a call of its own, or what is recorded for several requests, or both.

    `outlives_client` says that it goes on for a retry when the client leaves before its status.
    """

    lists: ClosableLists
    origin: Callable[[], Origin]
    call: Attempts | Choices | None = None
    recorded: Joinable | None = None
    outlives_client: bool = False


class Answer:
    """An answer that has begun, and its lists of events; an empty list says that a keep-alive is due. To be closed.

    `id` and `created` (in Unix seconds) are the same for all who get an answer. `ignored` are the request's fields
    without effect; `reference` is the upstream's own id of the answer, or ''.
    """

    def __init__(
        self,
        relay: Relay,
        end: Callable[[Callable[[], list[list[Event]]]], None],
        source: Source,
        *,
        stream: bool,
    ) -> None:
        """`end` ends all that the answer needs while it lasts; it may be called twice.

        It is given what returns the lists that a retry must be given first, if this answer's client has left it.
        """
        self._relay = relay
        self._end = end
        self._collector: Collector | None = None
        self.id = source.recorded.id if source.recorded else os.urandom(16).hex()
        self.created = source.recorded.created if source.recorded else int(time.time())
        self.reference = ""
        try:
            self._first = self._await_first(wait=not stream)
        except BaseException:  # killed, too: it is raised again
            self.close()
            raise
        if stream:  # its status goes out now, so its client will not ask again
            relay.outlives_client = False
        self.ignored = source.origin().ignored

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the lists, to be read once. They raise a GatewayError or ClientGone."""
        return itertools.chain((self._first,), self._relay)

    def push(self, tell: Callable[[list[Event]], None]) -> None:
        """Tell the lists, as a relay does. Raises as they do, and what `tell` raises."""
        tell(self._first)
        self._relay.push(tell)

    def collect(self, collector: Collector) -> None:
        """Add the lists to the collector, in place of reading them. Raises as they do."""
        self._collector = collector
        self.push(collector.add)

    def close(self) -> None:
        """End it. May be called twice."""
        self._end(self._so_far)

    def _so_far(self) -> list[list[Event]]:
        started: list[list[Event]] = [[Started(self.reference)]] if self.reference else []
        return [*started, *(self._collector.batches() if self._collector else ())]

    def _await_first(self, *, wait: bool) -> list[Event]:
        """Return the first list with output. [] is a keep-alive, which commits a stream unless `wait`."""
        for events in self._relay:
            if events and isinstance(events[0], Started):
                self.reference = events[0].reference
                events = events[1:]
                if not events:
                    continue
            if events or not wait:
                return events
        return []
