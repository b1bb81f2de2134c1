"""From a request to its events: routed, admitted, relayed, counted."""

import contextlib
import gc
import socket
import weakref
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from gpt_oss_proxy.chat.events import Choice, Counted, Event, Finish, ReasoningDelta, Started, TextDelta, Usage
from gpt_oss_proxy.chat.request import ChatRequest, Message, Text, ToolCall
from gpt_oss_proxy.errors import (
    CircuitOpen,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    ShuttingDown,
    TotalTimeout,
    UpstreamFirstEventTimeout,
    UpstreamIncomplete,
    UpstreamUnreachable,
)
from gpt_oss_proxy.gateway import dispatch as module
from gpt_oss_proxy.gateway.adoption import RequestKey
from gpt_oss_proxy.gateway.answer import Answer
from gpt_oss_proxy.gateway.attempts import Target
from gpt_oss_proxy.gateway.dispatch import Dispatcher, without_effect
from gpt_oss_proxy.gateway.limits import ConcurrencyLimit
from gpt_oss_proxy.gateway.router import Router
from gpt_oss_proxy.net.client_watch import ClientWatch
from gpt_oss_proxy.net.relay import ClientGone, TimeLimits
from gpt_oss_proxy.net.server.client_socket import ClientSocket
from gpt_oss_proxy.stores.peers import Peers
from gpt_oss_proxy.stores.shared_counters import SharedCounters
from tests.doubles import Characters, Other, Scripted, Step, collect, gate, record, settle
from tests.typed import typed

LONG = 20.0
A: list[Event] = [TextDelta("a")]
END: list[Event] = [Finish("stop")]
COUNTED = [Usage(2 + 4 + 3, 1), *END]


def dispatcher(*upstreams: Scripted, idle: float = LONG, keepalive: float = LONG) -> Dispatcher:
    router = Router([gate(upstream) for upstream in upstreams], {})
    return Dispatcher(
        router,
        TimeLimits(idle, LONG, keepalive),
        Characters(),
        places=ConcurrencyLimit(SharedCounters(), 100),
        peers=Peers(None),
        retries=0,
    )


def asking(**fields: Any) -> ChatRequest:
    return ChatRequest("model-1", (Message("user", (Text("Hi"),)),), **fields)


def dispatch(gate: Dispatcher, request: ChatRequest, client: socket.socket | None) -> Answer:
    return gate.dispatch(request, record(), client)


def answer(*script: Step, client: socket.socket | None = None, **fields: Any) -> Answer:
    return dispatch(dispatcher(Scripted(*script)), asking(**fields), client)


def text_of(found: Answer) -> str:
    return "".join(event.text for events in found for event in events if isinstance(event, TextDelta))


def test_an_answer_is_its_reference_and_its_lists() -> None:
    found = answer([Started("thread-1"), *A], END, stream=True)
    assert (found.ignored, found.reference) == ((), "thread-1")
    assert list(found) == [A, END]


def test_a_list_that_only_tells_the_beginning_is_not_waited_with() -> None:
    found = answer([Started("thread-1")], [], A, END, stream=True)
    assert found.reference == "thread-1"
    assert list(found) == [A, END]


def test_an_upstream_without_ids_has_an_empty_reference() -> None:
    assert answer(A, END).reference == ""


def test_the_request_reaches_the_upstream_as_it_is() -> None:
    upstream = Scripted(END)
    request = asking(stream=True, **typed({"user": "ada"}))
    list(dispatch(dispatcher(upstream), request, None))
    assert upstream.asked == [request]


@pytest.mark.parametrize(
    "fields", [{"stream": False}, {"stream": True, "wants_usage": True}], ids=["whole", "asked for"]
)
def test_tokens_are_counted_where_usage_is_told(fields: dict[str, bool]) -> None:
    assert list(answer(A, END, **fields)) == [A, COUNTED]


def test_tokens_are_not_counted_for_nobody() -> None:
    assert list(answer(A, END, stream=True)) == [A, END]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("before", [[], [[]], [[Started("x")]]], ids=["nothing", "a sign of life", "an id"])
def test_a_failure_before_the_first_output_is_raised_by_dispatch(stream: bool, before: list[Step]) -> None:
    with pytest.raises(RateLimited):
        answer(*before, RateLimited(), stream=stream)


