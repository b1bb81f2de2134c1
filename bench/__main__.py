"""Measures the gateway beside others, in turn, in one run: `python -m bench [--quick]`.

The system under test has the last core for itself; the mock upstream and the clients share the first. Both are C (see
upstream.c, load.c), so that neither is what is measured: the column "direct" shows what they reach without anybody in
between. All answers are compared, token by token.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from bench import report, scaling
from bench.measure import Sample, Scenario, measure
from bench.systems import (
    BUILT,
    CHATKIT,
    DIRECT,
    HERE,
    LITELLM,
    NAIVE,
    NGINX,
    PEERS,
    PORTKEY,
    PRODUCT,
    TOOLS_AND_STOP,
    System,
    running,
    running_upstream,
)

_WARM = Scenario("warm", 32, 32, 1.0)
_FULL = (
    Scenario("json", 32, 32, 5.0, stream=False),
    Scenario("streams", 32, 32, 5.0),
    Scenario("tools", 32, 32, 5.0, fields=TOOLS_AND_STOP),
    Scenario("bulk", 4, 4_000, 5.0),
    Scenario("first", 1, 32, 3.0),
    Scenario("paced256", 256, 300, 10.0, rate=30),
    Scenario("tools256", 256, 300, 10.0, rate=30, fields=TOOLS_AND_STOP),
    Scenario("paced1000", 1000, 240, 8.0, rate=30),
)
_QUICK = (
    Scenario("json", 32, 32, 1.5, stream=False),
    Scenario("streams", 32, 32, 1.5),
    Scenario("tools", 32, 32, 1.5, fields=TOOLS_AND_STOP),
    Scenario("bulk", 4, 4_000, 1.5),
    Scenario("first", 1, 32, 1.0),
    Scenario("paced256", 256, 60, 2.0, rate=30),
)
_BY_HAND = "## Side by side"  # of RESULTS.md: what follows is what bench.compare has printed
_FIRST_CORE, _LAST_CORE = {min(os.sched_getaffinity(0))}, {max(os.sched_getaffinity(0))}


def main() -> int:
    """Measure, and write bench/RESULTS.md (quick: only print). Returns 1 if an answer of the product was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in under a minute, the peers without an installation")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of systems")
    arguments = parser.parse_args()
    systems: Sequence[System] = (DIRECT, NGINX, NAIVE, CHATKIT) if arguments.quick else (DIRECT, *PEERS, *PRODUCT)
    if arguments.only:
        systems = [system for system in (DIRECT, *PEERS, *PRODUCT) if system.name in arguments.only]
    scenarios = _QUICK if arguments.quick else _FULL
    results = _measure_all(systems, scenarios, 1 if arguments.quick else arguments.rounds)
    text = report.table(results)
    print(text)
    wrong = report.faults(results)
    print("\n".join(wrong) or "All answers were right.", file=sys.stderr)
    ours = {system.name for system in PRODUCT}
    if not arguments.quick and not arguments.only:
        _write(results, wrong)
    return int(any(line.split(",")[0] in ours for line in wrong))


def _measure_all(
    systems: Sequence[System], scenarios: Sequence[Scenario], rounds: int
) -> dict[str, dict[str, list[Sample]]]:
    results: dict[str, dict[str, list[Sample]]] = {system.name: {} for system in systems}
    for number in range(rounds):
        for system in systems:
            begun = time.monotonic()
            with (
                running_upstream(_FIRST_CORE, tls=system.tls) as upstream,
                running(system, upstream, _LAST_CORE) as target,
            ):
                measure(target, _WARM, _FIRST_CORE)
                for scenario in scenarios:
                    sample = measure(target, scenario, _FIRST_CORE)
                    results[system.name].setdefault(scenario.name, []).append(sample)
            print(f"round {number + 1}: {system.name}, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return results


def _write(results: report.Results, wrong: Sequence[str]) -> None:
    others = [system.name for system in (NGINX, LITELLM, PORTKEY, NAIVE)]
    page = HERE / "RESULTS.md"
    by_hand = "".join(page.read_text().partition(_BY_HAND)[1:])
    page.write_text(
        f"""# What `make bench` measured

{datetime.now(UTC):%Y-%m-%d}. Medians of several rounds, systems in turn; in brackets the lowest and the highest round.
The system under test has one core, the mock upstream and the clients have another one. *direct* is the ceiling of
these two. *nginx raw*, *LiteLLM* and *Portkey* pass OpenAI on as OpenAI; *naive* and the product's *ChatKit* and
*AI SDK* columns translate. *SDK headers* are those that openai-python sends; with *API keys* clients need one; with
*TLS* the upstream stands behind an nginx that speaks TLS 1.3. The last column is the product on the system's own
Python, where that is another one: distributions build theirs with optimisations that pyenv, for one, leaves out.

{report.machine(_versions())}

{report.table(results)}

## The product beside the others

{report.ratios(results, CHATKIT.name, others)}

## Growth

{scaling.table(_LAST_CORE, _FIRST_CORE)}

Two workers share their two cores with the upstream and the clients. {scaling.start_up(_LAST_CORE)}

## Answers that were not what the upstream had said

{chr(10).join(f"- {line}" for line in wrong) or "None."}

{by_hand}"""
    )


def _versions() -> list[str]:
    litellm = [
        str(HERE / ".litellm/bin/python"),
        "-c",
        "from importlib.metadata import version as v; print(v('litellm'))",
    ]
    portkey = ["node", "-p", f"require('{HERE}/node_modules/@portkey-ai/gateway/package.json').version"]
    nginx = ["sh", "-c", "PATH=$PATH:/usr/sbin nginx -v 2>&1 | sed 's/.*nginx.//'"]
    tools = {"LiteLLM": litellm, "Portkey": portkey, "nginx": nginx}
    return [
        f"{name} {subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()}"
        for name, command in tools.items()
    ]


if __name__ == "__main__":
    sys.exit(main() if BUILT.is_dir() else "Run `make bench` or `make bench-quick`: they build what this needs.")
