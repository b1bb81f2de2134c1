"""A request that comes twice is asked once: joined while it runs, repeated when it is finished."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.events import Event, Finish, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, InvalidRequest, RateLimited, UpstreamIncomplete
from gpt_oss_proxy.gateway import sharing as module
from gpt_oss_proxy.gateway.peers import Peers
from gpt_oss_proxy.gateway.sharing import Identity, Shared, Sharing
from tests.doubles import Scripted, Step

LONG = 20.0
A: list[Event] = [TextDelta("a")]
B: list[Event] = [TextDelta("b")]
END: list[Event] = [Finish("stop")]
FIRST = Identity("name", "body", again=False)
AGAIN = Identity("name", "body", again=True)


@pytest.fixture(autouse=True)
def short_return(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_RETURN_SECONDS", 0.05)
    with gevent.Timeout(5):
        yield


@pytest.fixture
def calls() -> Sharing:
    return Sharing(Peers(None))


def begin(calls: Sharing, *script: Step, identity: Identity = FIRST) -> tuple[Scripted, Shared]:
    upstream = Scripted(*script)
    return upstream, calls.begin(identity, upstream.stream(ChatRequest("m", ())))


def heard(call: Any) -> list[Any]:
    found: list[Any] = []
    try:
        found.extend(events for events in call.read() if events)
    except GatewayError as error:
        found.append(type(error).__name__)
    return found


def test_all_who_join_while_it_runs_get_the_whole_answer_of_one_call(calls: Sharing) -> None:
    upstream, shared = begin(calls, A, 0.02, B, 0.02, END)
    readers = [gevent.spawn(heard, shared)]
    gevent.sleep(0.01)
    for _ in range(3):
        joined = calls.join(AGAIN)
        assert joined is shared
        readers.append(gevent.spawn(heard, joined))
        gevent.sleep(0.01)
    gevent.joinall(readers)
    assert [reader.value for reader in readers] == [[A, B, END]] * 4
    assert len(upstream.asked) == 1


def test_a_finished_answer_is_given_again_for_a_while(calls: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_SECONDS", 0.05)
    upstream, shared = begin(calls, A, END)
    assert heard(shared) == [A, END]
    again = calls.join(AGAIN)
    assert again is shared
    assert heard(again) == [A, END]
    gevent.sleep(0.1)
    assert calls.join(AGAIN) is None
    assert len(upstream.asked) == 1


def test_a_first_request_joins_nothing_and_is_the_one_that_repetitions_join(calls: Sharing) -> None:
    _, older = begin(calls, A, END)
    assert heard(older) == [A, END]
    assert calls.join(FIRST) is None
    _, newer = begin(calls, B, END)
    assert calls.join(AGAIN) is newer
    assert heard(newer) == [B, END]


def test_a_failure_is_told_to_all_and_not_kept(calls: Sharing) -> None:
    _, shared = begin(calls, A, 0.02, UpstreamIncomplete())
    readers = [gevent.spawn(heard, shared) for _ in range(3)]
    gevent.joinall(readers)
    assert [reader.value for reader in readers] == [[A, "UpstreamIncomplete"]] * 3
    assert calls.join(AGAIN) is None


@pytest.mark.parametrize("script", [[RateLimited()], [A, UpstreamIncomplete()]])
def test_whoever_reads_late_gets_the_same_error(calls: Sharing, script: list[Step]) -> None:
    _, shared = begin(calls, *script)
    first = heard(shared)
    assert heard(shared) == first


def test_a_call_that_nobody_returns_to_is_ended_soon(calls: Sharing) -> None:
    upstream, shared = begin(calls, A, LONG)
    lists = shared.read()
    assert next(lists) == A
    lists.close()
    gevent.sleep(0.02)
    assert upstream.ended == 0
    gevent.sleep(0.1)
    assert upstream.ended == 1
    assert calls.join(AGAIN) is None


def test_a_call_that_is_left_before_it_was_read_is_ended_soon(calls: Sharing) -> None:
    upstream, shared = begin(calls, LONG)
    lists = shared.read()
    lists.close()
    lists.close()
    gevent.sleep(0.1)
    assert upstream.ended == len(upstream.asked) == 1


def test_a_reader_that_begins_late_because_there_is_much_to_do_gets_its_answer(calls: Sharing) -> None:
    _, shared = begin(calls, A, END)
    lists = shared.read()
    gevent.sleep(0.2)
    assert [events for events in lists if events] == [A, END]


def test_each_leaving_gives_the_whole_time_to_come_back(calls: Sharing) -> None:
    upstream, shared = begin(calls, LONG)
    for _ in range(4):
        shared.read().close()
        gevent.sleep(0.03)
    assert upstream.ended == 0


def test_a_call_that_was_given_up_is_incomplete_for_who_comes_too_late(calls: Sharing) -> None:
    _, shared = begin(calls, A, LONG)
    shared.read().close()
    gevent.sleep(0.1)
    assert heard(shared) == [A, "UpstreamIncomplete"]


def test_a_client_that_comes_back_in_time_finds_its_call_going_on(calls: Sharing) -> None:
    upstream, shared = begin(calls, A, 0.1, B, END)
    lists = shared.read()
    next(lists)
    lists.close()
    gevent.sleep(0.02)
    joined = calls.join(AGAIN)
    assert joined is shared
    assert heard(joined) == [A, B, END]
    assert len(upstream.asked) == 1


def test_the_upstream_is_read_no_faster_than_the_fastest_reader(calls: Sharing) -> None:
    upstream, shared = begin(calls, *[A] * 100, END)
    fast, slow = shared.read(), shared.read()
    assert [next(fast), next(slow)] == [A, A]
    for _ in range(20):
        gevent.sleep(0)
    assert upstream.delivered <= 10
    for _ in range(50):
        next(fast)
        gevent.sleep(0)
    assert 50 < upstream.delivered <= 60
    assert [events for events in slow if events] == [*[A] * 99, END]


def test_signs_of_life_are_passed_on_and_cost_nothing(calls: Sharing) -> None:
    script: list[Step] = [step for _ in range(5) for step in ([], 0.01)]
    _, shared = begin(calls, *script, A, END)
    lists = list(shared.read())
    assert [] in lists
    assert [events for events in lists if events] == [A, END]
    assert len(shared._lists) == 2


def test_an_answer_that_is_too_long_cannot_be_joined_and_is_not_kept(
    calls: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST_SHARED", 10 * 65)
    _, shared = begin(calls, *[A] * 100, END)
    assert heard(shared) == [*[A] * 100, END]
    assert calls.join(AGAIN) is None
    assert sum(map(bool, shared._lists)) <= 11  # what was read before it was too long


@pytest.mark.parametrize(("limit", "most"), [("_MOST_KEPT", 2), ("_KEPT_BYTES", 2 * (65 + 64))])
def test_of_finished_answers_the_oldest_go_first(
    calls: Sharing, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(module, limit, most)
    for name in "abc":
        _, shared = begin(calls, A, END, identity=Identity(name, "body", again=False))
        assert heard(shared) == [A, END]
        gevent.sleep(0.01)
    assert [calls.join(Identity(name, "body", again=True)) is None for name in "abc"] == [True, False, False]
    assert (len(calls._shared), calls._kept_bytes) == (2, 2 * (65 + 64))


def test_a_newer_call_of_the_same_name_is_not_forgotten_with_the_older(
    calls: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT_SECONDS", 0.05)
    _, older = begin(calls, A, END)
    assert heard(older) == [A, END]
    gevent.sleep(0.03)
    _, newer = begin(calls, B, END)
    assert heard(newer) == [B, END]
    gevent.sleep(0.03)
    assert calls.join(AGAIN) is newer


def test_a_key_that_is_used_for_another_request_is_refused(calls: Sharing) -> None:
    begin(calls, A, END)
    with pytest.raises(InvalidRequest) as raised:
        calls.join(Identity("name", "other body", again=True))
    assert raised.value.code == "idempotency_key_reused"


def test_a_bug_is_an_internal_error_for_all(calls: Sharing) -> None:
    _, shared = begin(calls, A, ValueError("bug"))
    assert heard(shared) == [A, "InternalError"]


def test_a_text_takes_the_shortcut_of_the_only_reader_and_is_kept_for_those_who_join(calls: Sharing) -> None:
    _, shared = begin(calls, A, 0.3, B, END)
    told: list[str] = []
    reader = shared.read()
    assert not shared.tell("before anybody has one")

    def shortcut(text: str) -> bool:
        told.append(text)
        return text != "closed"

    reader.shortcut = shortcut
    assert next(reader) == A
    assert shared.tell("x")
    assert not shared.tell("closed")
    joined = shared.read()
    assert not shared.tell("while somebody has not read all")
    assert [next(joined), next(joined)] == [A, [TextDelta("x")]]
    assert not shared.tell("while there are two")
    joined.close()
    assert shared.tell("y")
    assert [events for events in reader if events] == [B, END]
    reader.close()
    assert told == ["x", "closed", "y"]
    assert heard(calls.join(AGAIN)) == [A, [TextDelta("x")], [TextDelta("y")], B, END]


def test_no_shortcut_goes_past_a_list_that_its_reader_has_not_read(calls: Sharing) -> None:
    _, shared = begin(calls, A, B, 0.02, END)
    reader = shared.read()
    reader.shortcut = lambda _text: True
    assert next(reader) == A
    assert not shared.tell("x")
    assert [events for events in reader if events] == [B, END]
    reader.close()
    assert not shared.tell("behind all")


def test_a_sign_of_life_behind_a_shortcut_is_one(calls: Sharing) -> None:
    _, shared = begin(calls, A, 0.02, [], 0.02, B, END)
    reader = shared.read()
    reader.shortcut = lambda _text: True
    assert next(reader) == A
    reading = gevent.spawn(list, reader)
    gevent.sleep(0.01)
    assert shared.tell("x")
    told = reading.get()
    assert (told[0], [events for events in told if events]) == ([], [B, END])
    reader.close()
