"""Nothing is left behind by clients that leave, wherever and however they do; their retries get what they left.

What holds anything for a request gives it back: places, circuits, descriptors, greenlets, the upstream's answer; and
each request has its record. Clients and upstream run in one event loop of the test's own, so that positions are exact.
"""

import asyncio
import contextlib
import random
import resource
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.conftest import StartGateway
from tests.live.leaving.cases import ASKED, SENT, VARIANTS, Case, Variant, cases_of, unusual_texts
from tests.live.leaving.client import CALLER, HOWS, How
from tests.live.leaving.gateway import SETTLED_SECONDS, Gateway
from tests.live.leaving.leaver import Leaver
from tests.live.leaving.question import asking
from tests.live.leaving.run import leave
from tests.live.leaving.upstream import Upstream
from tests.upstreams.certificates import Authority

pytestmark = pytest.mark.alone  # a retry must come within a second, and nothing be left after three

_DESCRIPTORS = 8192
_LOOK_SECONDS = 0.05
_IDLE_SECONDS = 8.0  # the gateway keeps an idle connection for 4, and looks once a second
_BEGUN = 11  # pieces of a ChatKit answer: its first text is among them
_MOMENT_SECONDS = 0.1  # for what neither client nor upstream can see
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
WORKER = pytest.mark.parametrize("worker", [0, 1], ids=["same worker", "other worker"])

Start = Callable[..., Gateway]


@pytest.fixture(autouse=True, scope="module")
def many_descriptors() -> Iterator[None]:
    """Clients and upstream are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, _DESCRIPTORS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """The event loop of clients and upstream; they stand still between two of its runs."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def start_watched(loop: asyncio.Runner, start_gateway: StartGateway) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def run(tls: ssl.SSLContext | None = None, **settings: str) -> Gateway:
            upstream = Upstream(unusual_texts)
            loop.run(upstream.start(tls))
            stack.callback(lambda: loop.run(upstream.stop()))
            child, base = start_gateway(
                BASE_URL=upstream.address,
                CHATKIT_DIALECT="published",
                VERCEL_MINIMAL_API_URL=f"{upstream.address}/ai",
                OPENAI_BASE_URL=f"{upstream.address}/v1",
                OPENAI_MODELS="fault-1",
                WEB_CONCURRENCY="2",
                GUNICORN_CMD_ARGS="--worker-class tests.live.leaving.worker.CountingWorker",
                **settings,
            )
            stack.callback(child.kill)
            return Gateway(child, base, upstream)

        yield run


@pytest.fixture(scope="module")
def watched(start_watched: Start) -> Gateway:
    return start_watched()


def some_of_all_cases(seed: int, run: str, number: int) -> list[Case]:
    return random.Random(seed).sample([case for variant in VARIANTS for case in cases_of(variant, run)], number)


# What is left


def test_those_that_leave_one_by_one_are_enough() -> None:
    assert sum(len(list(cases_of(variant, ""))) for variant in VARIANTS) >= 1500


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_nothing_is_left_of_clients_that_leave_anywhere(
    loop: asyncio.Runner, watched: Gateway, variant: Variant
) -> None:
    assert loop.run(leave(watched, list(cases_of(variant, "one")))) == {}


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_left_of_clients_that_leave_at_once(loop: asyncio.Runner, watched: Gateway, seed: int) -> None:
    assert loop.run(leave(watched, some_of_all_cases(seed, f"burst{seed}", 500), at_once=True)) == {}


def test_nothing_is_left_by_the_slower_ways(loop: asyncio.Runner, start_watched: Start) -> None:
    """With keys requests go through Flask's own dispatch, and requests' own adapter reads without our phases."""
    watched = start_watched(API_KEYS=CALLER, UPSTREAM_HTTP="requests")
    assert loop.run(leave(watched, some_of_all_cases(3, "slower", 300))) == {}


def test_nothing_is_left_by_upstreams_that_speak_tls(
    loop: asyncio.Runner, start_watched: Start, tmp_path: Path
) -> None:
    private = Authority(tmp_path)
    watched = start_watched(private.server("127.0.0.1"), CA_FILE=str(private.path))
    assert loop.run(leave(watched, some_of_all_cases(4, "tls", 300))) == {}


PROBES = [
    *((VARIANTS[0], position, how) for position in (SENT, ASKED, ASKED + 1) for how in HOWS),
    (VARIANTS[2], ASKED, "fin"),
]


