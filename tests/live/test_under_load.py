"""Many clients at once, and what happens to processes while they ask: faults, leavers, signals, and what runs out.

The upstream (load/upstream.py) and the clients (load/client.py) are processes of their own. `pytest -s` shows figures.
"""

import contextlib
import os
import random
import resource
import signal
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests

from tests.live.children import free_port, wait_for
from tests.live.conftest import PYTHON, Start, StartGateway, answers
from tests.live.load import proc
from tests.live.load.asking import Ask, Heard, Plan
from tests.live.load.running import Clients, Gateway, Upstream
from tests.live.load.script import PROTOCOLS, Script
from tests.live.talk import SECONDS

pytestmark = pytest.mark.alone
_DESCRIPTORS = 16_384  # what thousands of connections need, where the system allows it


# The programs


@pytest.fixture(autouse=True, scope="module")
def many_descriptors() -> Iterator[None]:
    """All programs of these tests may open thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, _DESCRIPTORS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def upstream(start: Start, many_descriptors: None) -> Upstream:
    return Upstream(start)


@pytest.fixture
def loaded(start_gateway: StartGateway, upstream: Upstream) -> Iterator[Callable[..., Gateway]]:
    """Start a gateway in front of the load upstream; it is ended with the test."""
    with contextlib.ExitStack() as stack:

        def run(workers: int = 2, **settings: str) -> Gateway:
            child, base = start_gateway(WEB_CONCURRENCY=str(workers), **{**upstream.settings, **settings})
            stack.callback(child.kill)
            return Gateway(child, base)

        yield run


AskAll = Callable[..., Clients]


@pytest.fixture
def ask(start: Start, tmp_path: Path) -> AskAll:
    """Start clients with these questions, all at once unless told otherwise."""
    number = iter(range(1000))

    def run(gateway: Gateway, asks: list[Ask], at_once: int = 0, keep: bool = False) -> Clients:
        return Clients(start, tmp_path / f"{next(number)}.plan", Plan(gateway.base, asks, at_once or len(asks), keep))

    return run


def talking(number: int, **script: object) -> list[Script]:
    """Return scripts of streams that go on for a while, in turn in each protocol."""
    kinds = list(PROTOCOLS)
    return [Script(kinds[index % 4], f"w{index}x", **script) for index in range(number)]


def show(figures: str) -> None:
    print(f"\n{figures}", end="", file=sys.stderr, flush=True)


# 10,000 streams, most of them cut


class Case(NamedTuple):
    place: str
    script: Script
    streamed: bool
    whole: bool  # what must come of it


PLACES = ("nowhere", "head", "chunk head", "event", "character", "terminal event", "anywhere", "after the terminal")
CASES = 10_000
UPSTREAM_FAULTS = {
    "upstream_connection_error",  # no head
    "upstream_incomplete",
    "upstream_protocol_error",  # half a head
    "upstream_empty_response",  # ChatKit has no terminal event, so a clean end without anything is another fault
}


def case(chance: random.Random, number: int) -> Case:
    """Return a random case."""
    place = chance.choice(PLACES)
    script = Script(
        chance.choice(list(PROTOCOLS)),
        f"{number:08x}",
        "chunked" if place == "chunk head" else chance.choice(("chunked", "length", "plain")),
        gap=chance.choice((0, 0, 1, 3)),
        how=chance.choice(("fin", "rst")),
        pieces=chance.choice((1, 2, 5, 9)),
    )
    if place != "nowhere":
        script = script._replace(cut=position(chance, script, place))
    return Case(place, script, chance.random() < 0.5, place in ("nowhere", "after the terminal"))


def position(chance: random.Random, script: Script, place: str) -> int:
    """Return how many bytes are sent before the cut."""
    wire = script.wire()
    protocol = PROTOCOLS[script.protocol]
    records = len(wire) - 2
    clean_end = script.framing == "plain" and script.how == "fin"
    starts = [sum(map(len, wire[:index])) for index in range(len(wire) + 1)]
    # A break does no harm once the record `end` is there, a clean end once `last` is.
    terminal = records + 1 + (protocol.last if clean_end else protocol.end)
    harmless = records + 1 + protocol.end
    match place:
        case "head":
            return chance.randrange(1, starts[1])
        case "chunk head":
            index = chance.randrange(1, terminal + 1)
            return starts[index] + chance.randint(1, wire[index].index(b"\r\n") + 1)
        case "event":
            return starts[chance.randrange(2, terminal + 1)]
        case "character":
            before = b"".join(wire[:terminal])
            return chance.choice([index for index, byte in enumerate(before) if 0x80 <= byte < 0xC0])
        case "terminal event":
            return starts[terminal] + chance.randrange(wire[terminal].rindex(b"}"))
        case "anywhere":
            return chance.randrange(starts[1], starts[terminal])
    return chance.randint(starts[harmless + 1], starts[-1])


def fault_of(case: Case, heard: Heard) -> str:
    """Return what is wrong with an answer, '' if nothing."""
    if case.whole:
        return "" if heard.is_whole(case.script, case.streamed) else "not complete"
    if heard.end != "clean" or len(heard.errors) != 1 or heard.errors[0] not in UPSTREAM_FAULTS:
        return "not told that it failed"
    if heard.finishes or (heard.status == 200) != bool(heard.done) or (heard.status != 200 and heard.status != 502):
        return "reads as a success"
    return "" if case.script.text().startswith(heard.text) else "not the upstream's text"


def test_no_cut_stream_of_ten_thousand_reads_as_a_success(loaded: Callable[..., Gateway], ask: AskAll) -> None:
    chance = random.Random(20261122)
    cases = [case(chance, number) for number in range(CASES)]
    gateway = loaded()
    began = time.monotonic()
    asks = [Ask.of(case.script, case.streamed) for case in cases]
    heard = ask(gateway, asks, at_once=100, keep=True).heard()
    faults = [
        (fault, case, answer) for case, answer in zip(cases, heard, strict=True) if (fault := fault_of(case, answer))
    ]
    seconds, work = time.monotonic() - began, sum(map(proc.cpu_seconds, gateway.workers()))
    cut = sum(not case.whole for case in cases)
    show(f"{CASES} answers, {cut} of them cut, in {seconds:.0f} s; the workers' own time was {work:.0f} s")
    outcomes = Counter((case.place, *answer.errors) for case, answer in zip(cases, heard, strict=True))
    show("\n".join(f"  {' → '.join(outcome)}: {count}" for outcome, count in sorted(outcomes.items())))
    assert not faults, f"{len(faults)} are wrong: {Counter(fault for fault, _, _ in faults)}, such as {faults[:3]}"


# Clients that leave


LEAVERS = 1000
ROUNDS = 3


def test_a_thousand_clients_that_leave_leave_nothing_behind(
    loaded: Callable[..., Gateway], ask: AskAll, upstream: Upstream
) -> None:
    chance = random.Random(7)
    gateway = loaded(workers=1)
    (worker,) = gateway.workers()
    assert ask(gateway, [Ask.of(Script(), streamed) for streamed in (True, False)]).heard()[0].status == 200
    base = proc.descriptors(worker)
    sizes = []
    for _ in range(ROUNDS):
        asks = [leaver(chance, number) for number in range(LEAVERS)]
        heard = ask(gateway, asks).heard()
        assert {answer.end for answer in heard} == {"left"}
        wait_for("the upstream to be idle", lambda: upstream.seen()["open"] == 0, seconds=20)
        late = upstream.seen()["last_left_at"] - max(answer.ended_at for answer in heard)
        sizes.append(proc.memory_mb(worker))
        in_the_head = sum(not answer.status for answer in heard)
        show(
            f"{LEAVERS} left, {in_the_head} before the head; the upstream was idle {late:.2f} s after the last; "
            f"{proc.descriptors(worker)} descriptors, {base} before; {sizes[-1]:.0f} MB"
        )
        assert late < 2
    assert sizes[-1] < sizes[0] * 1.1
    # A few connections may stay in the pool for a while.
    wait_for("the descriptors to be given back", lambda: proc.descriptors(worker) <= base + 2, seconds=20)


def leaver(chance: random.Random, number: int) -> Ask:
    """Ask for an answer that never ends by itself, and leave: without a head, while it is silent, or while it flows."""
    script = Script(chance.choice(list(PROTOCOLS)), f"w{number}x")
    how = chance.choice(({"stall": 0}, {"words": 20, "stall": 12}, {"words": 100, "gap": 100}))
    script = script._replace(**how)
    streamed = chance.random() < 0.7
    hears = streamed and script.stall != 0 and chance.random() < 0.8
    return Ask.of(script, streamed, hears=hears, leaves=chance.uniform(0.02, 1), how=chance.choice(("fin", "rst")))


# Signals


STREAMS = 200
HELD = {"words": 20, "hold": 12, "gap": 5}


def wrong(heard: list[Heard], scripts: list[Script]) -> list[Heard]:
    """Return the answers that are not complete."""
    return [answer for answer, script in zip(heard, scripts, strict=True) if not answer.is_whole(script)]


def test_sigterm_under_two_hundred_streams_lets_all_of_them_finish(
    loaded: Callable[..., Gateway], ask: AskAll, upstream: Upstream
) -> None:
    scripts = talking(STREAMS, **HELD)
    gateway = loaded()
    clients = ask(gateway, [Ask.of(script) for script in scripts])
    clients.wait_until_begun()
    gateway.child.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    wait_for("the readiness to end", lambda: not answers(f"{gateway.base}/readyz"), seconds=10)
    told = time.monotonic() - began
    wait_for("new work to be refused", lambda: refused(gateway.base), seconds=10)
    assert clients.asking()
    upstream.release()
    heard = clients.heard()
    released = time.monotonic()
    assert gateway.child.process.wait(30) == 0
    ended = time.monotonic() - released
    show(f"{STREAMS} streams finished; not ready {told:.2f} s after SIGTERM, ended {ended:.2f} s after the last stream")
    assert wrong(heard, scripts) == []


def refused(base: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), timeout=SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_worker_that_is_killed_takes_nobody_elses_stream_with_it(
    loaded: Callable[..., Gateway], ask: AskAll, upstream: Upstream
) -> None:
    scripts = talking(STREAMS, **HELD)
    # Slots that the killed worker's streams did not give back would be missing in the second round.
    gateway = loaded(MAX_REQUESTS=str(STREAMS + 20))
    clients = ask(gateway, [Ask.of(script) for script in scripts])
    clients.wait_until_begun()
    killed, left = gateway.workers()
    doomed = {link.there for link in proc.links(killed)}
    os.kill(killed, signal.SIGKILL)
    wait_for("a new worker", lambda: len(set(gateway.workers()) - {killed}) == 2, seconds=60)
    assert left in gateway.workers()
    assert clients.asking()
    upstream.release()
    heard = clients.heard()
    others = [pair for pair in zip(heard, scripts, strict=True) if pair[0].port not in doomed]
    broken = [answer for answer in heard if answer.port in doomed]
    show(f"{len(broken)} streams were of the killed worker, {len(others)} of the other")
    assert broken, "the killed worker had no streams"
    assert others, "the killed worker had all streams"
    assert [answer for answer in broken if answer.end != "broken" or answer.finishes or answer.done] == []
    assert [answer for answer, script in others if not answer.is_whole(script)] == []
    wait_for("the upstream to be left", lambda: upstream.seen()["open"] == 0, seconds=5)
    again = talking(STREAMS, words=5, gap=20)
    assert wrong(ask(gateway, [Ask.of(script) for script in again]).heard(), again) == []


def test_a_reload_under_load_cuts_no_stream_and_refuses_no_request(
    loaded: Callable[..., Gateway], ask: AskAll, upstream: Upstream
) -> None:
    scripts = talking(STREAMS, **HELD)
    short = talking(300)
    gateway = loaded()
    old = gateway.workers()
    clients = ask(gateway, [Ask.of(script) for script in scripts])
    clients.wait_until_begun()
    served = upstream.seen()["served"]
    busy = ask(gateway, [Ask.of(script, after=0.05) for script in short], at_once=8)
    wait_for("requests", lambda: upstream.seen()["served"] > served + 20)
    gateway.child.process.send_signal(signal.SIGHUP)
    wait_for("new workers", lambda: len(set(gateway.workers()) - set(old)) == 2, seconds=20)
    assert clients.asking()
    assert busy.asking(), "the requests were over before the reload"
    assert wrong(busy.heard(), short) == []
    assert set(old) <= set(gateway.workers())
    upstream.release()
    assert wrong(clients.heard(), scripts) == []
    wait_for("the old workers to end", lambda: not set(gateway.workers()) & set(old), seconds=40)


# Stalled streams


STALLED = 1000
HEALTHY = 100


def test_a_thousand_stalled_streams_do_not_slow_down_healthy_ones(
    loaded: Callable[..., Gateway], ask: AskAll, upstream: Upstream
) -> None:
    gateway = loaded(workers=1)
    scripts = talking(HEALTHY, words=5, gap=5)

    def measure() -> tuple[float, float, float, float]:
        heard = ask(gateway, [Ask.of(script) for script in scripts], at_once=2).heard()
        assert wrong(heard, scripts) == []
        firsts, totals = sorted(answer.first for answer in heard), sorted(answer.seconds for answer in heard)
        return statistics.median(firsts), firsts[-3], statistics.median(totals), totals[-3]

    measure()  # what is done once
    before = measure()
    stalled = ask(gateway, [Ask.of(script) for script in talking(STALLED, words=20, stall=12)])
    wait_for("all to stall", lambda: upstream.seen()["open"] == STALLED)
    during = measure()
    assert upstream.seen()["open"] == STALLED
    for what, seconds in (("before", before), ("with the stalled", during)):
        first, late_first, total, late_total = (f"{1000 * value:.0f} ms" for value in seconds)
        show(f"{what}: first text {first}, 95 % {late_first}; the whole {total}, 95 % {late_total}")
    for was, now in zip(before, during, strict=True):
        assert now < 2 * was + 0.1
    stalled.child.kill()
    wait_for("the upstream to be left", lambda: upstream.seen()["open"] == 0, seconds=10)


# Descriptors


def test_running_out_of_descriptors_is_recovered_from(start: Start, upstream: Upstream) -> None:
    port = free_port()
    env = {**upstream.settings, "WEB_CONCURRENCY": "1", "HOST": "127.0.0.1", "PORT": str(port)}
    gunicorn = str(Path(PYTHON).parent / "gunicorn")
    command = ("prlimit", "--nofile=100:100", gunicorn, "-c", "gunicorn.conf.py", "wsgi:app")
    child = start("gateway of 100 descriptors", *command, env=env)
    gateway = Gateway(child, f"http://127.0.0.1:{port}")
    child.wait_until_ready(lambda: answers(f"{gateway.base}/readyz"))
    (worker,) = gateway.workers()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=SECONDS))
        wait_for("the gateway to take no more connections", lambda: steady(worker), seconds=10)
        used = proc.cpu_seconds(worker)
        time.sleep(2)  # the time over which the work is measured
        used = proc.cpu_seconds(worker) - used
        show(f"{used:.2f} s of work in 2 s with {proc.descriptors(worker)} of 100 descriptors used")
        assert used < 0.5
    began = time.monotonic()
    message = [{"role": "user", "content": Script().line()}]
    answer = requests.post(
        f"{gateway.base}/v1/chat/completions", json={"model": "gpt-4o", "messages": message}, timeout=SECONDS
    )
    assert answer.json()["choices"][0]["message"]["content"] == Script().text()
    show(f"answered {time.monotonic() - began:.2f} s after they were there again")
    assert gateway.workers() == [worker]
    # No traceback either: see no_bugs.


def steady(worker: int) -> bool:
    """Return whether the worker has many descriptors, and no more after a while."""
    before = proc.descriptors(worker)
    time.sleep(0.3)
    return proc.descriptors(worker) == before > 40
