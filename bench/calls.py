"""Counts the calls of the product's own functions a token, a stream or an answer: the same number in each run.

One client asks, one request after the other, so what several sockets share in a turn of the loop counts in full. A
generator that is resumed is called. The counting itself is done in the worker, by inside/sitecustomize.py.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.measure import Scenario, measure_together
from bench.systems import System, running, running_upstream

# Two paced answers, in which each token comes alone: what the longer has more is the price of so many tokens. They last
# as long as each other, for a worker has a few calls each second anyway.
_SECONDS = 2
_RATES = (10, 50)
_REPEATS = 3
_LATER_SECONDS = 1.5  # a worker counts for /metrics a second after a request


def count(
    sides: Sequence[Callable[[Path], System]], scenarios: Sequence[Scenario], cores: set[int], load_cores: set[int]
) -> list[list[float]]:
    """Return for each scenario what it takes each side: calls a token where tokens are paced, else an answer.

    A side takes the file in which its worker counts.
    """
    with ExitStack() as stack:
        counters, targets = [], []
        for side in sides:
            counter = Path(stack.enter_context(tempfile.NamedTemporaryFile(prefix="bench-")).name)
            counter.write_bytes(bytes(8))
            system = side(counter)
            upstream = stack.enter_context(running_upstream(load_cores, tls=system.tls))
            targets.append(stack.enter_context(running(system, upstream, cores)))
            counters.append(counter)

        def taken(alone: Scenario) -> list[tuple[int, int]]:
            before = [_read(counter) for counter in counters]
            samples = measure_together(targets, alone, load_cores)
            time.sleep(_LATER_SECONDS)
            calls = [_read(counter) - then for counter, then in zip(counters, before, strict=True)]
            return [(number, sample.answers) for number, sample in zip(calls, samples, strict=True)]

        return [_each(scenario, taken) for scenario in scenarios]


def _each(scenario: Scenario, taken: Callable[[Scenario], list[tuple[int, int]]]) -> list[float]:
    one = replace(scenario, at_once=1, rate=0, seconds=1.0)
    taken(replace(one, seconds=0.1))  # what is remembered is remembered now
    if not scenario.rate:
        return [calls / max(answers, 1) for calls, answers in taken(one)]

    def most(alone: Scenario) -> list[int]:
        # On a busy machine tokens come together now and then, and take less.
        runs = [taken(alone) for _ in range(_REPEATS)]
        return [max(calls for calls, _ in side) for side in zip(*runs, strict=True)]

    few, many = (replace(one, rate=rate, tokens=rate * _SECONDS) for rate in _RATES)
    more = many.tokens - few.tokens
    return [(long - short) / more for long, short in zip(most(many), most(few), strict=True)]


def _read(counter: Path) -> int:
    return int.from_bytes(counter.read_bytes(), sys.byteorder)
