"""From a neutral request to its events: route → admit → call → relay."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import gevent
import msgspec

from gpt_oss_proxy.chat.events import Event
from gpt_oss_proxy.chat.request import ChatRequest, Image, Message, Sampling, Text
from gpt_oss_proxy.emulation.prepare import prepare
from gpt_oss_proxy.emulation.tokens import Vocabulary, count_prompt
from gpt_oss_proxy.errors import InvalidRequest, ShuttingDown
from gpt_oss_proxy.gateway.adoption import Adoption, RequestKey
from gpt_oss_proxy.gateway.answer import Answer, Source
from gpt_oss_proxy.gateway.attempts import Attempts, PreparedAttempt, Target
from gpt_oss_proxy.gateway.choices import Choices
from gpt_oss_proxy.gateway.gate import UpstreamGate
from gpt_oss_proxy.gateway.limits import ConcurrencyLimit
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.gateway.recorded import AnswerReader
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.net.client_watch import ClientWatch
from gpt_oss_proxy.net.relay import Relay, TimeLimits
from gpt_oss_proxy.stores.peers import Origin, Peers
from gpt_oss_proxy.upstreams.base import Upstream

_COUNTED_AT_ONCE = 128 * 1024  # characters: some ten milliseconds
_A_MOMENT = 1e-6  # seconds; not 0, for gevent would look at its timers and sockets only after fifty turns
_FEW_RETRIES = 3
_SHARE_OF_RETRIES = 0.2
_ANY_SAMPLING = Sampling()


class Dispatcher:
    """Gets answers. `places` bounds the requests that run at the same time in all workers."""

    def __init__(
        self,
        router: Router,
        limits: TimeLimits,
        vocabulary: Vocabulary,
        *,
        places: ConcurrencyLimit,
        peers: Peers,
        retries: int,
    ) -> None:
        self._router = router
        self._limits = limits
        self._vocabulary = _FairVocabulary(vocabulary)
        self._retries = retries
        self._running: dict[Relay, Attempts | Choices | None] = {}
        self.places = places
        self._peers = peers
        self._adoption = Adoption(peers)
        self.draining = False
        self._cut_off = False

    def dispatch(
        self,
        request: ChatRequest,
        record: Record,
        client: socket.socket | None,
        *,
        key: RequestKey | None = None,
    ) -> Answer:
        """Return the answer when its first events are there, or the first keep-alive is due if it is streamed.

        `record` notes who is asked. `client` is the client's connection, watched until the answer ends, or None. With a
        `key` it may be the answer of an earlier request, and a retry may get it. Raises any GatewayError, and
        ClientGone. The answer raises the same later on, and must be closed.
        """
        if self._cut_off:
            raise ShuttingDown
        record.tally.begin(self._vocabulary.count)
        source = self._source(request, record, key)
        relay = Relay(source.lists, self._limits, source.call.timed_out if source.call else None)
        relay.outlives_client = source.outlives_client
        if isinstance(source.lists, Attempts) and hasattr(client, "unsent"):  # it is one of our server's sockets
            source.lists.shortcut = relay.shortcut(client)  # type: ignore[arg-type] # so it is
        end = self._watch(relay, source, key, client)
        try:
            return Answer(relay, end, source, stream=request.stream)
        finally:
            if record.adopted:
                record.upstream = source.origin().upstream

    def count_prompt(self, request: ChatRequest) -> int:
        """Return the tokens of the prompt as the model's first upstream gets it. Raises as `dispatch` does."""
        model = request.model or self._router.first()
        target, *_ = self._router.route(model)
        upstream = target.gate.upstream
        emulation = prepare(request, upstream.native_options, harmony=upstream.leaks_harmony)
        return count_prompt(emulation.request, self._vocabulary.count)

    def listen(self) -> None:
        """Let the other workers' clients get this one's answers. Called in each worker."""
        self._peers.listen(self._adoption.lookup)

    def bury(self, pid: int) -> None:
        """Remove what a dead worker has left. Called in their master."""
        self._peers.bury(pid)

    @property
    def lends(self) -> bool:
        """Whether other workers' clients still read answers of this one."""
        return self._peers.lent > 0 and not self._cut_off

    def drain(self, seconds: float) -> None:
        """Give running answers these seconds, then end them with an error, and refuse requests that come later.

        The caller does not listen any more. A request that still arrives came over a connection that was already open:
        to refuse it would only make a reload visible.
        """
        self.draining = True
        gevent.spawn_later(seconds, self._cut)

    def _cut(self) -> None:
        self._cut_off = True
        for relay in self._running:
            relay.stop(ShuttingDown("The gateway is shutting down and had to cut this answer. Ask again."))

    def _source(self, request: ChatRequest, record: Record, key: RequestKey | None) -> Source:
        """Return an earlier request's answer if this one gets it, else a call of its own. Raises InvalidRequest."""
        found = self._adoption.find(key) if key else None  # first: what is there already needs no preparing
        if found is None:
            call, origin = self._admit(request, record)
            if key is None or not key.is_named:
                return Source(call, origin, call, outlives_client=key is not None)
            found = self._adoption.claim(key)
            if found is None:
                answer = self._adoption.record(key, call, origin)
                return Source(answer.read(), origin, call, answer, outlives_client=True)
        record.adopted = True
        lists = found.read()
        # What was left is adopted once; and of another worker's answer that worker decides.
        outlives_client = isinstance(lists, AnswerReader) and key is not None and key.is_named
        return Source(lists, found.origin, None, found, outlives_client)

    def _admit(self, request: ChatRequest, record: Record) -> tuple[Attempts | Choices, Callable[[], Origin]]:
        """Return the call, and a function that returns where its answer comes from. Raises InvalidRequest."""
        calls: list[Attempts] = []
        ignored: dict[UpstreamGate, tuple[str, ...]] = {}
        counted: set[UpstreamGate] = set()
        alone = msgspec.structs.replace(request, further_prompts=()) if request.further_prompts else request
        first = self._tasks(alone, ignored)
        for messages in (request.messages, *request.further_prompts):
            tasks = [_with_messages(task, messages) for task in first] if messages is not request.messages else first
            calls += [
                Attempts(
                    tasks,
                    record,
                    self._vocabulary,
                    retries=self._retries,
                    seconds=min(self._limits.idle, self._limits.total),
                    may_retry=self._may_retry,
                    counts=request.wants_usage or request.counts_first or not request.stream,
                    counted=counted,
                )
                for _ in range(request.n)
            ]
        call = calls[0] if len(calls) == 1 else Choices(calls)
        return call, lambda: Origin(call.asked.upstream.name, ignored[call.asked])

    def _tasks(self, request: ChatRequest, ignored: dict[UpstreamGate, tuple[str, ...]]) -> list[PreparedAttempt]:
        """Return the upstreams that may answer, each with what it is asked. Raises InvalidRequest of the first."""
        first, *others = self._router.route(request.model)
        tasks = [self._task(request, first, ignored)]
        for other in others:
            with contextlib.suppress(InvalidRequest):
                tasks.append(self._task(request, other, ignored))
        return tasks

    def _task(
        self, request: ChatRequest, target: Target, ignored: dict[UpstreamGate, tuple[str, ...]]
    ) -> PreparedAttempt:
        upstream = target.gate.upstream
        asked = request
        if target.model != request.model:
            asked = msgspec.structs.replace(request, model=target.model)
        task = PreparedAttempt(target.gate, prepare(asked, upstream.native_options, harmony=upstream.leaks_harmony))
        ignored[target.gate] = without_effect(request, upstream)
        return task

    def _may_retry(self) -> bool:
        """Retries must not drown an upstream that comes back: few at a time, or a fifth of what runs."""
        retrying = sum(call.pausing for call in self._running.values() if call)
        return retrying < max(_FEW_RETRIES, _SHARE_OF_RETRIES * len(self._running))

    def _watch(
        self, relay: Relay, source: Source, key: RequestKey | None, client: socket.socket | None
    ) -> Callable[[Callable[[], list[list[Event]]]], None]:
        """Let the client's leaving and a shutdown end the relay. Return what ends all of it, see Answer."""
        try:
            watch = ClientWatch(client, relay.leave) if client else None
        except BaseException:  # the connection is closed already
            relay.close()
            raise
        self._running[relay] = source.call

        def end(so_far: Callable[[], list[list[Event]]]) -> None:
            if relay not in self._running:
                return
            del self._running[relay]
            try:
                if watch:
                    watch.close()
            finally:
                self._end(relay, source, key, so_far)

        return end

    def _end(
        self, relay: Relay, source: Source, key: RequestKey | None, so_far: Callable[[], list[list[Event]]]
    ) -> None:
        """End the relay, or let its call go on for a retry, if its client has left it."""
        if not (relay.left and key):
            relay.close()
        elif isinstance(source.lists, AnswerReader):
            source.lists.window_seconds = key.window_seconds
            relay.close()
        else:
            relay.resume(so_far())
            self._adoption.leave(key, relay, source.origin)


