"""The tokens that a server reports."""

from typing import Any

import pytest

from gpt_oss_proxy.chat.events import Usage
from gpt_oss_proxy.upstreams.openai.usage import read_usage


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, Usage(3, 4)),
        ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage(0, 0)),
        (
            {
                "prompt_tokens": 3,
                "completion_tokens": 4,
                "completion_tokens_details": {"reasoning_tokens": 2},
                "prompt_tokens_details": {"cached_tokens": 1},
            },
            Usage(3, 4, reasoning_tokens=2, cached_tokens=1),
        ),
        ({"prompt_tokens": 3, "completion_tokens": 4, "completion_tokens_details": None}, Usage(3, 4)),
        ({"prompt_tokens": 3, "completion_tokens": None}, None),
        ({"prompt_tokens": "3", "completion_tokens": 4}, None),
        ({}, None),
        (None, None),
        (7, None),
    ],
)
def test_usage_is_read_in_both_spellings_if_it_makes_sense(reported: Any, usage: Usage | None) -> None:
    assert read_usage(reported) == usage
