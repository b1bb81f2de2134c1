"""Plans: what the load client shall ask, and what it has heard."""

import json
from pathlib import Path
from typing import NamedTuple

from tests.live.load.script import Script


class Ask(NamedTuple):
    """One question."""

    model: str
    message: str
    streamed: bool
    after: float = 0.0  # seconds that whoever asks waits before
    leaves: float | None = None  # seconds until he leaves, if he does not wait for the answer
    hears: bool = False  # these seconds begin with the first text
    how: str = "fin"  # how he leaves; or rst

    @classmethod
    def of(cls, script: Script, streamed: bool = True, **more: object) -> "Ask":
        return cls(script.model, script.line(), streamed)._replace(**more)


class Heard(NamedTuple):
    """What came of it. `end` is clean, broken, left, hung or refused; times are in seconds."""

    end: str = "clean"
    port: int = 0  # the client's own
    status: int = 0
    text: str = ""
    finishes: list[str] = []
    errors: list[str] = []  # their codes
    done: int = 0  # how many [DONE]
    first: float = 0.0  # from the question to the first text
    seconds: float = 0.0  # from the question to the end
    ended_at: float = 0.0  # of the monotonic clock

    def is_whole(self, script: Script, streamed: bool = True) -> bool:
        """Return whether this is the complete answer and nothing else."""
        what = (self.end, self.status, self.text, self.finishes, self.errors, self.done)
        return what == ("clean", 200, script.text(), ["stop"], [], int(streamed))


class Plan(NamedTuple):
    base: str
    asks: list[Ask]
    at_once: int  # that many ask at the same time
    keep: bool = False  # they keep their connections for the next question

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self))

    @classmethod
    def read(cls, path: Path) -> "Plan":
        base, asks, at_once, keep = json.loads(path.read_text())
        return cls(base, [Ask(*ask) for ask in asks], at_once, keep)
