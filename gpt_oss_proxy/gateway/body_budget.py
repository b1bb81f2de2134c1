"""How many bytes of requests a worker holds that no upstream has yet: who finds no room is told so at once."""

from gpt_oss_proxy.errors import Overloaded


class BodyBudget:
    """A number of bytes, shared by the requests of one worker. `taken_bytes` is how many are taken now."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.taken_bytes = 0

    def share(self) -> "Share":
        """Return the share of a request, which has nothing yet."""
        return Share(self)

    def take(self, size: int) -> None:
        """Take so many bytes. Raises Overloaded if there are not as many left."""
        if self.taken_bytes + size > self._max_bytes:
            raise Overloaded
        self.taken_bytes += size


class Share:
    """What one request has taken. It may be given back more than once."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._size = 0

    def take(self, size: int) -> None:
        """Take so many bytes more. Raises Overloaded if there are not as many left."""
        self._budget.take(size)
        self._size += size

    def give_back(self) -> None:
        """Give all of it back."""
        self._budget.taken_bytes -= self._size
        self._size = 0
