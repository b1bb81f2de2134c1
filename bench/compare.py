"""Compares two trees or two configurations: `python -m bench.compare --a TREE[:CONFIG] --b TREE[:CONFIG]`.

A tree is a folder or a git revision; configurations are those of systems.py. A pair is two
fresh workers that are loaded at the same time on the last core, so that what else the machine does slows both down; its
ratio is that of the CPU that a unit of work took them. Upstreams and clients share the first core. Beside the ratio
stand the calls of the product's own functions (calls.py). How to read it: PROFILE.md, "Two trees side by side".
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import calls, report
from bench.measure import Sample, Scenario, measure_together
from bench.systems import (
    BUILT,
    CONFIGURATIONS,
    ROOT,
    TOOLS_AND_STOP,
    System,
    chatkit,
    running,
    running_upstream,
)

FEWEST_PAIRS = 9  # for a verdict
_COVERAGE = 0.9
_WARM = Scenario("warm", 4, 32, 0.5)
SCENARIOS: Mapping[str, Scenario] = {
    "lone": Scenario("a lone token (64 streams, 30 a second)", 64, 120, 4.0, rate=30),
    "stream": Scenario("a stream of 32 tokens", 2, 32, 4.0),
    "json": Scenario("a JSON answer of 32 tokens", 2, 32, 4.0, stream=False),
    "tools": Scenario("a lone token, tools and a stop word", 64, 120, 4.0, rate=30, fields=TOOLS_AND_STOP),
}
_FIRST_CORE, _LAST_CORE = {min(os.sched_getaffinity(0))}, {max(os.sched_getaffinity(0))}


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: a tree's folder and a configuration."""

    name: str
    tree: Path
    configuration: str

    def system(self, **environment: str) -> System:
        """Return what is to be started."""
        return chatkit(self.name, self.configuration, self.tree, **environment)

    def counting(self, counter: Path) -> System:
        """Return the same with a worker that counts its calls in a file."""
        return self.system(BENCH_CALLS=str(counter))


@dataclass(frozen=True)
class Interval:
    """Where the true median of some ratios lies, with a probability of `coverage`."""

    low: float
    high: float
    coverage: float

    def verdict(self, limit: float) -> str:
        """Return "missed" only if the whole interval lies above the limit, "kept" if none of it does, else "open"."""
        return "missed" if self.low > limit else "kept" if self.high <= limit else "open"


def interval_of(ratios: Sequence[float]) -> Interval:
    """Return the interval from the k-th lowest to the k-th highest ratio, by the sign test.

    It needs pairs that are independent of each other, and nothing of how their ratios are distributed. k is the
    greatest with a coverage of at least 90 %. Fewer than five ratios reach that with no k: then it spans all of them.
    """
    ordered, number = sorted(ratios), len(ratios)

    def coverage(k: int) -> float:
        return 1 - 2 * sum(math.comb(number, i) for i in range(k)) / 2**number

    k = max((k for k in range(1, (number + 1) // 2) if coverage(k) >= _COVERAGE), default=1)
    return Interval(ordered[k - 1], ordered[-k], coverage(k))


def main() -> int:
    """Compare, and print a table. Returns 1 if a limit was missed or an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sides = {"type": _tree_and_configuration, "metavar": "TREE[:CONFIG]"}
    parser.add_argument("--a", default="HEAD", help="what b is compared to", **sides)
    parser.add_argument("--b", default=".", help="what is compared to a", **sides)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=["lone", "stream", "json", "tools"])
    parser.add_argument("--pairs", type=int, default=13, help=f"fewer than {FEWEST_PAIRS} only to try it out")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each scenario in each pair")
    parser.add_argument("--limit", type=float, help="of every ratio b/a")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, _FIRST_CORE)
    scenarios = [_lasting(SCENARIOS[name], arguments.seconds) for name in arguments.scenarios]
    load = os.getloadavg()[0]
    with _side(*arguments.a) as a, _side(*arguments.b) as b:
        counted = calls.count((a.counting, b.counting), scenarios, _LAST_CORE, _FIRST_CORE)
        results = _measure((a.system(), b.system()), scenarios, arguments.pairs)
    if wrong := report.faults(results):
        print("\n".join(wrong), file=sys.stderr)
        return 1
    print(
        f"a is {a.name}, b is {b.name}. {arguments.pairs} pairs of {arguments.seconds:g} s; load before: {load:.1f}.\n"
    )
    print(report.machine([]), "\n")
    intervals = _print_table(results, scenarios, counted, arguments.limit)
    if arguments.limit is None or arguments.pairs < FEWEST_PAIRS:
        return 0
    return int(any(interval.verdict(arguments.limit) == "missed" for interval in intervals))


def _tree_and_configuration(text: str) -> tuple[str, str]:
    tree, _, configuration = text.partition(":")
    if configuration not in ("", *CONFIGURATIONS):
        raise argparse.ArgumentTypeError(f"the configurations are {', '.join(CONFIGURATIONS)}")
    return tree, configuration or "plain"


@contextmanager
def _side(tree: str, configuration: str) -> Iterator[Side]:
    """Give one side; a revision's tree is checked out for as long as it is needed."""
    with ExitStack() as stack:
        folder = Path(tree).resolve()
        if not (folder / "wsgi.py").is_file():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))).resolve()
            archive = subprocess.run(["git", "archive", tree], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
            subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)
        yield Side(f"{tree}:{configuration}", folder, configuration)