def test_a_failure_after_the_first_output_is_raised_by_the_answer() -> None:
    found = iter(answer(A, UpstreamIncomplete(), stream=True))
    assert next(found) == A
    with pytest.raises(UpstreamIncomplete):
        next(found)


def test_a_keepalive_commits_a_stream() -> None:
    found = iter(dispatch(dispatcher(Scripted(0.05, RateLimited()), keepalive=0.02), asking(stream=True), None))
    assert next(found) == []
    with pytest.raises(RateLimited):
        list(found)


def test_a_keepalive_does_not_commit_a_whole_answer() -> None:
    asked = dispatch(dispatcher(Scripted(0.05, A, 0.05, END), keepalive=0.02), asking(), None)
    assert [events for events in asked if events] == [A, COUNTED]
    with pytest.raises(RateLimited):
        dispatch(dispatcher(Scripted(0.05, RateLimited()), keepalive=0.02), asking(), None)


def test_silence_is_raised_by_dispatch() -> None:
    with pytest.raises(UpstreamFirstEventTimeout):
        dispatch(dispatcher(Scripted(LONG), idle=0.02), asking(), None)


@pytest.mark.parametrize("read", [False, True])
def test_an_answer_that_is_closed_ends_its_call_whether_it_was_read_or_not(read: bool) -> None:
    upstream = Scripted(A, A, LONG)
    found = dispatch(dispatcher(upstream), asking(stream=True), None)
    if read:
        lists = iter(found)
        assert [next(lists), next(lists)] == [A, A]
    found.close()
    found.close()
    settle()
    assert upstream.ended == 1


def test_a_client_that_leaves_while_the_upstream_is_silent_ends_the_call() -> None:
    ours, clients = socket.socketpair()
    upstream = Scripted(LONG)
    gevent.spawn_later(0.02, clients.close)
    with ours, gevent.Timeout(1), pytest.raises(ClientGone):
        dispatch(dispatcher(upstream), asking(), ours)
    settle()
    assert upstream.ended == 1


def test_a_client_that_leaves_in_the_middle_ends_the_call() -> None:
    ours, clients = socket.socketpair()
    upstream = Scripted(A, LONG)
    found = iter(dispatch(dispatcher(upstream), asking(stream=True), ours))
    assert next(found) == A
    clients.close()
    with ours, gevent.Timeout(1), pytest.raises(ClientGone):
        next(found)
    settle()
    assert upstream.ended == 1


class Watched(ClientWatch):
    """Tells how many are watched."""

    now = 0

    def __init__(self, client: socket.socket, gone: Callable[[], None]) -> None:
        super().__init__(client, gone)
        type(self).now += 1

    def close(self) -> None:
        super().close()
        type(self).now -= 1


@pytest.mark.parametrize("script", [[A, END], [A, UpstreamIncomplete()], [A, LONG]], ids=["whole", "failed", "left"])
def test_a_client_is_watched_until_its_answer_ends(monkeypatch: pytest.MonkeyPatch, script: list[Step]) -> None:
    monkeypatch.setattr(module, "ClientWatch", Watched)
    ours, clients = socket.socketpair()
    with ours, clients:
        found = answer(*script, client=ours, stream=True)
        assert next(iter(found)) == A
        assert Watched.now == 1
        found.close()
        assert Watched.now == 0


def test_a_connection_that_is_already_closed_asks_nobody() -> None:
    ours, clients = socket.socketpair()
    ours.close()
    clients.close()
    upstream = Scripted(A, LONG)
    with pytest.raises((ClientGone, OSError, ValueError)):
        dispatch(dispatcher(upstream), asking(), ours)
    settle()
    assert len(upstream.asked) == upstream.ended


def test_while_draining_answers_finish_and_what_still_arrives_is_served() -> None:
    upstream = Scripted(A, 0.03, END)
    gate = dispatcher(upstream)
    running = dispatch(gate, asking(stream=True), None)
    gate.drain(LONG)
    assert gate.draining
    with contextlib.closing(dispatch(gate, asking(stream=True), None)) as late:
        assert list(late) == [A, END]
    assert len(gate._running) == 1
    assert list(running) == [A, END]
    running.close()
    assert gate._running == {}


