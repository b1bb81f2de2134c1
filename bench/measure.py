"""What is asked of a system, and what it took: answers, tokens, times, CPU, memory."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.systems import BUILT, Running

_TICKS = os.sysconf("SC_CLK_TCK")
_GRACE_SECONDS = 8.0  # for paced streams that come late; what is open then counts as unfinished


@dataclass(frozen=True)
class Scenario:
    """Chats of so many tokens at so many a second (0 = full speed), `at_once` of them for `seconds`; or each once."""

    name: str
    at_once: int
    tokens: int
    seconds: float
    stream: bool = True
    rate: int = 0

    @property
    def once(self) -> bool:
        """Whether each client asks once: paced streams last as long as they last."""
        return self.rate > 0


@dataclass(frozen=True)
class Sample:
    """What one run of a scenario showed. Times in milliseconds, CPU in seconds, memory in bytes."""

    seconds: float
    answers: int
    tokens: int
    failed: int  # answers that ended as failures
    wrong: int  # answers that were not what the upstream had said
    unfinished: int
    first_p50: float
    lag_p50: float
    lag_p99: float
    cpu: float
    memory: int
    idle_memory: int
    example: str  # of what failed


def measure(running: Running, scenario: Scenario, cores: set[int]) -> Sample:
    """Run a scenario once, its clients on these cores. Raises RuntimeError if the load client fails."""
    idle, begun = memory_of(running.group), cpu_of(running.group)
    load = subprocess.Popen(
        _command(running, scenario),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    time.sleep(scenario.seconds * 0.6)
    memory = memory_of(running.group)
    output, _ = load.communicate()
    if load.returncode:
        raise RuntimeError(f"the load client failed against {running.system.name}")
    told = json.loads(output)
    return Sample(
        **{name: told[name] for name in Sample.__dataclass_fields__ if name in told},
        cpu=cpu_of(running.group) - begun,
        memory=memory,
        idle_memory=idle,
    )


def _command(running: Running, scenario: Scenario) -> list[str]:
    system = running.system
    said = f"Count, please: tokens={scenario.tokens} rate={scenario.rate}"
    body = json.dumps(
        {"model": system.model, "stream": scenario.stream, "messages": [{"role": "user", "content": said}]}
    )
    headers = "".join(f"{name}: {value}\r\n" for name, value in system.headers(running.upstream).items())
    command = [str(BUILT / "load"), str(running.port), system.path, headers, body, str(scenario.at_once)]
    command.append(str(scenario.tokens))
    if scenario.once:
        return [*command, str(1 + scenario.tokens / scenario.rate + _GRACE_SECONDS), "once"]
    return [*command, str(scenario.seconds)]


def cpu_of(group: int) -> float:
    """Return the CPU seconds of a process group, those of its ended children included."""
    total = 0
    for fields in _processes(group):
        total += sum(map(int, fields[11:13]))
    return total / _TICKS


def memory_of(group: int) -> int:
    """Return the bytes that a process group holds; what several of them share counts once."""
    total = 0
    for fields in _processes(group):
        rollup = Path(f"/proc/{fields[-1]}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024


def _processes(group: int) -> Iterator[list[str]]:
    """Yield /proc/…/stat from the state on, and the pid at the end, of each process of the group."""
    for path in Path("/proc").iterdir():
        if group and path.name.isdigit():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group:
                yield [*fields, path.name]
