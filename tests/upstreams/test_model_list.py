"""A server's models: asked for once for all, kept for a while, and longer where asking fails."""

import traceback
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

from gpt_oss_proxy.errors import GatewayError, UpstreamUnavailable, UpstreamUnreachable
from gpt_oss_proxy.upstreams import model_list
from gpt_oss_proxy.upstreams.base import Model
from gpt_oss_proxy.upstreams.model_list import ModelList

A, B = (Model("a", "me", 0),), (Model("b", "me", 0),)


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(model_list, "time", clock)
    return clock


class Server:
    """Lists its models, the last list again and again, or fails; when it may."""

    def __init__(self, *answers: tuple[Model, ...] | GatewayError) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.may_answer = Event()
        self.may_answer.set()

    def __call__(self) -> tuple[Model, ...]:
        self.asked += 1
        self.may_answer.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, GatewayError):
            raise answer
        return answer


def at_once(ask: Callable[[], object], server: Server, number: int = 200) -> "list[gevent.Greenlet[..., object]]":
    """Start so many requests at the same time; the server does not answer yet."""
    begun = []

    def outcome() -> object:
        begun.append(1)
        try:
            return ask()
        except GatewayError as error:
            return error

    server.may_answer.clear()
    asking = [gevent.spawn(outcome) for _ in range(number)]
    while len(begun) < number:
        gevent.sleep(0)
    return asking


def test_a_list_is_kept_for_a_minute(clock: Clock) -> None:
    models = ModelList(server := Server(A, B))
    assert models.get() == models.get() == A
    clock.now += 59
    assert (models.get(), server.asked) == (A, 1)
    clock.now += 2
    assert (models.get(), server.asked) == (B, 2)


@pytest.mark.parametrize("listed", [False, True], ids=["at first", "when the list has expired"])
def test_of_200_requests_at_the_same_time_one_asks(clock: Clock, listed: bool) -> None:
    models = ModelList(server := Server(A, B) if listed else Server(B))
    if listed:
        models.get()
        clock.now += 61
    before = server.asked
    asking = at_once(models.get, server)
    server.may_answer.set()
    assert [greenlet.get() for greenlet in asking] == [B] * 200
    assert server.asked - before == 1


@pytest.mark.parametrize("leaving", [slice(0, 1), slice(1, None), slice(0, 199)])
def test_requests_that_are_killed_take_the_list_from_no_other(clock: Clock, leaving: slice) -> None:
    models = ModelList(server := Server(A))
    asking = at_once(models.get, server)
    gone = asking[leaving]
    gevent.killall(gone)
    server.may_answer.set()
    assert [greenlet.get() for greenlet in asking if greenlet not in gone] == [A] * (200 - len(gone))
    assert server.asked == 1


def test_when_all_have_left_the_list_is_there_for_the_next(clock: Clock) -> None:
    models = ModelList(server := Server(A))
    gevent.killall(at_once(models.get, server))
    asking = at_once(models.get, server, 1)
    server.may_answer.set()
    assert (asking[0].get(), server.asked) == (A, 1)


def test_a_failure_reaches_all_that_wait_and_is_kept_for_a_few_seconds(clock: Clock) -> None:
    models = ModelList(server := Server(failure := UpstreamUnavailable(), A))
    asking = at_once(models.get, server)
    server.may_answer.set()
    assert [greenlet.get() for greenlet in asking] == [failure] * 200
    with pytest.raises(UpstreamUnavailable):
        models.get()
    assert server.asked == 1
    clock.now += 6
    assert (models.get(), server.asked) == (A, 2)


def test_a_failure_that_is_raised_again_and_again_does_not_grow(clock: Clock) -> None:
    models = ModelList(Server(failure := UpstreamUnavailable()))
    depths = []
    for _ in range(3):
        with pytest.raises(UpstreamUnavailable):
            models.get()
        depths.append(len(list(traceback.walk_tb(failure.__traceback__))))
    assert len(set(depths)) == 1


def test_where_asking_fails_the_last_list_serves_for_five_minutes(clock: Clock) -> None:
    models = ModelList(server := Server(A, UpstreamUnreachable()))
    models.get()
    clock.now += 61
    asking = at_once(models.get, server)
    server.may_answer.set()
    assert [greenlet.get() for greenlet in asking] == [A] * 200
    assert server.asked == 2
    clock.now += 298
    assert models.get() == A
    clock.now += 2
    with pytest.raises(UpstreamUnreachable):
        models.get()


def test_a_list_that_is_older_than_that_does_not_serve(clock: Clock) -> None:
    models = ModelList(Server(A, UpstreamUnreachable()))
    models.get()
    clock.now += 3600
    with pytest.raises(UpstreamUnreachable):
        models.get()


def test_once_asking_has_failed_no_request_waits_while_the_last_list_serves(clock: Clock) -> None:
    models = ModelList(server := Server(A, UpstreamUnreachable(), B))
    models.get()
    clock.now += 61
    models.get()
    clock.now += 6
    asking = at_once(models.get, server)
    assert [greenlet.get(timeout=5) for greenlet in asking] == [A] * 200
    server.may_answer.set()
    while models.get() == A:
        gevent.sleep(0)
    assert (models.get(), server.asked) == (B, 3)