def test_a_circuit_whose_probe_was_left_by_its_client_lets_the_next_request_through(
    loop: asyncio.Runner, start_watched: Start
) -> None:
    watched = start_watched(BREAKER_FAILURES="1", BREAKER_SECONDS="0.1", RETRIES="0")

    async def scenario(probe: Case) -> None:
        async with asking(watched, probe.variant, streamed=False) as opening:
            client = await opening.ask(None)
            (await watched.upstream.asked(opening.name)).abort()
            await client.whole()
        await watched.wait_for_circuit("openai", "half_open")
        await Leaver(probe, watched).run()
        async with (
            asyncio.timeout(SETTLED_SECONDS),
            asking(watched, probe.variant, streamed=False) as next_one,
        ):
            next_one.answer()
            while not await next_one.got(await next_one.ask(None)):
                await asyncio.sleep(_LOOK_SECONDS)

    for number, (variant, position, how) in enumerate(PROBES):
        loop.run(scenario(Case(f"probe{number}", variant, position, how, number % 2 == 0, False)))
    assert loop.run(watched.held()).circuits["openai"] == "closed"


def test_no_connection_to_an_upstream_is_left_when_the_idle_ones_are_closed(
    loop: asyncio.Runner, watched: Gateway
) -> None:
    async def all_are_closed() -> None:
        async with asyncio.timeout(_IDLE_SECONDS):
            while watched.upstream.connections:
                await asyncio.sleep(_LOOK_SECONDS)

    loop.run(all_are_closed())


# Who gets what was left


@WORKER
@STREAMED
@pytest.mark.parametrize("hows", [["fin"], ["rst"], ["half"], ["fin", "rst"]], ids="-".join)
def test_three_equal_requests_are_three_answers_though_some_are_retried(
    loop: asyncio.Runner, watched: Gateway, hows: list[How], streamed: bool, worker: int
) -> None:
    async def scenario() -> tuple[list[set[int]], int, list[bool]]:
        async with (
            watched.connected(4, 3),
            asking(watched, VARIANTS[1], streamed=streamed) as question,
        ):
            clients = []
            for number, where in enumerate((0, 0, 1), 1):
                clients.append(await question.ask(0, worker=where))
                await watched.upstream.asked(question.name, number)
            for client, how in zip(clients, hows, strict=False):
                await question.leave(client, how)
            for number in range(len(hows)):
                clients[number] = await question.ask(1, worker=worker)
            await asyncio.sleep(_MOMENT_SECONDS)
            question.answer()
            got = sorted([await question.got(client) for client in clients], key=min)
            return got, question.asked, await question.adopted()

    adopted = [False] * 3 + [True] * len(hows)
    assert loop.run(scenario()) == ([{1}, {2}, {3}], 3, adopted)


class Rule(NamedTuple):
    """A first client leaves; another comes `retries` later. How often is the upstream asked?"""

    asked: int
    first: int | None = 0  # how many retries it announces, None: nothing
    reads: bool = False  # before it leaves
    leaves: bool = True
    pause: float = 0.0  # besides that of an SDK
    retries: int | None = 1
    caller: str = CALLER
    at_once: int = 1  # so many come


RULES = {
    "a retry": Rule(1),
    "two retries": Rule(2, at_once=2),
    "a first try": Rule(2, retries=0),
    "one that announces nothing": Rule(2, retries=None),
    "another caller's retry": Rule(2, caller="another"),
    "a retry of one that had announced nothing": Rule(2, first=None),
    "a retry of one that is still there": Rule(2, leaves=False),
    "a retry of one that had its status": Rule(2, reads=True),
    "a late retry": Rule(2, pause=1.0),
    "a second retry": Rule(1, first=1, pause=1.4, retries=2),
    "a late second retry": Rule(2, first=1, pause=2.6, retries=2),
}


def test_the_upstream_is_asked_once_where_a_retry_may_adopt_and_else_again(
    loop: asyncio.Runner, watched: Gateway
) -> None:
    async def follow(rule: Rule, streamed: bool, worker: int) -> int:
        async with asking(watched, VARIANTS[1], streamed=streamed) as question:
            client = await question.ask(rule.first, worker=0)
            answer = await watched.upstream.asked(question.name)
            if rule.reads:
                await answer.go_on(_BEGUN)
                await client.until(f"{question.name}-1x0".encode())
            if rule.leaves:
                await question.leave(client, "fin")
            await asyncio.sleep(rule.pause)
            clients = [await question.ask(rule.retries, worker=worker, caller=rule.caller) for _ in range(rule.at_once)]
            await asyncio.sleep(_MOMENT_SECONDS)
            question.answer()
            got = [await question.got(client) for client in clients]
            assert sorted(map(len, got)) == [1] * rule.at_once  # an answer each, and all of it
            assert len(set.union(*got)) == rule.at_once
            return question.asked

    ways = [
        (name, rule, streamed, worker)
        for name, rule in RULES.items()
        for streamed in ((True,) if rule.reads else (False, True))
        for worker in (0, 1)
    ]

    async def scenario() -> list[int]:
        async with watched.connected(3 * len(ways), 2 * len(ways)):
            return await asyncio.gather(*(follow(rule, streamed, worker) for _, rule, streamed, worker in ways))

    asked = loop.run(scenario())
    assert {way: number for way, number in zip(ways, asked, strict=True) if number != way[1].asked} == {}
