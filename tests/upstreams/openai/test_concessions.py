"""What a server refuses is asked for again without it, and remembered; what the client asked for is not given up."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.errors import UpstreamUnreachable
from gpt_oss_proxy.upstreams.openai import concessions as module
from gpt_oss_proxy.upstreams.openai.concessions import Concessions, Wire
from gpt_oss_proxy.upstreams.status_error import Said, StatusError

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USER = {"role": "user", "content": "Hi"}


def body(*messages: Wire, model: str = "m", **fields: Any) -> Wire:
    return {"model": model, "messages": list(messages or (USER,)), **fields}


def asking(effort: str | None, model: str = "m") -> Wire:
    return body(model=model, **({"reasoning_effort": effort} if effort else {}))


def refusal(text: str = "", param: str = "", status: int = 400) -> StatusError:
    return StatusError(status, Said(text, param=param))


class Server:
    """Answers, or refuses with what `refuses` returns. `asked` are the bodies that it was sent."""

    def __init__(self, refuses: Callable[[Wire], StatusError | str | None] = lambda _: None) -> None:
        self.refuses = refuses
        self.asked: list[Wire] = []

    def send(self, wire: Wire) -> Wire:
        self.asked.append(wire)
        refused = self.refuses(wire)
        if refused:
            raise refusal(refused) if isinstance(refused, str) else refused
        return wire

    def since(self) -> list[Wire]:
        """Return what was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked


class Efforts(Server):
    """Takes some efforts, and refuses the others as servers do."""

    def __init__(self, *taken: str | None) -> None:
        super().__init__(self._refuse)
        self.taken = taken

    def _refuse(self, wire: Wire) -> str | None:
        effort = wire.get("reasoning_effort")
        return None if effort in self.taken else f"reasoning_effort: no {effort} here"

    def efforts(self) -> list[str | None]:
        """Return the efforts that were asked for since the last time."""
        return [wire.get("reasoning_effort") for wire in self.since()]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that stands still until `now` is moved."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    return clock


# Efforts


@pytest.mark.parametrize(
    ("asked", "taken", "sent"),
    [
        ("max", ["max"], ["max"]),
        ("max", ["xhigh", "high"], ["max", "xhigh"]),
        ("max", ["low", "high"], ["max", "xhigh", "high"]),
        ("xhigh", ["xhigh"], ["xhigh"]),
        ("xhigh", ["max", "high"], ["xhigh", "high"]),
        (None, [None], [None]),
        *((known, [known], [known]) for known in ("none", "minimal", "low", "medium", "high")),
    ],
)
def test_the_next_lower_effort_is_asked_for_until_one_is_taken(
    asked: str | None, taken: list[str | None], sent: list[str | None]
) -> None:
    server = Efforts(*taken)
    assert Concessions().send(asking(asked), server.send) == asking(sent[-1])
    assert server.efforts() == sent


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("max", ["max", "xhigh", "high"]),
        ("xhigh", ["xhigh", "high"]),
        *((other, [other]) for other in ("none", "minimal", "low", "medium", "high")),
    ],
)
def test_if_all_are_refused_the_client_gets_the_refusal_of_what_it_asked_for(asked: str, sent: list[str]) -> None:
    server, concessions = Efforts(), Concessions()
    for _ in range(2):
        with pytest.raises(StatusError, match="400") as raised:
            concessions.send(asking(asked), server.send)
        assert raised.value.text == f"reasoning_effort: no {asked} here"
        assert server.efforts() == sent


def test_the_refusal_of_what_the_client_did_not_ask_for_is_not_the_one_that_it_gets() -> None:
    server = Server(lambda wire: "no field stream_options" if "stream_options" in wire else "reasoning effort: no")
    with pytest.raises(StatusError) as raised:
        Concessions().send({**asking("high"), "stream_options": {}}, server.send)
    assert raised.value.text == "reasoning effort: no"


def test_a_server_that_takes_max_but_not_xhigh_keeps_its_max() -> None:
    server, concessions = Efforts("max", "high"), Concessions()
    for _ in range(2):
        concessions.send(asking("xhigh"), server.send)
        concessions.send(asking("max"), server.send)
    assert server.efforts() == ["xhigh", "high", "max", "high", "max"]


def test_a_server_that_takes_another_now_is_asked_for_all_again() -> None:
    server, concessions = Efforts("high"), Concessions()
    concessions.send(asking("max"), server.send)
    server.taken = ("max",)
    server.since()
    concessions.send(asking("max"), server.send)
    assert server.efforts() == ["high", "max"]
    concessions.send(asking("max"), server.send)
    assert server.efforts() == ["max"]
    server.taken = ()
    with pytest.raises(StatusError, match="400"):
        concessions.send(asking("high"), server.send)
    assert server.efforts() == ["high"]


