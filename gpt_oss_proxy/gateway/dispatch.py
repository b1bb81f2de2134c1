"""From a neutral request to its events: route → admit → call → relay."""

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import gevent
import msgspec

from gpt_oss_proxy.chat.events import Event, Started
from gpt_oss_proxy.chat.prepare import EMULATED, prepare
from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Text
from gpt_oss_proxy.chat.tokens import Vocabulary
from gpt_oss_proxy.errors import InvalidRequest, ShuttingDown
from gpt_oss_proxy.gateway.access_log import Record
from gpt_oss_proxy.gateway.call import Call, Candidate, Task
from gpt_oss_proxy.gateway.choices import Choices
from gpt_oss_proxy.gateway.client_watch import ClientWatch
from gpt_oss_proxy.gateway.guard import Guard
from gpt_oss_proxy.gateway.peers import Joinable, Peers
from gpt_oss_proxy.gateway.places import Places
from gpt_oss_proxy.gateway.relay import ClientGone, Relay, TimeLimits
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.gateway.sharing import Identity, SharedReader, Sharing
from gpt_oss_proxy.upstreams.base import Upstream

_COUNTED_AT_ONCE = 128 * 1024  # characters: some ten milliseconds
_A_MOMENT = 1e-6  # seconds; not 0, for gevent would look at its timers and sockets only after fifty turns
_FEW_RETRIES = 3
_SHARE_OF_RETRIES = 0.2
# Values that ask for nothing but what happens anyway.
_HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "modalities": (["text"],),
    "store": (False,),
}


class Answer:
    """An answer that has begun, and its lists of events; an empty list says that a keep-alive is due. To be closed.

    `id` and `created` (in Unix seconds) are the same for all who join a call. `ignored` are the request's fields
    without effect; `reference` is the upstream's own id of the answer, or ''.
    """

    def __init__(
        self,
        relay: Relay,
        close: Callable[[], None],
        call: Call | Choices,
        ignored: Mapping[Guard, tuple[str, ...]],
        joinable: Joinable | None,
        *,
        wait: bool,
    ) -> None:
        """`close` ends all that the answer needs while it lasts; it may be called twice."""
        self._relay = relay
        self.close = close
        self.id = joinable.id if joinable else os.urandom(16).hex()
        self.created = joinable.created if joinable else int(time.time())
        try:
            self.reference, self._first = _first(relay, wait=wait)
        except BaseException:  # killed, too: it is raised again
            close()
            raise
        self.ignored = ignored[call.asked]

    def __iter__(self) -> Iterator[list[Event]]:
        """Return the lists, to be read once. They raise a GatewayError or ClientGone."""
        return itertools.chain((self._first,), self._relay)

    def push(self, tell: Callable[[list[Event]], None]) -> None:
        """Tell the lists, as a relay does. Raises as they do, and what `tell` raises."""
        tell(self._first)
        self._relay.push(tell)