def test_what_still_runs_at_the_end_of_the_drain_ends_with_an_honest_error() -> None:
    upstream = Scripted(A, LONG)
    gate = dispatcher(upstream)
    first, second = (iter(dispatch(gate, asking(stream=True), None)) for _ in range(2))
    assert next(first) == next(second) == A
    gate.drain(0.02)
    for running in (first, second):
        with gevent.Timeout(1), pytest.raises(ShuttingDown) as raised:
            next(running)
        assert raised.value.message == "The gateway is shutting down and had to cut this answer. Ask again."
    settle()
    assert upstream.ended == 2
    with pytest.raises(ShuttingDown):
        dispatch(gate, asking(), None)


FIRST_TRY = RequestKey("name", "body", is_named=False, retries=0)
NAMED = RequestKey("key", "body", is_named=True, retries=0)


@pytest.mark.parametrize("key", [None, FIRST_TRY], ids=["a client", "an SDK"])
@pytest.mark.parametrize("fields", [{"stream": True}, {"stream": True, "wants_usage": True}, {"stream": False}])
def test_text_takes_the_shortcut_to_a_client_of_our_server(key: RequestKey | None, fields: dict[str, bool]) -> None:
    theirs, ours = socket.socketpair()
    client = ClientSocket.of(ours, 10)
    upstream = Scripted(A, 0.01, [TextDelta("b")], [TextDelta("c")], 0.01, END)
    gc.collect()
    gc.disable()
    try:
        found = dispatcher(upstream).dispatch(asking(**fields), record(), client, key=key)
        told: list[Event] = []
        found.push(told.extend)
        found.close()
        alive = weakref.ref(found._relay)
        del found
        gevent.sleep(0.01)
        assert alive() is None  # nothing waits for the garbage collector
    finally:
        gc.enable()
        client.close()
        theirs.close()
    counted = [Usage(2 + 4 + 3, 3)] if fields != {"stream": True} else []
    assert told == [*A, TextDelta("b"), TextDelta("c"), *counted, *END]
    assert upstream.shortened == ["b", "c"]


@pytest.mark.parametrize("key", [None, FIRST_TRY, NAMED], ids=["a client", "an SDK", "an Idempotency-Key"])
@pytest.mark.parametrize("options", [{}, {"stop": "x"}], ids=["plain", "emulated"])
@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_that_is_over_waits_for_no_garbage_collector(
    key: RequestKey | None, options: dict[str, Any], fails: bool
) -> None:
    upstream = Scripted(A, 0.01, RateLimited() if fails else END)
    gate = dispatcher(upstream)
    gc.collect()
    gc.disable()
    try:
        found = gate.dispatch(asking(stream=True, **typed(options)), record(), None, key=key)
        alive = [weakref.ref(found._relay), *map(weakref.ref, gate._running.values())]
        with contextlib.suppress(RateLimited):
            found.push(lambda _events: None)
        found.close()
        del found
        upstream.script = ()  # the error has frames
        gevent.sleep(0.01)
        assert [thing() for thing in alive] == [None, None]
    finally:
        gc.enable()


def test_several_choices_and_the_clients_of_other_servers_have_no_shortcut() -> None:
    theirs, ours = socket.socketpair()
    with theirs, ours:
        client = ClientSocket.of(ours, 10)
        for request, its_client in ((asking(stream=True, n=2), client), (asking(stream=True), theirs)):
            upstream = Scripted(A, A, END)
            found = dispatch(dispatcher(upstream), request, its_client)
            found.push(lambda _events: None)
            found.close()
            assert upstream.shortened == []
        client.close()


def test_an_unknown_model_asks_nobody() -> None:
    upstream = Scripted(END, models=["other"])
    with pytest.raises(ModelNotFound):
        dispatch(dispatcher(upstream), asking(), None)
    assert upstream.asked == []


def admitted(
    *, native_options: frozenset[str] | None = frozenset(), effort: str | None = None, **options: object
) -> Any:
    return without_effect(asking(effort=effort, **typed(options)), Scripted(native_options=native_options))