def _lasting(scenario: Scenario, seconds: float) -> Scenario:
    return replace(scenario, seconds=seconds, tokens=int(scenario.rate * seconds) or scenario.tokens)


def _measure(
    systems: tuple[System, System], scenarios: Sequence[Scenario], pairs: int
) -> dict[str, dict[str, list[Sample]]]:
    results: dict[str, dict[str, list[Sample]]] = {"a": {}, "b": {}}
    for pair in range(pairs):
        sides = list(zip("ab", systems, strict=True))[:: -1 if pair % 2 else 1]  # neither is always the first
        with ExitStack() as stack:
            targets = []
            for _, system in sides:
                upstream = stack.enter_context(running_upstream(_FIRST_CORE, tls=system.tls))
                targets.append(stack.enter_context(running(system, upstream, _LAST_CORE)))
            for scenario in (_WARM, *scenarios):
                samples = measure_together(targets, scenario, _FIRST_CORE)
                for (side, _), sample in zip(sides, samples, strict=True):
                    results[side].setdefault(scenario.name, []).append(sample)
        print(f"pair {pair + 1} of {pairs}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        if report.faults(results):
            break
    return results


def _print_table(
    results: report.Results, scenarios: Sequence[Scenario], counted: Sequence[Sequence[float]], limit: float | None
) -> list[Interval]:
    intervals = []
    print("| CPU µs | a | b | b/a | its interval | our calls: a | b | limit |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for scenario, (calls_a, calls_b) in zip(scenarios, counted, strict=True):
        a, b = ([_cost(scenario, sample) for sample in results[side][scenario.name]] for side in "ab")
        ratios = [theirs / ours for ours, theirs in zip(a, b, strict=True)]
        interval = interval_of(ratios)
        intervals.append(interval)
        verdict = "–" if limit is None else f"{limit:g}: {interval.verdict(limit)}"
        print(
            f"| {scenario.name} | {statistics.median(a):.0f} | {statistics.median(b):.0f} "
            f"| **{statistics.median(ratios):.2f}** | {interval.low:.2f}–{interval.high:.2f} "
            f"| {calls_a:.1f} | {calls_b:.1f} | {verdict if len(ratios) >= FEWEST_PAIRS else 'too few pairs'} |"
        )
    print(f"\nThe intervals have the true median with a probability of {intervals[0].coverage:.1%} (sign test).")
    return intervals


def _cost(scenario: Scenario, sample: Sample) -> float:
    """Return the CPU, in microseconds, of a token if tokens are paced, else of an answer."""
    return sample.cpu * 1e6 / max(sample.tokens if scenario.rate else sample.answers, 1)


if __name__ == "__main__":
    sys.exit(main() if BUILT.is_dir() else "Run `make bench-compare`: it builds what this needs.")
