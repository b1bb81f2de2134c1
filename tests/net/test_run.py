"""Functions in greenlets that are used again."""

import contextvars
import gc
import weakref
from typing import Any

import gevent
import greenlet
import pytest

from gpt_oss_proxy.errors import GatewayError, InternalError, RateLimited
from gpt_oss_proxy.net import run as module
from gpt_oss_proxy.net.run import Run


class Told:
    """Runs functions, and keeps what is told of their ends."""

    def __init__(self) -> None:
        self.ends: list[GatewayError | None] = []

    def run(self, function: Any) -> Run:
        return Run(function, self.ends.append)


@pytest.fixture
def told() -> Told:
    module._idle.clear()
    return Told()


def settle() -> None:
    for _ in range(5):
        gevent.sleep(0.001)


def test_it_runs_in_the_background_and_its_end_is_told_once(told: Told) -> None:
    ran: list[str] = []
    told.run(lambda: ran.append("a"))
    assert ran == []
    settle()
    assert (ran, told.ends) == (["a"], [None])


def test_an_error_is_told_and_a_bug_is_one_of_ours(told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    error = RateLimited()

    def fail() -> None:
        raise error

    told.run(fail)
    settle()
    assert told.ends == [error]
    told.run(lambda: 1 / 0)
    settle()
    assert type(told.ends[1]) is InternalError
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_greenlets_are_used_again_also_those_that_were_killed(told: Told) -> None:
    used: list[greenlet.greenlet] = []
    told.run(lambda: used.append(greenlet.getcurrent()))
    settle()
    killed = told.run(lambda: (used.append(greenlet.getcurrent()), gevent.sleep(10)))
    settle()
    killed.kill()
    settle()
    told.run(lambda: used.append(greenlet.getcurrent()))
    settle()
    assert (len(used), len(set(used)), told.ends) == (3, 1, [None] * 3)


def test_two_at_once_have_a_greenlet_each(told: Told) -> None:
    used: list[greenlet.greenlet] = []
    for _ in range(3):
        told.run(lambda: (gevent.sleep(0.001), used.append(greenlet.getcurrent())))
    gevent.sleep(0.02)
    assert len(set(used)) == 3


def test_there_is_a_most_of_idle_ones(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_IDLE", 1)
    for _ in range(3):
        told.run(lambda: gevent.sleep(0.001))
    gevent.sleep(0.02)
    assert len(module._idle[gevent.get_hub()]) == 1


def test_one_that_is_killed_before_it_begins_never_runs(told: Told) -> None:
    ran: list[str] = []
    killed = told.run(lambda: ran.append("a"))
    killed.kill()
    killed.kill()
    assert told.ends == [None]
    settle()
    assert (ran, told.ends) == ([], [None])


def test_a_kill_meets_only_the_one_that_it_is_meant_for(told: Told) -> None:
    first = told.run(lambda: gevent.sleep(10))
    settle()
    first.kill()
    first.kill()
    settle()
    ran: list[str] = []
    told.run(lambda: (gevent.sleep(0.005), ran.append("a")))
    first.kill()
    first.switch()
    gevent.sleep(0.02)
    assert (ran, told.ends) == (["a"], [None, None])


def test_whoever_is_spared_when_the_kill_comes_goes_on(told: Told) -> None:
    spared = told.run(lambda: gevent.sleep(0.1))
    settle()
    spared.kill(spare=lambda: True)
    settle()
    assert told.ends == []
    gevent.sleep(0.15)
    assert told.ends == [None]


def test_it_goes_on_where_it_has_switched_away(told: Told) -> None:
    steps: list[str] = []

    def wait() -> None:
        steps.append("begun")
        gevent.get_hub().switch()
        steps.append("gone on")

    waiting = told.run(wait)
    settle()
    assert steps == ["begun"]
    gevent.get_hub().loop.run_callback(waiting.switch)
    settle()
    assert steps == ["begun", "gone on"]


def test_whoever_cleans_up_at_a_kill_may_wait(told: Told) -> None:
    steps: list[str] = []

    def work() -> None:
        try:
            gevent.sleep(10)
        finally:
            gevent.sleep(0.001)
            steps.append("clean")

    killed = told.run(work)
    settle()
    killed.kill()
    settle()
    assert (steps, told.ends) == (["clean"], [None])


def test_what_it_has_used_is_not_kept(told: Told) -> None:
    class Thing:
        pass

    thing = Thing()
    alive = weakref.ref(thing)
    run = told.run(lambda thing=thing: None)
    del thing
    settle()
    del run
    gc.collect()
    assert alive() is None


def test_a_call_that_is_over_is_freed_without_the_garbage_collector(told: Told) -> None:
    class Owner:
        def __init__(self) -> None:
            self.run = Run(self.work, self.over)

        def work(self) -> None:
            pass

        def over(self, _error: GatewayError | None) -> None:
            pass

    gc.disable()
    try:
        owner = Owner()
        alive = weakref.ref(owner)
        settle()
        del owner
        assert alive() is None
    finally:
        gc.enable()


def test_a_greenlet_that_somebody_has_killed_is_not_used_again(told: Told) -> None:
    told.run(lambda: None)
    settle()
    (idle,) = module._idle[gevent.get_hub()]
    gevent.get_hub().loop.run_callback(idle.throw, gevent.GreenletExit)
    settle()
    ran: list[str] = []
    told.run(lambda: ran.append("a"))
    settle()
    assert (idle.dead, ran) == (True, ["a"])


def test_context_variables_are_not_handed_on(told: Told) -> None:
    variable = contextvars.ContextVar("variable", default="")
    seen: list[str] = []
    for _ in range(2):
        told.run(lambda: (seen.append(variable.get()), variable.set("left")))
        settle()
    assert seen == ["", ""]
