"""What both renderers of choices do the same; their own bytes are tested with each of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy.apis.base import Stamp
from gpt_oss_proxy.apis.openai.api import OpenAIApi
from gpt_oss_proxy.apis.openai.choices import ChunkStream, render_whole
from gpt_oss_proxy.apis.openai.reasoning import ReasoningFormat
from gpt_oss_proxy.chat.events import (
    Choice,
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from gpt_oss_proxy.chat.request import Message, Text
from gpt_oss_proxy.config.settings import REASONING_FIELDS
from gpt_oss_proxy.errors import UpstreamIncomplete
from tests.apis.openai.asked import CHATS, TEXTS, asked
from tests.doubles import chunks, collected, error_shown

STAMP = Stamp("id-1", 1_700_000_000, "m")
N = 3
REASONS = ("stop", "length", "content_filter")
HELLO = (Message("user", (Text("Hello!"),)),)


def test_a_whole_answer_is_stamped_and_has_its_usage() -> None:
    usage = Usage(3, 5, reasoning_tokens=2, cached_tokens=1)
    assert render_whole("kind", STAMP, [{"index": 0}], usage, {"fp": 1, "id": 2}) == (
        b'{"id":"id-1","object":"kind","created":1700000000,"model":"m","choices":[{"index":0}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8,'
        b'"prompt_tokens_details":{"cached_tokens":1},"completion_tokens_details":{"reasoning_tokens":2}},"fp":1}'
    )


@pytest.mark.parametrize("api", [CHATS, TEXTS])
def test_a_failure_is_one_error_event_and_done(api: OpenAIApi) -> None:
    renderer = api.stream(STAMP, asked("m", HELLO, stream=True))
    renderer.feed([TextDelta("a")])
    assert chunks(renderer.fail(UpstreamIncomplete())) == [error_shown(UpstreamIncomplete()), "[DONE]"]


DELTA = st.builds(TextDelta, st.text(min_size=1, max_size=3)) | st.builds(
    ReasoningDelta, st.text(min_size=1, max_size=3)
)
LISTS = st.lists(
    st.just([]) | st.lists(DELTA, max_size=3) | st.tuples(st.builds(Choice, st.integers(0, N - 1)), DELTA).map(list),
    max_size=8,
)


def joined(told: list[dict[str, Any]], index: int) -> dict[str, str]:
    """Return the texts of a choice's chunks, joined by their field."""
    found: dict[str, str] = {}
    for choice in told:
        if choice["index"] == index:
            for name, text in said(choice, "delta").items():
                found[name] = found.get(name, "") + text
    return found


def said(choice: dict[str, Any], name: str) -> dict[str, str]:
    """Return the texts that a choice tells, by their field."""
    told = choice[name] if name in choice else {"text": choice["text"]}
    return {field: text for field, text in told.items() if text}


@given(LISTS, st.sampled_from(["both", "reasoning", "reasoning_content", "hidden"]), st.booleans())
def test_streamed_choices_tell_what_the_whole_ones_tell(
    lists: list[list[Event]], where: ReasoningFormat, echo: bool
) -> None:
    request = asked("m", HELLO, stream=True, n=N, reasoning=where, has_echo=echo)
    lists = [*lists, [Finish(REASONS[0], REASONS[1:])]]
    for api in (CHATS, TEXTS):
        renderer = api.stream(STAMP, request)
        *told, done = chunks(b"".join(renderer.feed(events) for events in lists))
        assert done == "[DONE]"
        choices = [chunk["choices"][0] for chunk in told]
        whole = json.loads(api.whole(collected(lists), STAMP, request))["choices"]
        for index, choice in enumerate(whole):
            assert joined(choices, index) == said(choice, "message")
            reasons = [part["finish_reason"] for part in choices if part["index"] == index]
            assert reasons == [None] * (len(reasons) - 1) + [REASONS[index]]


def test_every_format_of_reasoning_can_be_streamed() -> None:
    for where in REASONING_FIELDS:
        renderer = CHATS.stream(STAMP, asked("m", HELLO, stream=True, reasoning=where))
        assert b"[DONE]" in renderer.feed([ReasoningDelta("Hm"), Finish("stop")])


class Bare(ChunkStream):
    """A client API that has a field for text alone."""

    KIND = "bare"
    NO_FIELDS = b'"said":""'
    AROUND_TEXT = (b'"said":', b"")

    def opening_fields(self, index: int) -> bytes:
        return b""

    def reason(self, reason: FinishReason) -> str:
        return reason


def test_what_has_no_field_is_not_told() -> None:
    renderer = Bare(STAMP, include_usage=False, reasoning_format="both")
    told = chunks(renderer.feed([ReasoningDelta("Hm"), TextDelta("a"), ToolCallDelta(0, "c1", "f")]))
    assert [chunk["choices"][0] for chunk in told] == [
        {"index": 0, "said": "a", "logprobs": None, "finish_reason": None}
    ]
