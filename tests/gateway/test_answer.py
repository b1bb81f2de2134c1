"""What becomes of an answer whose client leaves before anything was sent to it: a retry adopts it, or it ends."""

import contextlib
import socket
from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.completion import Collector, Completion, CompletionChoice
from gpt_oss_proxy.chat.events import Event, Finish, ReasoningDelta, Started, TextDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text
from gpt_oss_proxy.errors import CircuitOpen, ShuttingDown, UpstreamFirstEventTimeout, UpstreamUnreachable
from gpt_oss_proxy.gateway.adoption import RequestKey
from gpt_oss_proxy.gateway.answer import Answer
from gpt_oss_proxy.gateway.attempts import Target
from gpt_oss_proxy.gateway.dispatch import Dispatcher
from gpt_oss_proxy.gateway.limits import ConcurrencyLimit
from gpt_oss_proxy.gateway.observe.access_log import Record
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.net.relay import ClientGone, TimeLimits
from gpt_oss_proxy.stores.peers import Peers
from gpt_oss_proxy.stores.shared_counters import SharedCounters
from tests.doubles import Characters, Scripted, gate, record, settle
from tests.typed import typed

LONG = 20.0
A: list[Event] = [TextDelta("a")]
END: list[Event] = [Finish("stop")]
FIRST_TRY = RequestKey("name", "body", is_named=False, retries=0)
RETRY = RequestKey("name", "body", is_named=False, retries=1)
NAMED = RequestKey("key", "body", is_named=True, retries=0)


def dispatcher(upstream: Scripted, *others: Scripted, failures: int = 0, idle: float = LONG) -> Dispatcher:
    """A gateway where the first upstream serves model-1 and the others are asked when it is not there."""
    targets = [Target(gate(other), "model-1") for other in others]
    return Dispatcher(
        Router([gate(upstream, failures=failures)], {"model-1": targets}),
        TimeLimits(idle, LONG, LONG),
        Characters(),
        places=ConcurrencyLimit(SharedCounters(), 100),
        peers=Peers(None),
        retries=0,
    )


def asking(**fields: Any) -> ChatRequest:
    return ChatRequest("model-1", (Message("user", (Text("Hi"),)),), **fields)


def text_of(found: Answer) -> str:
    return "".join(event.text for events in found for event in events if isinstance(event, TextDelta))