JSON_OBJECT = {"type": "json_object"}
PASSED = ("passthrough.top_logprobs", "passthrough.user", "passthrough.metadata")


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        ({}, ()),
        ({"temperature": 0, "seed": 1, "new": None}, ("sampling.temperature", "sampling.seed", "passthrough.new")),
        (
            {"top_logprobs": 0, "user": "", "metadata": {}},
            tuple(f"passthrough.{name}" for name in ("top_logprobs", "user", "metadata")),
        ),
        ({"store": True, "parallel_tool_calls": True}, ("passthrough.store",)),
        ({"parallel_tool_calls": False}, ()),
        ({"stop": "a", "max_tokens": 1, "max_completion_tokens": 1, "tools": [{}], "tool_choice": "required"}, ()),
        ({"response_format": {"type": "json_object"}}, ()),
    ],
)
def test_what_has_no_effect_is_named(options: dict[str, object], ignored: tuple[str, ...]) -> None:
    assert admitted(**options) == ignored


@pytest.mark.parametrize(
    ("name", "value"),
    [("tools", [{"type": "function"}]), ("tool_choice", "required"), ("response_format", {"type": "xml"})],
)
def test_what_cannot_be_done_is_refused_and_nobody_is_asked(name: str, value: object) -> None:
    upstream = Scripted(A, END)
    with pytest.raises(InvalidRequest) as raised:
        dispatch(dispatcher(upstream), asking(**typed({name: value})), None)
    assert str(raised.value.param).startswith(name)
    assert upstream.asked == []


def test_what_the_upstream_honours_is_neither_refused_nor_named() -> None:
    native_options = frozenset({"stop", "sampling.temperature", "effort"})
    assert admitted(native_options=native_options, effort="low", stop="a", temperature=0, seed=1) == ("sampling.seed",)
    assert admitted(native_options=None, effort="low", stop="a", max_tokens=3, seed=1) == ()


def test_what_the_upstream_does_not_honour_is_done_for_it() -> None:
    upstream = Scripted([TextDelta("abc")], END)
    assert text_of(dispatch(dispatcher(upstream), asking(**typed({"stop": "b"})), None)) == "a"
    upstream = Scripted([TextDelta("abc")], END, native_options=None)
    assert text_of(dispatch(dispatcher(upstream), asking(**typed({"stop": "b"})), None)) == "abc"


def test_several_choices_are_several_calls() -> None:
    upstream = Scripted([Started("x"), *A], END)
    found = list(dispatch(dispatcher(upstream), asking(n=3), None))
    assert sorted(event.index for events in found for event in events if isinstance(event, Choice)) == [0, 1, 2]
    one = COUNTED[0]
    assert isinstance(one, Usage)
    assert found[-1] == [Usage(3 * one.prompt_tokens, 3), Finish("stop", ("stop", "stop"))]
    assert len(upstream.asked) == 3


@pytest.mark.parametrize("script", [UpstreamUnreachable(), LONG])
def test_a_request_with_many_choices_counts_once_for_the_circuit(script: Step) -> None:
    gate = gate_of(Scripted(script), failures=2, retries=0, idle=0.3 if script == LONG else LONG)
    further = tuple((Message("user", (Text("Ho"),)),) for _ in range(4))
    for error in (UpstreamUnreachable, UpstreamUnreachable, CircuitOpen):
        expected = UpstreamFirstEventTimeout if script == LONG and error is UpstreamUnreachable else error
        with pytest.raises(expected):
            dispatch(gate, asking(n=8, further_prompts=further), None)


def test_further_prompts_are_asked_each() -> None:
    upstream = Scripted(A, END)
    further = ((Message("user", (Text("Ho"),)),),)
    found = list(dispatch(dispatcher(upstream), asking(n=2, further_prompts=further, stream=True), None))
    assert found[-1] == [Finish("stop", ("stop", "stop", "stop"))]
    assert [request.messages[0].text for request in upstream.asked] == ["Hi", "Hi", "Ho", "Ho"]