@pytest.mark.parametrize("status", [400, 422, 501])
@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("Unsupported value.", "reasoning_effort"),
        ("Unsupported value.", "reasoning.effort"),
        ("Unsupported value: 'max' is not supported with the 'm' model.", "reasoning"),
        ("reasoning_effort: unknown variant `max`, expected one of `high`, `low`", ""),
        ("1 validation error: {'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low'\"}", ""),
        ('invalid reasoning value: "xhigh" (must be "high", "medium", "low", "max", or "none")', ""),
        ('invalid think value: "max" (must be "high", "medium", "low", true, or false)', ""),
        ("Reasoning effort 'max' is not supported by this model", ""),
        ("Model m does not support parameter reasoningEffort.", ""),
    ],
)
def test_servers_name_the_effort_in_many_ways(text: str, param: str, status: int) -> None:
    server = Server(lambda wire: refusal(text, param, status) if wire["reasoning_effort"] == "xhigh" else None)
    assert Concessions().send(asking("xhigh"), server.send) == asking("high")


@pytest.mark.parametrize(
    ("status", "text", "param"),
    [
        (400, "", ""),
        (400, "This model's maximum context length is 8192 tokens.", ""),
        (400, "Invalid value for reasoning_effort's neighbour", "temperature"),
        (400, "The prompt says: make an effort", "messages[0].content"),
        (400, "The prompt says: make an effort", ""),
        (400, "reasoning " * 6000 + "think" * 1000, ""),
        (404, "no reasoning_effort here", "reasoning_effort"),
        (429, "reasoning_effort max is limited", ""),
        (500, "reasoning_effort", "reasoning_effort"),
    ],
)
def test_other_refusals_are_about_something_else(status: int, text: str, param: str) -> None:
    server = Server(lambda _: refusal(text, param, status))
    with pytest.raises(StatusError):
        Concessions().send(asking("max"), server.send)
    assert len(server.asked) == 1


# What the gateway adds, and what comes back from answers


def assistant(**fields: Any) -> Wire:
    return {"role": "assistant", "content": "Hello", **fields}


@pytest.mark.parametrize("status", [400, 422, 501])
@pytest.mark.parametrize(
    ("text", "sent", "left"),
    [
        *((text, body(stream=True, stream_options={"include_usage": True}), body(stream=True))
          for text in ("no field stream_options here.", "Unknown parameter: include_usage", "streamOptions: extra")),
        ("streaming is not supported", body(stream=True, stream_options={}), body(stream=False)),
        ("stream=true is not supported by this model", body(stream=True), body(stream=False)),
        ("'developer' is not one of ['system', 'user']",
         body({"role": "developer", "content": "x"}, USER), body({"role": "system", "content": "x"}, USER)),
        ("property 'annotations' is unsupported",
         body(assistant(annotations=[1]), USER), body(assistant(), USER)),
        ("messages.0.reasoning_content: Extra inputs are not permitted",
         body(assistant(reasoning_content="hm", reasoning="hm")), body(assistant(reasoning="hm"))),
        ("unknown field extra_content", body(assistant(tool_calls=[{**CALL, "extra_content": 1}])),
         body(assistant(tool_calls=[CALL]))),
        ("unknown field index", body(assistant(tool_calls=[{**CALL, "index": 0}], index=1)),
         body(assistant(tool_calls=[CALL]))),
        ("unknown field name", body(assistant(name="A", tool_calls=[{**CALL, "name": "f"}])),
         body(assistant(name="A", tool_calls=[CALL]))),
        ("unknown field content", body(assistant(tool_calls=[{**CALL, "content": "f"}])),
         body(assistant(tool_calls=[CALL]))),
        ("unknown field role", body(assistant(tool_calls=[{**CALL, "role": "f"}])), body(assistant(tool_calls=[CALL]))),
        ("unknown field id", body(assistant(id="m1", tool_calls=[CALL])), body(assistant(tool_calls=[CALL]))),
    ],
)  # fmt: skip
def test_what_is_refused_is_left_out(text: str, sent: Wire, left: Wire, status: int) -> None:
    server, concessions = Server(lambda wire: refusal(text, status=status) if wire != left else None), Concessions()
    for _ in range(2):
        assert concessions.send(sent, server.send) == left
    assert server.asked == [sent, left, left]


@pytest.mark.parametrize(
    ("param", "sent", "left"),
    [("stream_options", body(stream_options={}), body()), ("audio", body(assistant(audio=1)), body(assistant()))],
)
def test_the_field_that_a_refusal_blames_is_left_out(param: str, sent: Wire, left: Wire) -> None:
    server = Server(lambda wire: refusal("Invalid.", param) if wire != left else None)
    assert Concessions().send(sent, server.send) == left


