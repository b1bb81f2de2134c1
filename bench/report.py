"""Samples → the tables of RESULTS.md."""

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from bench.measure import Sample

Results = Mapping[str, Mapping[str, Sequence[Sample]]]  # system → scenario → a sample a round


@dataclass(frozen=True)
class Row:
    """A line of the table: what of a scenario's sample it shows. `more` says whether more is better."""

    name: str
    scenario: str
    value: Callable[[Sample], float]
    more: bool
    digits: int = 0
    needs_process: bool = False  # direct has no process of its own


def _cpu_micros(count: Callable[[Sample], int]) -> Callable[[Sample], float]:
    return lambda sample: sample.cpu * 1e6 / max(count(sample), 1)


ROWS = (
    Row("JSON answers/s, 32 at once", "json", lambda s: s.answers / s.seconds, more=True),
    Row("… CPU µs an answer", "json", _cpu_micros(lambda s: s.answers), more=False, needs_process=True),
    Row("streams of 32 tokens/s, 32 at once", "streams", lambda s: s.answers / s.seconds, more=True),
    Row("… CPU µs a stream", "streams", _cpu_micros(lambda s: s.answers), more=False, needs_process=True),
    Row(
        "… with tools and a stop word: CPU µs a stream",
        "tools",
        _cpu_micros(lambda s: s.answers),
        more=False,
        needs_process=True,
    ),
    Row("tokens/s relayed, upstream at full speed", "bulk", lambda s: s.tokens / s.seconds, more=True),
    Row("… CPU µs a token", "bulk", _cpu_micros(lambda s: s.tokens), more=False, digits=2, needs_process=True),
    Row("first token, one client, p50 ms", "first", lambda s: s.first_p50, more=False, digits=2),
    Row(
        "256 streams at 30 tokens/s: CPU µs a token",
        "paced256",
        _cpu_micros(lambda s: s.tokens),
        more=False,
        needs_process=True,
    ),
    Row("… lag p99 ms", "paced256", lambda s: s.lag_p99, more=False, digits=1),
    Row(
        "… with tools and a stop word: CPU µs a token",
        "tools256",
        _cpu_micros(lambda s: s.tokens),
        more=False,
        needs_process=True,
    ),
    Row("1,000 streams at 30 tokens/s: tokens/s", "paced1000", lambda s: s.tokens / s.seconds, more=True),
    Row("… CPU µs a token", "paced1000", _cpu_micros(lambda s: s.tokens), more=False, needs_process=True),
    Row("… streams unfinished", "paced1000", lambda s: s.unfinished + s.failed + s.wrong, more=False),
    Row("… lag p99 ms", "paced1000", lambda s: s.lag_p99, more=False, digits=1),
    Row("… memory MiB", "paced1000", lambda s: s.memory / 2**20, more=False, needs_process=True),
)


def faults(results: Results) -> list[str]:
    """Return a line for each run in which an answer was wrong or failed."""
    return [
        f"{system}, {scenario}: {sample.failed} failed, {sample.wrong} wrong, {sample.unfinished} unfinished"
        + (f" ({sample.example})" if sample.example else "")
        for system, scenarios in results.items()
        for scenario, samples in scenarios.items()
        for sample in samples
        if sample.failed or sample.wrong or sample.unfinished
    ]


def table(results: Results) -> str:
    """Return the table of medians; the spread stands behind each, if there were several rounds."""
    systems = list(results)
    measured = {name for scenarios in results.values() for name in scenarios}
    lines = [_line("on one core", systems), _line("---", ["---"] * len(systems))]
    for row in ROWS:
        if row.scenario in measured:
            lines.append(_line(row.name, [_cell(row, results[system].get(row.scenario, ())) for system in systems]))
    return "\n".join(lines)


def ratios(results: Results, ours: str, others: Sequence[str]) -> str:
    """Return how many times better we are than the others, row by row."""
    lines = [_line(f"{ours} is so many times better", others), _line("---", ["---"] * len(others))]
    for row in ROWS:
        mine = _median(row, results[ours].get(row.scenario, ()))
        cells = []
        for other in others:
            theirs = _median(row, results[other].get(row.scenario, ()))
            good, bad = (mine, theirs) if row.more else (theirs, mine)
            cells.append("–" if good is None or not bad else f"{good / bad:.2f}")
        if mine is not None and set(cells) != {"–"}:
            lines.append(_line(row.name, cells))
    return "\n".join(lines)


def machine(versions: Iterable[str]) -> str:
    """Return where and with what this was measured."""
    processor = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "name" in line),
        platform.processor(),
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    packages = ("flask", "gunicorn", "gevent", "requests", "urllib3", "msgspec")
    own = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    return "\n".join(
        [
            f"- {os.cpu_count()} cores of {processor}, {platform.system()} {platform.release()}",
            f"- Python {platform.python_version()}, {own}; commit {commit.stdout.strip() or 'unknown'}",
            *(f"- {version}" for version in versions),
        ]
    )


def _cell(row: Row, samples: Sequence[Sample]) -> str:
    middle = _median(row, samples)
    if middle is None:
        return "–"
    values = sorted(row.value(sample) for sample in samples)
    spread = f" ({_number(row, values[0])}–{_number(row, values[-1])})" if values[0] != values[-1] else ""
    return _number(row, middle) + spread


def _median(row: Row, samples: Sequence[Sample]) -> float | None:
    if not samples or (row.needs_process and not any(sample.cpu for sample in samples)):
        return None
    value = statistics.median(row.value(sample) for sample in samples)
    return None if value < 0 else value


def _number(row: Row, value: float) -> str:
    return f"{value:,.{row.digits}f}"


def _line(name: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"