def _with_messages(task: PreparedAttempt, messages: tuple[Message, ...]) -> PreparedAttempt:
    """Return the same for another conversation of the request."""
    like = task.emulation
    request = msgspec.structs.replace(like.request, messages=messages, marker=0)
    upstream = task.gate.upstream
    return PreparedAttempt(
        task.gate, prepare(request, upstream.native_options, harmony=upstream.leaks_harmony, like=like)
    )


def without_effect(request: ChatRequest, upstream: Upstream) -> tuple[str, ...]:
    """Return the fields of the request that have no effect on this upstream's answer.

    They are named as ChatRequest has them: `sampling.seed`, `effort`, `passthrough.NAME`, `messages.content.NAME`.
    """
    native = upstream.native_options
    if native is None:
        return ()
    fields: list[str] = []
    if request.sampling != _ANY_SAMPLING:
        sampling = msgspec.structs.asdict(request.sampling)
        fields += [f"sampling.{name}" for name, value in sampling.items() if value is not None]
    if request.passthrough:
        fields += [f"passthrough.{name}" for name in request.passthrough]
    if request.effort:
        fields.append("effort")
    return (*[field for field in fields if field not in native], *sorted(set(_extras(request))))


def _extras(request: ChatRequest) -> Iterator[str]:
    """Yield the paths of the fields inside messages that only an upstream of the client's format takes."""
    for message in request.messages:
        for name in message.extra:
            yield f"messages.{name}"
        for part in message.parts:
            if isinstance(part, Text | Image):
                for name in part.extra:
                    yield f"messages.content.{name}"
            elif not part.is_known:
                yield f"messages.content.{part.kind}"
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
