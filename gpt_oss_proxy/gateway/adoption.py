"""Answers that another request gets: a retry adopts the one its client left; an `Idempotency-Key` is asked only once.

SDKs retry after a broken connection or their own time-out, and only before they have seen a status. The answer that
such a client leaves goes on for a moment: the retry adopts it, and the upstream is asked once. While the client is
there, this costs nothing. With an `Idempotency-Key` an answer is recorded from its beginning, and kept for a while once
it is complete.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.gateway.recorded import RecordedAnswer
from gpt_oss_proxy.net.lists import ClosableLists
from gpt_oss_proxy.stores.peers import Joinable, Origin, Peers, Remote

# How long an answer goes on without a client. SDKs retry after 0.4 to 0.5 s at first, then after 0.8 to 1 s.
_FIRST_WINDOW_SECONDS = 1.0
_NEXT_WINDOW_SECONDS = 2.5
_KEPT_SECONDS = 60.0
# Limits for complete answers, per worker.
_MOST_KEPT = 1000
_KEPT_BYTES = 32 * 1024 * 1024


class RequestKey(msgspec.Struct, frozen=True):
    """Identifies equal requests: a digest of the caller, the path, and the Idempotency-Key or else the body.

    `body` is a digest of the body; `is_named` is True with an Idempotency-Key. `retries` is how many attempts the
    client says it has made before. Requests with different API keys are never joined.
    """

    name: str
    body: str
    is_named: bool
    retries: int

    @property
    def window_seconds(self) -> float:
        """How long an answer that this request has left goes on for a retry."""
        return _NEXT_WINDOW_SECONDS if self.retries else _FIRST_WINDOW_SECONDS


def request_key(
    *, path: str, caller: str, body: bytes, effort: str, idempotency_key: str | None, retries: str
) -> RequestKey:
    """Return the key of a request. `effort` is the header's value, `retries` the text of the SDK's retry count."""
    count = int(retries) if retries.isascii() and retries.isdecimal() and len(retries) < 10 else 0
    digest = _digest(body, "body", path, caller, effort)
    if idempotency_key is None:
        return RequestKey(digest, digest, is_named=False, retries=count)
    return RequestKey(_digest(b"", "key", path, caller, idempotency_key), digest, is_named=True, retries=count)


def _digest(data: bytes, *texts: str) -> str:
    """Return a digest. In a busy worker OpenSSL's SHA-256 takes 15 µs to set up, Python's own BLAKE2 one."""
    hashed = hashlib.blake2b("\n".join((*texts, "")).encode("utf-8", "surrogateescape"), digest_size=32)
    hashed.update(data)
    return hashed.hexdigest()


class Adoption:
    """The recorded answers of this worker, and access to those of the others."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._left: dict[str, dict[RecordedAnswer, str]] = {}  # left by clients; → entry in the shared folder
        self._named: dict[str, RecordedAnswer] = {}  # with an Idempotency-Key, running or kept
        self._kept: OrderedDict[RecordedAnswer, tuple[str, float]] = OrderedDict()  # → name, expiry; oldest first
        self._kept_bytes = 0

    def find(self, key: RequestKey) -> Joinable | None:
        """Return the earlier answer that a request gets, None if there is none.

        Raises InvalidRequest if its Idempotency-Key was used for a different request.
        """
        if key.is_named:
            return _same(key, self.lookup(key.name) or self._peers.find(key.name, key.body))
        return (self.lookup(key.name) or self._peers.adopt(key.name, key.body)) if key.retries else None

    def claim(self, key: RequestKey) -> Joinable | None:
        """Return what `find` does, or None after registering the Idempotency-Key for this worker."""
        # Asking another worker takes a moment, in which an answer may have begun here: look again.
        name = key.name
        return _same(key, self.lookup(name) or self._peers.claim(name, key.body) or self.lookup(name))

    def record(self, key: RequestKey, lists: ClosableLists, origin: Callable[[], Origin]) -> RecordedAnswer:
        """Return a new answer under its Idempotency-Key. Call it right after `claim`, without switching greenlets."""
        answer = RecordedAnswer(key.body, lists, origin, lambda answer: self._keep(key.name, answer))
        self._named[key.name] = answer
        return answer

    def leave(self, key: RequestKey, lists: ClosableLists, origin: Callable[[], Origin]) -> None:
        """Let an answer that its client has left go on, for a retry to adopt, as long as `key.window_seconds`."""

        def over(answer: RecordedAnswer) -> None:
            if answer.lost:
                self._withdraw(key.name, answer)

        answer = RecordedAnswer(key.body, lists, origin, over)
        self._left.setdefault(key.name, {})[answer] = self._peers.offer(key.name)
        answer.wait_for_reader(key.window_seconds)

    def lookup(self, name: str) -> RecordedAnswer | None:
        """Return this worker's answer for a request of this name. An answer that was left is given to one request."""
        for answer in self._left.get(name, ()):
            if not answer.lost:
                self._withdraw(name, answer)
                return answer
        self._drop_old_ones()
        named = self._named.get(name)
        return None if named is None or named.lost else named

    def _withdraw(self, name: str, answer: RecordedAnswer) -> None:
        left = self._left.get(name, {})
        if answer in left:
            self._peers.release(left.pop(answer))
        if not left:
            self._left.pop(name, None)

    def _keep(self, name: str, answer: RecordedAnswer) -> None:
        if answer.lost:
            self._forget(name, answer)
            return
        self._kept[answer] = name, time.monotonic() + _KEPT_SECONDS
        self._kept_bytes += answer.size
        self._drop_old_ones()

    def _drop_old_ones(self) -> None:
        while self._kept:
            answer, (name, until) = next(iter(self._kept.items()))
            full = len(self._kept) > _MOST_KEPT or self._kept_bytes > _KEPT_BYTES
            if not full and time.monotonic() < until:
                return
            del self._kept[answer]
            self._kept_bytes -= answer.size
            self._forget(name, answer)

    def _forget(self, name: str, answer: RecordedAnswer) -> None:
        if self._named.get(name) is answer:
            del self._named[name]
            self._peers.release(name)


def _same(key: RequestKey, found: Joinable | None) -> Joinable | None:
    """Return `found`. Raises InvalidRequest if it answers a different request."""
    if found is None or found.body == key.body:
        return found
    if isinstance(found, Remote):
        found.read().close()
    raise InvalidRequest(
        "This Idempotency-Key was used for another request. Use a new one for each.", code="idempotency_key_reused"
    )
