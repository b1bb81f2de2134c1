"""How the gateway grows: open streams, workers, and what it costs before the first request."""

import time
from pathlib import Path

from bench.measure import Scenario, measure, memory_of
from bench.systems import CHATKIT, Running, running, running_upstream

STREAMS = (100, 1000, 3000)
_RATE = 5  # tokens a second: slow enough for a core to carry 3,000 streams
_TOKENS = 40


def table(cores: set[int], load_cores: set[int]) -> str:
    """Return the table: for 1 and 2 workers, what so many open streams take. Two workers have all cores."""
    lines = [
        f"| workers | streams at {_RATE} tokens/s | tokens/s | unfinished or wrong | lag p50 ms | lag p99 ms "
        "| memory a stream, KiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for workers in (1, 2):
        own = cores if workers == 1 else cores | load_cores
        for streams in STREAMS:
            with running_upstream(load_cores) as upstream, running(CHATKIT, upstream, own, workers) as target:
                measure(target, Scenario("warm", 8 * workers, 32, 1.0), load_cores)
                sample = measure(target, Scenario("paced", streams, _TOKENS, _TOKENS / _RATE, rate=_RATE), load_cores)
            bad = sample.unfinished + sample.failed + sample.wrong
            each = (sample.memory - sample.idle_memory) / streams / 1024
            lines.append(
                f"| {workers} | {streams:,} | {sample.tokens / sample.seconds:,.0f} | {bad} "
                f"| {sample.lag_p50:.1f} | {sample.lag_p99:.1f} | {each:.0f} |"
            )
    return "\n".join(lines)


def start_up(cores: set[int]) -> str:
    """Return how long it takes until the port is open, and what the idle processes hold."""
    begun = time.monotonic()
    with running_upstream(cores) as upstream, running(CHATKIT, upstream, cores, 2) as target:
        seconds = time.monotonic() - begun
        time.sleep(2)
        whole = memory_of(target.group) / 2**20
        own = [_private(pid) / 2**20 for pid in _children(target)]
    each = ", ".join(f"{size:.0f}" for size in own)
    return (
        f"From the command to an open port: {seconds:.1f} s, on one core. Master and two idle workers hold "
        f"{whole:.0f} MiB together, of which the workers have {each} MiB for themselves alone."
    )


def _children(target: Running) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{target.group}/task/{target.group}/children").read_text().split()]


def _private(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_")) * 1024
