"""One JSON line per request, for people and programs. Never prompts, answers or keys."""

import sys
import time
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from gpt_oss_proxy.chat.events import Usage
from gpt_oss_proxy.errors import GatewayError
from gpt_oss_proxy.gateway.observe.tally import Tally
from gpt_oss_proxy.net.output import STDOUT, Output

_output: Output | None = None
_LONGEST_TEXT = 200  # characters, of text from outside: the upstream's reference, a proxy's words


class Record(msgspec.Struct):
    """What is known of a request, filled while it runs. Times are monotonic seconds; the log adds the end."""

    id: str
    method: str
    path: str
    started: float
    model: str = ""
    upstream: str = ""
    asked: list[str] = []  # the upstreams, in order
    client: str = ""  # its address
    upstream_host: str = ""  # of the last attempt
    upstream_status: int | None = None  # HTTP status, if that was the failure
    tally: Tally = msgspec.field(default_factory=Tally)
    usage: Usage | None = None  # set when the answer is over
    adopted: bool = False  # it got an earlier request's answer
    reference: str = ""
    ignored: tuple[str, ...] = ()  # the request's fields without effect
    stream: bool = False
    status: int = 0
    outcome: str = "ok"  # or the error's code, or client_gone
    reason: str = ""  # why an upstream was not reached, even if another one was
    first: float | None = None
    ended: float = 0.0

    @property
    def first_seconds(self) -> float | None:
        """From the request to the first events, None if there were none."""
        return None if self.first is None else self.first - self.started

    @property
    def total_seconds(self) -> float:
        """From the request to its end."""
        return self.ended - self.started

    def heard(self) -> None:
        """Note the time of the answer's first events."""
        if self.first is None:
            self.first = time.monotonic()

    def failed(self, error: GatewayError) -> None:
        """Note the error that the request has ended with."""
        self.outcome = error.code
        self.missed(error)

    def missed(self, error: GatewayError) -> None:
        """Note an upstream's error."""
        self.reason = error.reason or self.reason
        self.upstream_status = error.upstream_status or self.upstream_status

    def count(self) -> None:
        """Count the tokens of the finished answer."""
        self.usage = self.tally.usage()

    def write(self) -> None:
        """Write the line of the finished request."""
        self.ended = time.monotonic()
        self.tally.forget()
        first = self.first_seconds
        line = {
            "id": self.id,
            "time": _rfc3339(time.time()),
            "client": self.client,
            "method": self.method,
            "path": self.path,
            "model": self.model,
            "upstream": self.upstream,
            "upstream_host": self.upstream_host,
            "upstream_status": self.upstream_status,
            "tries": len(self.asked),
            "adopted": self.adopted,
            "reference": _foreign(self.reference),
            "stream": self.stream,
            "status": self.status,
            "outcome": self.outcome,
            "finish": self.tally.finish,
            "prompt_tokens": self.usage and self.usage.prompt_tokens,
            "completion_tokens": self.usage and self.usage.completion_tokens,
            "reason": _foreign(self.reason),
            "first_seconds": None if first is None else round(first, 3),
            "total_seconds": round(self.total_seconds, 3),
        }
        if _output:  # not through logging: its line would cost more than the rest of a request's end
            _output.write(msgspec.json.encode(line) + b"\n")


def _rfc3339(seconds: float) -> str:
    """Return a time in UTC, with milliseconds."""
    return f"{_whole_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(1)
def _whole_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _foreign(text: str) -> str:
    # JavaScript servers do send unpaired surrogates, which UTF-8 cannot encode.
    return text[:_LONGEST_TEXT].encode("utf-8", "replace").decode()


def log_to_stdout() -> None:
    """Write the lines to standard output, where containers and systemd read them; without this call none is written."""
    global _output
    _output = STDOUT if sys.stdout else None  # if it was closed at the start, its number may be a socket's by now
