"""What a request costs grows with its size, and not with its square: measured on whole ways, not on parts."""

import json
import time
from collections.abc import Callable

import pytest

from gpt_oss_proxy.apis.base import Incoming, Stamp
from gpt_oss_proxy.apis.openai.chat_completions import ChatCompletions
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.chain import emulate
from gpt_oss_proxy.emulation.prepare import prepare
from gpt_oss_proxy.net.lists import Shortcut
from gpt_oss_proxy.upstreams.chatkit.decoder import ChatKitDecoder
from gpt_oss_proxy.upstreams.chatkit.request import build_body
from tests.doubles import Characters
from tests.upstreams.decoding import sse_bytes

UPDATE = {"type": "assistant_message.content_part.text_delta", "content_index": 0, "delta": "word "}
EVENT = {"type": "thread.item.updated", "item_id": "m", "update": UPDATE}
SMALL, LARGE = 250, 2000  # eight times as much; its square would be sixty-four times as much
MOST = 20.0  # times

API = ChatCompletions(default_model="m", reasoning="both")


def body(**fields: object) -> bytes:
    return json.dumps({"model": "gpt-oss-20b", "stream": True, **fields}).encode()


def asked(**fields: object) -> ChatRequest:
    return API.parse(Incoming(body(**{"messages": [{"role": "user", "content": "Hi"}], **fields})))


def an_answer(events: int, *, at_once: bool, **fields: object) -> None:
    """Decode, emulate and render an answer of so many events."""
    request = asked(**fields)
    emulation = prepare(request, frozenset(), harmony=True)
    decoder = ChatKitDecoder(1_000_000)
    data = [sse_bytes(EVENT)] * events
    reads = [b"".join(data)] if at_once else data

    def ask(_request: ChatRequest, _shortcut: Shortcut | None):
        for read in reads:
            yield decoder.feed(read)

    renderer = API.stream(Stamp("id", 1, "m"), request)
    for events_ in emulate(emulation, ask, Characters(), lambda: "id"):
        renderer.feed(events_)


def a_conversation(messages: int) -> None:
    turns = [{"role": ("user", "assistant")[number % 2], "content": f"turn {number}"} for number in range(messages)]
    request = asked(messages=turns)
    build_body(prepare(request, frozenset(), harmony=True).request, "older")


def tools(number: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
    offered = [{"type": "function", "function": {"name": f"f{i}", "parameters": schema}} for i in range(number)]
    prepare(asked(tools=offered), frozenset(), harmony=True)


def calls(number: int) -> None:
    """A conversation with so many calls and their results."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turn = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    offered = [{"type": "function", "function": {"name": "f"}}]
    request = asked(messages=[{"role": "user", "content": "Hi"}, *(turn * number)], tools=offered)
    build_body(prepare(request, frozenset(), harmony=True).request, "older")


def seconds(action: Callable[[int], None], size: int) -> float:
    """Return the shortest of several runs: what else the machine does only makes one longer."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        action(size)
        best = min(best, time.process_time() - begun)
    return best


@pytest.mark.parametrize(
    ("action", "small", "large"),
    [
        pytest.param(lambda n: an_answer(n, at_once=False), SMALL, LARGE, id="events that come alone"),
        pytest.param(lambda n: an_answer(n, at_once=True), SMALL, LARGE, id="events that come at once"),
        pytest.param(
            lambda n: an_answer(n, at_once=False, stop=["never", "words "], max_tokens=10**6),
            SMALL,
            LARGE,
            id="events with stop words and a limit",
        ),
        pytest.param(a_conversation, SMALL, LARGE, id="conversation"),
        pytest.param(calls, SMALL, LARGE, id="calls and results"),
        pytest.param(tools, 16, 128, id="tools"),
    ],
)
def test_eight_times_as_much_takes_about_eight_times_as_long(action, small, large):
    assert seconds(action, large) < MOST * seconds(action, small)
