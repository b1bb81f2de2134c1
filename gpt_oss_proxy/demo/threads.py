"""ChatKit's stored conversations, in memory; the cookie `user_id` that created one owns it."""

from collections import OrderedDict
from dataclasses import dataclass

from .conversation import Message


@dataclass(frozen=True)
class Thread:
    """A conversation so far, and its owner."""

    owner: str
    messages: tuple[Message, ...] = ()


class Threads:
    """The `limit` most recently used threads; older ones are dropped."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._threads: OrderedDict[str, Thread] = OrderedDict()

    def find(self, thread_id: str, owner: str) -> Thread | None:
        """Return the thread, None if it does not exist or has another owner."""
        thread = self._threads.get(thread_id)
        return thread if thread is not None and thread.owner == owner else None

    def keep(self, thread_id: str, thread: Thread) -> None:
        """Store the thread's current state."""
        self._threads[thread_id] = thread
        self._threads.move_to_end(thread_id)
        if len(self._threads) > self._limit:
            self._threads.popitem(last=False)