def test_all_fields_that_a_refusal_names_are_left_out_together() -> None:
    server = Server(lambda wire: "no annotations, no audio" if "annotations" in str(wire) else None)
    assert Concessions().send(body(assistant(annotations=[1], audio=1, x=1)), server.send) == body(assistant(x=1))
    assert len(server.asked) == 2


def test_one_thing_after_the_other_is_left_out() -> None:
    sent = body({"role": "developer", "content": "x"}, assistant(annotations=[1]), stream=True, stream_options={})

    def refuse(wire: Wire) -> str | None:
        for name in ("stream_options", "annotations", "developer"):
            if name in str(wire):
                return f"unknown role or field: {name}"
        return "stream is not supported" if wire["stream"] else None

    server, concessions = Server(refuse), Concessions()
    left = body({"role": "system", "content": "x"}, assistant(), stream=False)
    assert concessions.send(sent, server.send) == left
    assert len(server.since()) == 5
    assert concessions.send(sent, server.send) == left
    assert server.since() == [left]


def test_the_bodies_of_requests_stay_as_they_are() -> None:
    sent = body(assistant(annotations=[1], tool_calls=[{**CALL, "index": 0}]), stream=True)
    before = str(sent)
    server = Server(lambda wire: "annotations, index: unsupported; stream is unsupported" if wire["stream"] else None)
    Concessions().send(sent, server.send)
    assert str(sent) == before


@pytest.mark.parametrize(
    "sent",
    [
        body({"role": "user", "content": "x", "annotations": [1]}),
        body({"role": "tool", "content": "x", "annotations": [1]}),
        body(annotations=[1]),
        body(assistant()),
        body(stream=False),
    ],
)
def test_what_the_client_asks_for_is_not_left_out(sent: Wire) -> None:
    server = Server(lambda _: "no annotations, role, content, messages, model, stream")
    with pytest.raises(StatusError):
        Concessions().send(sent, server.send)
    assert server.asked == [sent]


@pytest.mark.parametrize("error", [refusal("too long"), refusal("stream", status=429), UpstreamUnreachable()])
def test_what_else_goes_wrong_is_raised_as_it_is_and_nothing_is_remembered(error: Exception) -> None:
    concessions = Concessions()
    sent = body(stream=True, stream_options={})

    def send(wire: Wire) -> None:
        raise refusal("no stream_options") if "stream_options" in wire else error

    with pytest.raises(type(error)) as raised:
        concessions.send(sent, send)
    assert raised.value is error
    assert concessions.send(sent, Server().send) == sent


def test_what_goes_wrong_behind_a_lower_effort_is_not_hidden() -> None:
    server = Server(lambda wire: "reasoning effort" if wire["reasoning_effort"] == "max" else "too long")
    with pytest.raises(StatusError) as raised:
        Concessions().send(asking("max"), server.send)
    assert (raised.value.text, len(server.asked)) == ("too long", 2)


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_only_a_refusal_is_asked_again(status: int) -> None:
    server, concessions = Efforts("high"), Concessions()
    concessions.send(asking("xhigh"), server.send)
    server.asked.clear()
    server.refuses = lambda _: refusal("stream_options, reasoning_effort, developer, stream", status=status)
    for sent in (asking("xhigh"), body({"role": "developer", "content": "x"}, stream=True, stream_options={})):
        with pytest.raises(StatusError):
            concessions.send(sent, server.send)
    assert len(server.asked) == 2


# What is said beforehand


@pytest.mark.parametrize(
    ("omitted", "sent", "left"),
    [
        ("stream_options", body(stream=True, stream_options={}), body(stream=True)),
        ("stream", body(stream=True, stream_options={}), body(stream=False)),
        ("developer", body({"role": "developer", "content": "x"}), body({"role": "system", "content": "x"})),
        ("reasoning", body(assistant(reasoning="a", reasoning_content="a", reasoning_details=[1], audio=1)),
         body(assistant(audio=1))),
        ("reasoning", asking("max"), asking("max")),
    ],
)  # fmt: skip
def test_what_is_omitted_is_never_sent(omitted: Any, sent: Wire, left: Wire, clock: SimpleNamespace) -> None:
    server, concessions = Server(), Concessions([omitted])
    concessions.send(sent, server.send)
    clock.now += 100_000
    concessions.send(sent, server.send)
    assert server.asked == [left, left]


