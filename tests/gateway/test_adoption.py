"""Answers that are given to another request: left ones once, those with an Idempotency-Key each time."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.events import Event, Finish, TextDelta
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import GatewayError, InvalidRequest, UpstreamIncomplete
from gpt_oss_proxy.gateway import adoption as module
from gpt_oss_proxy.gateway.adoption import Adoption, RequestKey, request_key
from gpt_oss_proxy.gateway.recorded import RecordedAnswer, memory_bytes
from gpt_oss_proxy.stores.peers import Joinable, Origin, Peers
from tests.doubles import Scripted, Step

LONG = 20.0
A: list[Event] = [TextDelta("a")]
B: list[Event] = [TextDelta("b")]
END: list[Event] = [Finish("stop")]
ORIGIN = Origin("scripted", ())


@pytest.fixture(autouse=True)
def short_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "_FIRST_WINDOW_SECONDS", 0.05)
    monkeypatch.setattr(module, "_NEXT_WINDOW_SECONDS", 0.15)
    with gevent.Timeout(5):
        yield


@pytest.fixture
def adoption() -> Adoption:
    return Adoption(Peers(None))


def named(name: str = "name", body: str = "body") -> RequestKey:
    return RequestKey(name, body, is_named=True, retries=0)


def tried(retries: int, name: str = "name") -> RequestKey:
    return RequestKey(name, "body", is_named=False, retries=retries)


def leave(adoption: Adoption, *script: Step, key: RequestKey = tried(0)) -> Scripted:  # noqa: B008 - frozen
    upstream = Scripted(*script)
    adoption.leave(key, upstream.stream(ChatRequest("m", ())), lambda: ORIGIN)
    return upstream


def record(adoption: Adoption, *script: Step, key: RequestKey) -> tuple[Scripted, RecordedAnswer]:
    upstream = Scripted(*script)
    return upstream, adoption.record(key, upstream.stream(ChatRequest("m", ())), lambda: ORIGIN)


def heard(answer: Joinable | None) -> list[Any]:
    assert answer
    found: list[Any] = []
    try:
        with contextlib.closing(answer.read()) as lists:
            found.extend(events for events in lists if events)
    except GatewayError as error:
        found.append(type(error).__name__)
    return found


# What a client has left


def test_a_retry_adopts_what_its_first_try_left_and_another_one_does_not(adoption: Adoption) -> None:
    upstream = leave(adoption, A, 0.02, B, END)
    adopted = adoption.find(tried(1))
    assert adoption.find(tried(1)) is None
    assert heard(adopted) == [A, B, END]
    assert len(upstream.asked) == 1


def test_of_several_that_were_left_each_is_adopted_once(adoption: Adoption) -> None:
    for letter in "abc":
        leave(adoption, [TextDelta(letter)], 0.02, END)
    found = [heard(adoption.find(tried(1)))[0][0].text for _ in range(3)]
    assert found == ["a", "b", "c"]
    assert adoption.find(tried(1)) is None


@pytest.mark.parametrize(
    "key", [tried(0), tried(1, "other"), named("other")], ids=["a first try", "another request", "a key"]
)
def test_no_other_request_adopts_it(adoption: Adoption, key: RequestKey) -> None:
    leave(adoption, A, LONG)
    assert adoption.find(key) is None


@pytest.mark.parametrize(("retries", "seconds"), [(0, 0.05), (1, 0.15), (2, 0.15)])
def test_it_goes_on_for_its_window_and_is_given_up_then(adoption: Adoption, retries: int, seconds: float) -> None:
    began = time.monotonic()
    upstream = leave(adoption, A, LONG, key=tried(retries))
    while not upstream.ended:
        gevent.sleep(0.005)
    assert time.monotonic() - began >= 0.9 * seconds
    assert adoption.find(tried(1)) is None


def test_the_windows_are_those_of_the_sdks_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [tried(number).window_seconds for number in range(4)] == [1.0, 2.5, 2.5, 2.5]


def test_a_whole_answer_waits_for_its_retry_no_longer(adoption: Adoption) -> None:
    leave(adoption, A, END)
    gevent.sleep(0.02)
    leave(adoption, B, END)
    assert heard(adoption.find(tried(1))) == [A, END]
    gevent.sleep(0.1)
    assert adoption.find(tried(1)) is None
    assert adoption._left == {}


def test_one_that_has_failed_is_not_adopted(adoption: Adoption) -> None:
    leave(adoption, UpstreamIncomplete())
    gevent.sleep(0.02)
    assert adoption.find(tried(1)) is None


def test_one_that_has_just_been_given_up_is_not_adopted(adoption: Adoption) -> None:
    leave(adoption, LONG)
    (answer,) = adoption._left["name"]
    answer.wait_for_reader(0)  # its greenlet is killed in the next turn
    assert adoption.find(tried(1)) is None


def test_an_adopter_that_leaves_ends_it(adoption: Adoption) -> None:
    upstream = leave(adoption, A, LONG)
    adopted = adoption.find(tried(1))
    assert adopted
    lists = adopted.read()
    assert next(lists) == A
    lists.close()
    gevent.sleep(0.01)
    assert upstream.ended == 1


def test_one_that_is_adopted_and_never_read_is_ended_too(adoption: Adoption) -> None:
    upstream = leave(adoption, A, LONG)
    assert adoption.find(tried(1))
    gevent.sleep(0.1)
    assert upstream.ended == 1


# What has an Idempotency-Key


def test_a_running_answer_is_given_to_all_that_have_its_key(adoption: Adoption) -> None:
    assert adoption.find(named()) is None
    assert adoption.claim(named()) is None
    upstream, answer = record(adoption, A, 0.02, END, key=named())
    assert adoption.find(named()) is adoption.claim(named()) is answer
    assert [heard(answer), heard(answer)] == [[A, END]] * 2
    assert len(upstream.asked) == 1


def test_a_whole_answer_is_given_again_for_a_while(adoption: Adoption, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_SECONDS", 0.05)
    _, answer = record(adoption, A, END, key=named())
    assert heard(answer) == [A, END]
    gevent.sleep(0.01)
    assert heard(adoption.find(named())) == [A, END]
    gevent.sleep(0.1)
    assert adoption.find(named()) is None


def test_a_failure_is_not_kept(adoption: Adoption) -> None:
    _, answer = record(adoption, A, UpstreamIncomplete(), key=named())
    assert heard(answer) == [A, "UpstreamIncomplete"]
    assert adoption.find(named()) is None
    assert (adoption._named, len(adoption._kept), adoption._kept_bytes) == ({}, 0, 0)


@pytest.mark.parametrize(("limit", "most"), [("_MOST_KEPT", 2), ("_KEPT_BYTES", 2 * memory_bytes(A + END))])
def test_of_whole_answers_the_oldest_go_first(
    adoption: Adoption, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(module, limit, most + 200 if limit == "_KEPT_BYTES" else most)
    for name in "abc":
        _, answer = record(adoption, A, END, key=named(name))
        assert heard(answer) == [A, END]
        gevent.sleep(0.01)
    assert (len(adoption._named), adoption._kept_bytes) == (2, 2 * (memory_bytes(A) + memory_bytes(END)))
    assert [adoption.find(named(name)) is None for name in "abc"] == [True, False, False]


def test_a_newer_answer_of_the_same_name_is_not_forgotten_with_the_older(
    adoption: Adoption, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEPT_SECONDS", 0.05)
    _, older = record(adoption, A, END, key=named())
    assert heard(older) == [A, END]
    gevent.sleep(0.03)
    _, newer = record(adoption, B, END, key=named())
    assert heard(newer) == [B, END]
    gevent.sleep(0.03)
    assert adoption.find(named()) is newer


@pytest.mark.parametrize("look", ["find", "claim"])
def test_a_key_that_is_used_for_another_request_is_refused(adoption: Adoption, look: str) -> None:
    record(adoption, A, END, key=named())
    with pytest.raises(InvalidRequest) as raised:
        getattr(adoption, look)(named(body="another body"))
    assert raised.value.code == "idempotency_key_reused"


# Keys


def key(**fields: Any) -> RequestKey:
    given = {
        "path": "/chat/completions",
        "caller": "Bearer a",
        "body": b"{}",
        "effort": "",
        "idempotency_key": None,
        "retries": "1",
    }
    return request_key(**{**given, **fields})


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/completions"},
        {"caller": "Bearer b"},
        {"body": b"{ }"},
        {"effort": "low"},
        {"idempotency_key": "k"},
        {"idempotency_key": key().body},
    ],
    ids=["path", "caller", "body", "effort", "Idempotency-Key", "a key that is the body's digest"],
)
def test_requests_that_differ_have_other_names(other: dict[str, Any]) -> None:
    assert key(**other).name != key().name


def test_a_key_names_its_request_whatever_the_body_is() -> None:
    one, other = key(idempotency_key="k"), key(idempotency_key="k", body=b"{ }")
    assert one.name == other.name
    assert one.body != other.body
    assert [one.is_named, key().is_named] == [True, False]


@pytest.mark.parametrize(
    ("text", "retries"), [("0", 0), ("2", 2), ("", 0), ("-1", 0), ("x", 0), ("1.5", 0), ("²", 0), ("9" * 400, 0)]
)
def test_a_count_of_retries_that_is_none_is_zero(text: str, retries: int) -> None:
    assert key(retries=text).retries == retries