@pytest.mark.parametrize(
    ("options", "text"), [({"stop": "b"}, "a"), ({"max_tokens": 2}, "ab"), ({"response_format": JSON_OBJECT}, "{}")]
)
def test_what_is_emulated_is_emulated_for_each_prompt(options: dict[str, object], text: str) -> None:
    further = ((Message("user", (Text("Ho"),)),),)
    upstream = Scripted([TextDelta("abc" if text != "{}" else "Here: {} done")], END)
    found = collect(dispatch(dispatcher(upstream), asking(further_prompts=further, **typed(options)), None))
    assert [choice.text for choice in found.choices] == [text, text]
    assert len({len(request.messages) for request in upstream.asked}) == 1  # each has its instructions


def test_the_prompt_is_counted_first_where_a_client_api_asks_for_that() -> None:
    request = asking(stream=True, counts_first=True)
    events = [event for events in dispatch(dispatcher(Scripted(A, END)), request, None) for event in events]
    assert events[0] == Counted(dispatcher(Scripted()).count_prompt(request))


def test_a_prompt_is_counted_as_its_upstream_gets_it() -> None:
    request = asking(**typed({"tools": [{"type": "function", "function": {"name": "f"}}]}))
    plain = dispatcher(Scripted()).count_prompt(asking())
    natively = dispatcher(Scripted(native_options=None)).count_prompt(request)
    emulated = dispatcher(Scripted()).count_prompt(request)
    assert plain < natively < emulated
    with pytest.raises(ModelNotFound):
        dispatcher(Scripted()).count_prompt(ChatRequest("unknown", ()))


def test_an_effort_without_effect_is_named() -> None:
    assert admitted(effort="low", seed=1) == ("sampling.seed", "effort")


def test_further_fields_of_messages_are_named_once() -> None:
    turns = (
        Message("user", (Text("a"),), extra={"name": "Ada", "weight": 1}),
        Message("assistant", (Text("b"),), extra={"name": "Bot"}),
    )
    request = ChatRequest("model-1", turns, **typed({"seed": 1}))
    assert without_effect(request, Scripted()) == ("sampling.seed", "messages.name", "messages.weight")


@pytest.mark.parametrize("stream", [False, True])
def test_usage_that_the_upstream_reports_is_not_counted_again(stream: bool) -> None:
    reported: list[Event] = [ReasoningDelta("b"), Usage(1, 2), *END]
    assert list(answer(A, reported, stream=stream, wants_usage=True)) == [A, reported]


def test_what_dispatch_raises_is_a_gateway_error_even_for_a_bug() -> None:
    with pytest.raises(GatewayError) as raised:
        answer(RuntimeError("secret"))
    assert raised.value.code == "internal_error"
    assert "secret" not in raised.value.message


def test_further_fields_inside_messages_are_named_as_ignored() -> None:
    message = Message(
        "assistant",
        (Text("a", {"cache_control": {}}),),
        (ToolCall("c1", "f", "{}", {"cache": 1}),),
        extra={"name": "ada"},
    )
    ignored = without_effect(ChatRequest("model-1", (message, message)), Scripted())
    assert ignored == ("messages.content.cache_control", "messages.name", "messages.tool_calls.cache")


# Retries, failover, circuits, places


def gate_of(*upstreams: Scripted, failures: int = 0, retries: int = 2, idle: float = LONG) -> Dispatcher:
    """A gateway where the first upstream serves model-1 and the others are asked when it is not there."""
    first, *others = (gate(upstream, failures=failures) for upstream in upstreams)
    router = Router([first], {"model-1": [Target(other, "model-2") for other in others]})
    return Dispatcher(
        router,
        TimeLimits(idle, LONG, LONG),
        Characters(),
        places=ConcurrencyLimit(SharedCounters(), 100),
        peers=Peers(None),
        retries=retries,
    )


@pytest.mark.parametrize("stream", [False, True])
def test_what_an_upstream_has_not_taken_another_answers(stream: bool) -> None:
    first, second = Scripted(UpstreamUnreachable()), Scripted(A, END)
    found = dispatch(gate_of(first, second), asking(stream=stream), None)
    assert [event for events in found for event in events if isinstance(event, TextDelta)] == A
    assert [request.model for request in second.asked] == ["model-2"]


def test_the_fields_without_effect_are_those_of_the_upstream_that_answers() -> None:
    first, second = Scripted(UpstreamUnreachable()), Scripted(A, END, native_options=frozenset({"sampling.seed"}))
    request = asking(**typed({"seed": 1, "user": "ada"}))
    assert dispatch(gate_of(first, second), request, None).ignored == ("passthrough.user",)
    assert dispatch(gate_of(Scripted(A, END), second), request, None).ignored == ("sampling.seed", "passthrough.user")