class Client:
    """A client's connection, which can be broken; `leaves` breaks it soon and waits for what comes of the request."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()

    def leaves(self, gate: Dispatcher, request: ChatRequest, key: RequestKey | None, after: float = 0.01) -> Record:
        noted = record()
        gevent.spawn_later(after, self._theirs.close)
        with self.ours, gevent.Timeout(2), pytest.raises(ClientGone):
            whole(gate.dispatch(request, noted, self.ours, key=key))
        return noted


def whole(found: Answer) -> Completion:
    collector = Collector()
    with contextlib.closing(found):
        found.collect(collector)
    return collector.completion()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [None, FIRST_TRY])
def test_what_an_sdk_s_client_left_before_its_status_goes_on_for_its_retry(
    key: RequestKey | None, stream: bool
) -> None:
    upstream = Scripted([Started("r")], 0.05, A, 0.02, END)
    gate = dispatcher(upstream)
    Client().leaves(gate, asking(stream=stream), key)
    noted = record()
    found = gate.dispatch(asking(stream=stream), noted, None, key=RETRY)
    assert whole(found).choices[0].text == "a"
    assert found.reference == "r"
    assert (noted.adopted, noted.upstream, len(upstream.asked)) == (key is not None, "scripted", 1 if key else 2)
    assert gate._running == {}


def test_a_retry_gets_what_was_collected_before_its_first_try_left() -> None:
    upstream = Scripted([Started("r")], [ReasoningDelta("Hm")], A, 0.05, [TextDelta("b")], END)
    gate = dispatcher(upstream)
    Client().leaves(gate, asking(), FIRST_TRY, after=0.03)
    found = gate.dispatch(asking(), record(), None, key=RETRY)
    assert whole(found) == Completion((CompletionChoice("ab", "Hm", (), "stop"),), Usage(9, 4, 2))
    assert (found.reference, len(upstream.asked)) == ("r", 1)


@pytest.mark.parametrize("n", [2, 3])
def test_a_retry_adopts_several_choices(n: int) -> None:
    upstream = Scripted(A, 0.05, [TextDelta("b")], END)
    gate = dispatcher(upstream)
    Client().leaves(gate, asking(n=n), FIRST_TRY, after=0.03)
    choices = whole(gate.dispatch(asking(n=n), record(), None, key=RETRY)).choices
    assert [choice.text for choice in choices] == ["ab"] * n
    assert len(upstream.asked) == n


def test_a_stream_that_has_begun_ends_with_its_client_and_is_asked_anew() -> None:
    upstream = Scripted(A, LONG)
    gate = dispatcher(upstream)
    Client().leaves(gate, asking(stream=True), FIRST_TRY)
    settle()
    assert upstream.ended == 1
    upstream.script = (A, END)
    noted = record()
    assert text_of(gate.dispatch(asking(stream=True), noted, None, key=RETRY)) == "a"
    assert (noted.adopted, len(upstream.asked)) == (False, 2)


def test_what_no_retry_adopts_is_ended_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_oss_proxy.gateway.adoption._FIRST_WINDOW_SECONDS", 0.03)
    upstream = Scripted([], LONG)
    gate = dispatcher(upstream)
    Client().leaves(gate, asking(), FIRST_TRY)
    settle()
    assert (upstream.ended, gate._running) == (0, {})
    gevent.sleep(0.05)
    assert upstream.ended == 1


def test_an_adopter_that_leaves_ends_the_call() -> None:
    upstream = Scripted([], LONG)
    gate = dispatcher(upstream)
    Client().leaves(gate, asking(), FIRST_TRY)
    Client().leaves(gate, asking(), RETRY)
    settle()
    assert (len(upstream.asked), upstream.ended) == (1, 1)


def test_a_failure_comes_to_the_adopter_and_counts_for_the_circuit() -> None:
    gate = dispatcher(upstream := Scripted(LONG), failures=1, idle=0.05)
    Client().leaves(gate, asking(), FIRST_TRY)
    with gevent.Timeout(2), pytest.raises(UpstreamFirstEventTimeout):
        gate.dispatch(asking(), record(), None, key=RETRY)
    assert len(upstream.asked) == 1
    with pytest.raises(CircuitOpen):
        gate.dispatch(asking(), record(), None)


@pytest.mark.parametrize("key", [FIRST_TRY, NAMED])
def test_an_adopted_answer_is_the_upstream_s_that_gave_it(key: RequestKey) -> None:
    first, second = Scripted(0.05, UpstreamUnreachable()), Scripted(A, END)
    first.name, second.name = "first", "second"
    gate = dispatcher(first, second)
    Client().leaves(gate, asking(**typed({"seed": 1})), key)
    noted = record()
    again = NAMED if key.is_named else RETRY
    found = gate.dispatch(asking(**typed({"seed": 1})), noted, None, key=again)
    assert (noted.adopted, noted.upstream, found.ignored) == (True, "second", ("sampling.seed",))
    assert whole(found).choices[0].text == "a"


def test_a_shutdown_ends_an_adopted_answer_too() -> None:
    gate = dispatcher(upstream := Scripted(0.05, A, LONG))
    Client().leaves(gate, asking(stream=True), FIRST_TRY)
    found = gate.dispatch(asking(stream=True), record(), None, key=RETRY)
    gate.drain(0.01)
    with gevent.Timeout(2), pytest.raises(ShuttingDown):
        list(found)
    found.close()
    settle()
    assert upstream.ended == 1


@pytest.mark.parametrize("leaves", [1, 2, 3])
def test_an_answer_with_an_idempotency_key_is_left_and_found_as_often_as_its_client_comes(leaves: int) -> None:
    gate = dispatcher(upstream := Scripted([], 0.2, A, END))
    for _ in range(leaves):
        Client().leaves(gate, asking(), NAMED)
    assert whole(gate.dispatch(asking(), record(), None, key=NAMED)).choices[0].text == "a"
    assert len(upstream.asked) == 1