class Dispatcher:
    """Gets answers. `places` bounds the requests that run at the same time in all workers."""

    def __init__(
        self, router: Router, limits: TimeLimits, vocabulary: Vocabulary, *, places: Places, peers: Peers, retries: int
    ) -> None:
        self._router = router
        self._limits = limits
        self._vocabulary = _FairVocabulary(vocabulary)
        self._retries = retries
        self._running: dict[Relay, Call | Choices] = {}
        self.places = places
        self._peers = peers
        self._sharing = Sharing(peers)
        self.draining = False
        self._cut_off = False

    def dispatch(
        self,
        request: ChatRequest,
        record: Record,
        client: socket.socket | None,
        *,
        patience: float | None = None,
        identity: Identity | None = None,
    ) -> Answer:
        """Return the answer when its first events are there, or the first keep-alive is due if it is streamed.

        `record` notes who is asked. `client` is the client's connection, watched until the answer ends, or None.
        `patience` is how many seconds the client will wait, None if it has not said; `identity` makes it joinable, or
        joins it. Raises any GatewayError, and ClientGone. The answer raises the same later on, and must be closed.
        """
        if self._cut_off:
            raise ShuttingDown
        limits = self._limits.within(patience, stream=request.stream)
        call, ignored = self._admit(request, record, min(limits.idle, limits.total))
        joinable = self._joinable(identity, call, record) if identity else None
        lists = joinable.read() if joinable else call
        # A client's impatience is no failure of the upstream.
        relay = Relay(lists, limits, call.timed_out if limits.idle == self._limits.idle else None)
        if isinstance(lists, Call | SharedReader) and hasattr(client, "unsent"):  # it is one of our server's sockets
            lists.shortcut = relay.shortcut(client)  # type: ignore[arg-type] # so it is
        close = self._watch(relay, call, client)
        return Answer(relay, close, call, ignored, joinable, wait=not request.stream)

    def listen(self) -> None:
        """Let the other workers' clients join this one's calls. Called in each worker."""
        self._peers.listen(self._sharing.find)

    def bury(self, pid: int) -> None:
        """Remove what a dead worker has left. Called in their master."""
        self._peers.bury(pid)

    @property
    def lends(self) -> bool:
        """Whether other workers' clients still read calls of this one."""
        return self._peers.lent > 0 and not self._cut_off

    def drain(self, seconds: float) -> None:
        """Give running answers these seconds, then end them with an honest error, and refuse whatever still comes.

        Whoever calls this has stopped to listen: what still arrives came over a connection that was already there, and
        refusing it would only make a reload visible.
        """
        self.draining = True
        gevent.spawn_later(seconds, self._cut)

    def _cut(self) -> None:
        self._cut_off = True
        for relay in self._running:
            relay.stop(ShuttingDown("The gateway is shutting down and had to cut this answer. Ask again."))

    def _admit(
        self, request: ChatRequest, record: Record, seconds: float
    ) -> tuple[Call | Choices, Mapping[Guard, tuple[str, ...]]]:
        """Return the call, and the fields without effect at each upstream that may be asked. Raises InvalidRequest."""
        calls: list[Call] = []
        ignored: dict[Guard, tuple[str, ...]] = {}
        told: set[Guard] = set()
        first = self._tasks(msgspec.structs.replace(request, further=()) if request.further else request, ignored)
        for messages in (request.messages, *request.further):
            tasks = [_with_messages(task, messages) for task in first] if messages is not request.messages else first
            calls += [
                Call(
                    tasks,
                    record,
                    self._vocabulary,
                    retries=self._retries,
                    seconds=seconds,
                    may_retry=self._may_retry,
                    counts=request.include_usage or not request.stream,
                    told=told,
                )
                for _ in range(request.n)
            ]
        return calls[0] if len(calls) == 1 else Choices(calls), ignored

    def _tasks(self, request: ChatRequest, ignored: dict[Guard, tuple[str, ...]]) -> list[Task]:
        """Return who may answer, and what each is asked. What the first cannot do is an InvalidRequest."""
        first, *others = self._router.route(request.model)
        tasks = [self._task(request, first, ignored)]
        for other in others:
            with contextlib.suppress(InvalidRequest):
                tasks.append(self._task(request, other, ignored))
        return tasks

    def _task(self, request: ChatRequest, candidate: Candidate, ignored: dict[Guard, tuple[str, ...]]) -> Task:
        upstream = candidate.guard.upstream
        asked = request
        if candidate.model != request.model:
            asked = msgspec.structs.replace(request, model=candidate.model)
        task = Task(candidate.guard, prepare(asked, upstream.honours, harmony=upstream.slips_into_harmony))
        ignored[candidate.guard] = without_effect(request, upstream)
        return task

    def _may_retry(self) -> bool:
        """Retries must not drown an upstream that comes back: few at a time, or a fifth of what runs."""
        retrying = sum(call.pausing for call in self._running.values())
        return retrying < max(_FEW_RETRIES, _SHARE_OF_RETRIES * len(self._running))

    def _joinable(self, identity: Identity, call: Call | Choices, record: Record) -> Joinable:
        joined = self._sharing.join(identity)
        if joined:
            record.joined, record.upstream = True, call.asked.upstream.name
            return joined
        shared = self._sharing.begin(identity, call)
        if isinstance(call, Call):
            call.shortcut = shared.tell
        return shared

    def _watch(self, relay: Relay, call: Call | Choices, client: socket.socket | None) -> Callable[[], None]:
        """Let the client's leaving and a shutdown end the relay. Return what ends all of it."""
        try:
            watch = ClientWatch(client, lambda: relay.stop(ClientGone())) if client else None
        except BaseException:  # the connection is closed already
            relay.close()
            raise
        self._running[relay] = call

        def close() -> None:
            if self._running.pop(relay, None):
                if watch:
                    watch.close()
                relay.close()

        return close


def _with_messages(task: Task, messages: tuple[Message, ...]) -> Task:
    """Return the same for another conversation of the request."""
    like = task.emulation
    request = msgspec.structs.replace(like.request, messages=messages, marker=0)
    upstream = task.guard.upstream
    return Task(task.guard, prepare(request, upstream.honours, harmony=upstream.slips_into_harmony, like=like))


def without_effect(request: ChatRequest, upstream: Upstream) -> tuple[str, ...]:
    """Return the names of the request's fields that have no effect on this upstream's answer."""
    if upstream.honours is None:
        return ()
    ignored = [
        name
        for name, value in request.options.items()
        if name not in upstream.honours | EMULATED and value not in _HARMLESS.get(name, ())
    ]
    if request.reasoning_effort and "reasoning_effort" not in upstream.honours:
        ignored.append("reasoning_effort")
    return (*ignored, *sorted(set(_extras(request))))


def _extras(request: ChatRequest) -> Iterator[str]:
    """Yield the paths of the fields inside messages that only an OpenAI-compatible upstream can take."""
    for message in request.messages:
        for name in message.extra:
            yield f"messages.{name}"
        for part in message.parts:
            if isinstance(part, Text | Image):
                for name in part.extra:
                    yield f"messages.content.{name}"
        for call in message.tool_calls:
            for name in call.extra:
                yield f"messages.tool_calls.{name}"


class _FairVocabulary:
    """Counts a long text in pieces, between which others run."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def count(self, text: str) -> int:
        """See Vocabulary."""
        if len(text) <= _COUNTED_AT_ONCE:
            return self._vocabulary.count(text)
        tokens = 0
        for start in range(0, len(text), _COUNTED_AT_ONCE):
            tokens += self._vocabulary.count(text[start : start + _COUNTED_AT_ONCE])
            gevent.sleep(_A_MOMENT)
        return tokens

    def first(self, text: str, tokens: int) -> str:
        """See Vocabulary."""
        return self._vocabulary.first(text, tokens)


def _first(events: Iterable[list[Event]], *, wait: bool) -> tuple[str, list[Event]]:
    """Return (reference, the first list with output). [] is a keep-alive, which commits a stream unless `wait`."""
    reference = ""
    for found in events:
        if found and isinstance(found[0], Started):
            reference = found[0].reference
            found = found[1:]
            if not found:
                continue
        if found or not wait:
            return reference, found
    return reference, []