def test_what_was_refused_is_known_for_the_same_model_of_the_same_server() -> None:
    server, concessions = Efforts("high"), Concessions()
    concessions.send(asking("max"), server.send)
    assert server.efforts() == ["max", "xhigh", "high"]
    concessions.send(asking("max"), server.send)
    assert server.efforts() == ["high"]
    concessions.send(asking("max", model="other"), server.send)
    assert server.efforts() == ["max", "xhigh", "high"]
    Concessions().send(asking("max"), server.send)
    assert server.efforts() == ["max", "xhigh", "high"]


def test_what_was_refused_is_tried_again_after_an_hour(clock: SimpleNamespace) -> None:
    server, concessions = Efforts("high"), Concessions()
    concessions.send(asking("max"), server.send)
    server.taken = ("max", "high")
    clock.now += 3599
    assert concessions.send(asking("max"), server.send) == asking("high")
    clock.now += 1
    assert concessions.send(asking("max"), server.send) == asking("max")


def test_no_more_is_remembered_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_KNOWN", 2)
    server, concessions = Efforts("high"), Concessions()
    for model in ("a", "b", "c"):
        concessions.send(asking("xhigh", model), server.send)
    server.since()
    for model in ("c", "b", "a"):
        concessions.send(asking("xhigh", model), server.send)
    assert server.efforts() == ["high", "high", "xhigh", "high"]


WORDS = ["stream_options", "include_usage", "reasoning_effort", "annotations", "extra", "role", "developer", "stream"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join), min_size=1, max_size=9),
    st.sampled_from([None, "high", "xhigh", "max"]),
)
def test_there_is_an_end_of_asking(refusals: list[str], effort: str | None) -> None:
    message = assistant(annotations=[1], tool_calls=[{**CALL, "extra": 1, "role": "x", "index": 0}])
    sent = {**asking(effort), "messages": [message, {"role": "developer", "content": "x"}], "stream": True}
    server = Server(lambda _: refusals[len(server.asked) % len(refusals)] or "no")
    concessions = Concessions()
    for _ in range(2):
        with pytest.raises(StatusError):
            concessions.send({**sent, "stream_options": {}}, server.send)
        assert len(server.since()) <= 9


def test_neither_a_long_text_nor_many_fields_take_long() -> None:
    fields = {f"reasoning_{number}": 1 for number in range(20_000)}
    sent = body(assistant(**fields), stream=True, stream_options={})
    server = Server(lambda _: "reasoning " * 3000 + "think" * 1000 + "stream " * 4000)
    begun = time.process_time()
    with pytest.raises(StatusError):
        Concessions().send(sent, server.send)
    assert Concessions(["reasoning"]).send(sent, Server().send)["messages"] == [assistant()]
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("field", ["stream", "stream_options", "developer", "reasoning_effort max"])
def test_a_field_that_a_client_invents_changes_nothing_for_others(field: str) -> None:
    server = Server(lambda wire: f"property {field!r} is unsupported" if field in wire["messages"][0] else None)
    concessions = Concessions()
    sent = body(assistant(**{field: 1}), stream=True, stream_options={}, reasoning_effort="max")
    concessions.send(sent, server.send)
    others = body({"role": "developer", "content": "x"}, stream=True, stream_options={}, reasoning_effort="max")
    server.since()
    concessions.send(others, server.send)
    assert server.since() == [others]


@pytest.mark.parametrize(
    "said",
    [
        "Error while processing stream: backend closed",
        "Content policy: your prompt 'help me stream as developer' is refused",
        "The conversation roles are too many",
    ],
)
def test_a_text_that_only_mentions_a_thing_does_not_refuse_it(said: str) -> None:
    server = Server(lambda wire: said)
    with pytest.raises(StatusError):
        Concessions().send(body({"role": "developer", "content": "x"}, stream=True), server.send)
    assert len(server.since()) == 1


@pytest.mark.parametrize(
    "said",
    [
        "Unexpected message role.",
        "messages.0.role: Input should be 'system', 'user', 'assistant' or 'tool'",
        "unknown role: developer",
        "'developer' is not one of ['system', 'user']",
        "Role developer is not supported",
    ],
)
def test_a_developer_is_refused_in_many_words(said: str) -> None:
    server = Server(lambda wire: said if "developer" in str(wire) else None)
    Concessions().send(body({"role": "developer", "content": "x"}), server.send)
    assert len(server.since()) == 2


@pytest.mark.parametrize(
    "said",
    [
        "Streaming is not supported",
        "This model does not support streaming",
        "stream: true is disabled",
        "unsupported: stream",
    ],
)
def test_streaming_is_refused_in_many_words(said: str) -> None:
    server = Server(lambda wire: said if wire["stream"] else None)
    Concessions().send(body(stream=True), server.send)
    assert len(server.since()) == 2
