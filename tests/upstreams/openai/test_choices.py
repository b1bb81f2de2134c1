"""Where a chunk has its choice."""

from typing import Any

import pytest

from gpt_oss_proxy.errors import UpstreamProtocolError
from gpt_oss_proxy.upstreams.openai.choices import choices_of

ONE: dict[str, Any] = {"index": 0, "delta": {"content": "a"}, "finish_reason": None}


@pytest.mark.parametrize(
    ("chunk", "choices"),
    [
        ({"choices": [ONE]}, [ONE]),
        ({"choices": [{**ONE, "index": 7}]}, [{**ONE, "index": 7}]),
        ({"choices": [{**ONE, "index": 1}, ONE, {"delta": {}}]}, [ONE, {"delta": {}}]),
        ({"choices": []}, []),
        ({"choices": [], "finish_reason": "stop"}, []),
        ({"choices": [ONE], "finish_reason": "length"}, [{**ONE, "finish_reason": "length"}]),
        (
            {"choices": [{**ONE, "finish_reason": "stop"}], "finish_reason": "length"},
            [{**ONE, "finish_reason": "stop"}],
        ),
        ({"usage": {"prompt_tokens": 1}}, []),
        ({"message": {"content": "a"}, "done": False}, [{"delta": {"content": "a"}, "finish_reason": None}]),
        ({"message": {"content": ""}, "done": True}, [{"delta": {"content": ""}, "finish_reason": "stop"}]),
        (
            {"message": {"content": ""}, "done": True, "done_reason": "length"},
            [{"delta": {"content": ""}, "finish_reason": "length"}],
        ),
        ({"delta": {"content": "a"}}, [{"delta": {"content": "a"}, "finish_reason": None}]),
        ({"type": "ping"}, None),
        ({"choices": None}, None),
    ],
)
def test_the_choice_is_found(chunk: dict[str, Any], choices: list[Any] | None) -> None:
    assert choices_of(chunk) == choices


@pytest.mark.parametrize("choices", [7, "a", {}, [7], [ONE, None]])
def test_what_are_no_choices_is_a_protocol_error(choices: Any) -> None:
    with pytest.raises(UpstreamProtocolError):
        choices_of({"choices": choices})
