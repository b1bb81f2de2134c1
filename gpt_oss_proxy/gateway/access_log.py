"""One JSON line a request, for people and machines. Never prompts, answers or keys."""

import sys
import time
from typing import TextIO

import msgspec

_output: TextIO | None = None


class Record(msgspec.Struct):
    """What is known of a request, filled while it lasts. Times are monotonic seconds."""

    id: str
    method: str
    path: str
    started: float
    model: str = ""
    upstream: str = ""
    asked: list[str] = []  # the upstreams, in order
    adopted: bool = False  # it got an earlier request's answer
    reference: str = ""
    ignored: tuple[str, ...] = ()  # the request's fields without effect
    stream: bool = False
    status: int = 0
    outcome: str = "ok"  # or the error's code, or client_gone
    first: float | None = None
    ended: float = 0.0

    @property
    def first_seconds(self) -> float | None:
        """From the request to the first events, None if none came."""
        return None if self.first is None else self.first - self.started

    @property
    def total_seconds(self) -> float:
        """From the request to its end."""
        return self.ended - self.started

    def heard(self) -> None:
        """The first events of the answer are there."""
        if self.first is None:
            self.first = time.monotonic()

    def write(self) -> None:
        """Write the line: the request is over."""
        self.ended = time.monotonic()
        first = self.first_seconds
        line = {
            "id": self.id,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "upstream": self.upstream,
            "tries": len(self.asked),
            "adopted": self.adopted,
            "reference": self.reference,
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome,
            "first_seconds": None if first is None else round(first, 3),
            "total_seconds": round(self.total_seconds, 3),
        }
        if _output:
            # Not through logging: a line for each request would cost it more than all the rest of its end.
            try:
                _output.write(msgspec.json.encode(line).decode() + "\n")
                _output.flush()
            except (OSError, ValueError):  # nobody reads it any more
                pass


def log_to_stdout() -> None:
    """Send the lines to standard output, where containers and systemd look for them; at first they go nowhere."""
    global _output
    _output = _output or sys.stdout
