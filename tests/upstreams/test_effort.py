"""An effort that a server does not know is asked for as the next lower one, and what it took is remembered."""

import pytest

from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.errors import UpstreamUnreachable
from gpt_oss_proxy.upstreams import effort
from gpt_oss_proxy.upstreams.effort import KnownEfforts, refuses_effort
from gpt_oss_proxy.upstreams.transport import HTTPStatusError


class Server:
    """Takes some efforts, and refuses the others as servers do. `asked` are those that it was asked for."""

    def __init__(self, *taken: str) -> None:
        self.taken = taken
        self.asked: list[str | None] = []

    def send(self, request: ChatRequest) -> str | None:
        self.asked.append(request.reasoning_effort)
        if request.reasoning_effort not in self.taken:
            raise refusal(f"reasoning_effort: no {request.reasoning_effort} here")
        return request.reasoning_effort

    def since(self) -> list[str | None]:
        """Return what was asked since the last time."""
        asked, self.asked = self.asked, []
        return asked


def refusal(text: str = "", param: str = "", status: int = 400) -> HTTPStatusError:
    return HTTPStatusError(status, text, "", None, param)


def asking(effort: str | None, model: str = "m") -> ChatRequest:
    return ChatRequest(model, (), reasoning_effort=effort)


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
    asked: str | None, taken: list[str], sent: list[str]
) -> None:
    server = Server(*taken)
    assert KnownEfforts().send(asking(asked), server.send) == sent[-1]
    assert server.asked == sent


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("max", ["max", "xhigh", "high"]),
        ("xhigh", ["xhigh", "high"]),
        *((other, [other]) for other in ("none", "minimal", "low", "medium", "high")),
    ],
)
def test_if_all_are_refused_the_client_gets_the_refusal_of_what_it_asked_for(asked: str, sent: list[str]) -> None:
    server, efforts = Server(), KnownEfforts()
    for _ in range(2):
        with pytest.raises(HTTPStatusError, match="400") as raised:
            efforts.send(asking(asked), server.send)
        assert raised.value.text == f"reasoning_effort: no {asked} here"
        assert server.since() == sent


@pytest.mark.parametrize("error", [refusal("too long"), refusal("x", status=429), UpstreamUnreachable()])
def test_what_else_goes_wrong_is_no_matter_of_efforts(error: Exception) -> None:
    server = Server("high")

    def send(request: ChatRequest) -> str | None:
        if request.reasoning_effort == "xhigh":
            server.asked.append("xhigh")
            raise error
        return server.send(request)

    with pytest.raises(type(error)) as raised:
        KnownEfforts().send(asking("max"), send)
    assert raised.value is error
    assert server.asked == ["max", "xhigh"]


def test_what_was_taken_is_asked_for_at_once_by_later_requests_for_the_same_of_the_same_model() -> None:
    server, efforts = Server("max?", "high"), KnownEfforts()
    efforts.send(asking("max"), server.send)
    assert server.since() == ["max", "xhigh", "high"]
    efforts.send(asking("max"), server.send)
    assert server.since() == ["high"]
    efforts.send(asking("max", model="other"), server.send)
    assert server.since() == ["max", "xhigh", "high"]
    KnownEfforts().send(asking("max"), server.send)
    assert server.since() == ["max", "xhigh", "high"]


def test_a_server_that_takes_max_but_not_xhigh_keeps_its_max() -> None:
    server, efforts = Server("max", "high"), KnownEfforts()
    for _ in range(2):
        assert efforts.send(asking("xhigh"), server.send) == "high"
        assert efforts.send(asking("max"), server.send) == "max"
    assert server.asked == ["xhigh", "high", "max", "high", "max"]


def test_a_server_that_takes_another_now_is_asked_for_all_again() -> None:
    server, efforts = Server("high"), KnownEfforts()
    efforts.send(asking("max"), server.send)
    server.taken = ("max",)
    server.since()
    assert efforts.send(asking("max"), server.send) == "max"
    assert server.since() == ["high", "max"]
    assert efforts.send(asking("max"), server.send) == "max"
    assert server.since() == ["max"]


def test_what_was_asked_for_is_tried_again_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(effort.time, "monotonic", lambda: now[0])
    server, efforts = Server("high"), KnownEfforts()
    efforts.send(asking("max"), server.send)
    server.taken = ("max", "high")
    now[0] += 3599
    assert efforts.send(asking("max"), server.send) == "high"
    now[0] += 1
    assert efforts.send(asking("max"), server.send) == "max"


def test_no_more_is_remembered_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "_MOST_KNOWN", 2)
    server, efforts = Server("high"), KnownEfforts()
    for model in ("a", "b", "c"):
        efforts.send(asking("xhigh", model), server.send)
    server.since()
    for model in ("c", "b", "a"):
        efforts.send(asking("xhigh", model), server.send)
    assert server.since() == ["high", "high", "xhigh", "high"]


@pytest.mark.parametrize("status", [400, 422])
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
    assert refuses_effort(refusal(text, param, status))


@pytest.mark.parametrize(
    ("status", "text", "param"),
    [
        (400, "", ""),
        (400, "This model's maximum context length is 8192 tokens.", ""),
        (400, "Invalid value for reasoning_effort's neighbour", "temperature"),
        (400, "The prompt says: make an effort", "messages[0].content"),
        (400, "The prompt says: make an effort", ""),
        (404, "no reasoning_effort here", "reasoning_effort"),
        (429, "reasoning_effort max is limited", ""),
        (500, "reasoning_effort", "reasoning_effort"),
    ],
)
def test_other_refusals_are_about_something_else(status: int, text: str, param: str) -> None:
    assert not refuses_effort(refusal(text, param, status))


def test_a_long_text_is_searched_quickly() -> None:
    assert not refuses_effort(refusal("reasoning " * 6000 + "think" * 1000))