def test_an_upstream_that_cannot_do_what_is_asked_is_no_way_out() -> None:
    first, second = Scripted(UpstreamUnreachable(), native_options=None), Scripted(A, END)
    custom = {"tools": [{"type": "custom", "custom": {"name": "x"}}]}
    with pytest.raises(UpstreamUnreachable):
        dispatch(gate_of(first, second, retries=0), asking(**typed(custom)), None)
    assert second.asked == []
    with pytest.raises(InvalidRequest):
        dispatch(gate_of(second, first), asking(**typed(custom)), None)


def test_silence_opens_the_circuit_and_then_nobody_waits() -> None:
    gate = gate_of(upstream := Scripted(LONG), failures=2, idle=0.02)
    for _ in range(2):
        with pytest.raises(UpstreamFirstEventTimeout):
            dispatch(gate, asking(), None)
    with pytest.raises(CircuitOpen):
        dispatch(gate, asking(), None)
    assert len(upstream.asked) == 2


def test_the_time_limit_holds_over_all_tries_and_keepalives_go_on_meanwhile() -> None:
    gate = gate_of(Scripted(UpstreamUnreachable()), idle=0.05)
    with gevent.Timeout(1), pytest.raises(UpstreamUnreachable) as raised:  # a pause would not end in time
        dispatch(gate, asking(), None)
    assert raised.value.should_retry is None


def test_a_client_that_leaves_between_two_tries_is_not_asked_for_again() -> None:
    ours, clients = socket.socketpair()
    upstream = Scripted(UpstreamUnreachable())
    gevent.spawn_later(0.02, clients.close)
    with ours, gevent.Timeout(1), pytest.raises(ClientGone):
        dispatch(gate_of(upstream), asking(), ours)
    gevent.sleep(0.3)
    assert len(upstream.asked) == 1


def test_only_a_few_retry_at_the_same_time() -> None:
    gate = gate_of(upstream := Scripted(UpstreamUnreachable()), retries=1)

    def ask() -> bool | None:
        try:
            dispatch(gate, asking(), None)
        except UpstreamUnreachable as error:
            return error.should_retry
        raise AssertionError

    asked = [gevent.spawn(ask) for _ in range(20)]
    gevent.joinall(asked)
    assert [greenlet.value for greenlet in asked].count(False) == 4  # a fifth of twenty
    assert len(upstream.asked) == 24


def test_a_call_whose_client_reads_nothing_ends_with_the_total_time() -> None:
    upstream = Scripted(*[A] * 100, LONG)
    dispatcher = Dispatcher(
        Router([gate(upstream)], {}),
        TimeLimits(LONG, 0.05, LONG),
        Characters(),
        places=ConcurrencyLimit(SharedCounters(), 1),
        peers=Peers(None),
        retries=0,
    )
    found = dispatch(dispatcher, asking(stream=True), None)
    gevent.sleep(0.1)  # nobody iterates: the handler waits for its write to end
    assert upstream.ended == 1
    with pytest.raises(TotalTimeout):
        list(found)


def test_a_long_text_is_counted_in_pieces_between_which_others_run() -> None:
    long = ChatRequest("model-1", (Message("user", (Text("x" * 1_000_000),)),))
    with Other() as other:
        *_, last = dispatch(dispatcher(Scripted(A, END)), long, None)
    assert last[0] == Usage(1_000_000 + 4 + 3, 1)
    assert other.turns >= 7


def test_a_call_ends_whatever_the_end_of_its_watch_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    close = ClientWatch.close

    def fail(watch: ClientWatch) -> None:
        close(watch)
        raise LookupError("a bug")

    upstream = Scripted(A, LONG)
    ours, clients = socket.socketpair()
    with ours, clients:
        found = dispatch(dispatcher(upstream), asking(stream=True), ours)
        with monkeypatch.context() as patch:
            patch.setattr(ClientWatch, "close", fail)
            with pytest.raises(LookupError):
                found.close()
    settle()
    assert upstream.ended == 1
