"""What is asked of a system, and what it took: answers, tokens, times, CPU, memory."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.systems import BUILT, Running

_GRACE_SECONDS = 8.0  # for paced streams that come late; what is open then counts as unfinished


@dataclass(frozen=True)
class Scenario:
    """Chats of so many tokens at so many a second (0 = full speed), `at_once` of them for `seconds`; or each once.

    `fields` are further ones of the request.
    """

    name: str
    at_once: int
    tokens: int
    seconds: float
    stream: bool = True
    rate: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)

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
    return measure_together([running], scenario, cores)[0]


def measure_together(targets: Sequence[Running], scenario: Scenario, cores: set[int]) -> list[Sample]:
    """Run a scenario once against several systems at the same time, and return their samples in the same order."""
    idle = [memory_of(target.group) for target in targets]
    begun = [cpu_of(target.group) for target in targets]
    loads = [
        subprocess.Popen(
            _command(target, scenario),
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        for target in targets
    ]
    time.sleep(scenario.seconds * 0.6)
    memory = [memory_of(target.group) for target in targets]
    outputs = [load.communicate()[0] for load in loads]
    used = [cpu_of(target.group) - before for target, before in zip(targets, begun, strict=True)]
    for load, target in zip(loads, targets, strict=True):
        if load.returncode:
            raise RuntimeError(f"the load client failed against {target.system.name}")
    return [_sample(*each) for each in zip(outputs, used, memory, idle, strict=True)]


def _sample(output: str, cpu: float, memory: int, idle: int) -> Sample:
    told = json.loads(output)
    return Sample(
        **{name: told[name] for name in Sample.__dataclass_fields__ if name in told},
        cpu=cpu,
        memory=memory,
        idle_memory=idle,
    )


def _command(running: Running, scenario: Scenario) -> list[str]:
    system = running.system
    said = f"Count, please: tokens={scenario.tokens} rate={scenario.rate}"
    fields = {**system.fields, **scenario.fields}
    messages = [{"role": "user", "content": said}]
    body = json.dumps({"model": system.model, "stream": scenario.stream, "messages": messages, **fields})
    headers = "".join(f"{name}: {value}\r\n" for name, value in system.headers(running.upstream).items())
    command = [str(BUILT / "load"), str(running.port), system.path, headers, body, str(scenario.at_once)]
    command.append(str(scenario.tokens))
    if scenario.once:
        return [*command, str(1 + scenario.tokens / scenario.rate + _GRACE_SECONDS), "once"]
    return [*command, str(scenario.seconds)]


def cpu_of(group: int) -> float:
    """Return the CPU seconds of the processes of a group, exactly: /proc/…/stat counts in hundredths."""
    total = 0.0
    for fields in _processes(group):
        with suppress(OSError):  # it has just ended
            total += time.clock_gettime(~int(fields[-1]) << 3 | 2)  # as clock_getcpuclockid(3) makes it
    return total


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
