"""ChatKit's stored conversations, in memory, each owned by the cookie `user_id` that made it."""

from collections import OrderedDict
from dataclasses import dataclass

from .conversation import Message


@dataclass(frozen=True)
class Thread:
    """A conversation so far, and whose it is."""

    owner: str
    messages: tuple[Message, ...] = ()


class Threads:
    """The latest `limit` threads that were used; older ones are forgotten."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._threads: OrderedDict[str, Thread] = OrderedDict()

    def find(self, thread_id: str, owner: str) -> Thread | None:
        """Return the thread, None if there is none or it is another's."""
        thread = self._threads.get(thread_id)
        return thread if thread is not None and thread.owner == owner else None

    def keep(self, thread_id: str, thread: Thread) -> None:
        """Store the thread as it is now."""
        self._threads[thread_id] = thread
        self._threads.move_to_end(thread_id)
        if len(self._threads) > self._limit:
            self._threads.popitem(last=False)
