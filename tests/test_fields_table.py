"""The table of request fields in docs/fields.md says what the code does."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpt_oss_proxy.apis.openai.chat_completions.parse import REQUEST
from gpt_oss_proxy.emulation.prepare import prepare
from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.gateway.dispatch import without_effect
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.ai_sdk import AiSdk
from gpt_oss_proxy.upstreams.base import Upstream
from gpt_oss_proxy.upstreams.chatkit import ChatKit
from gpt_oss_proxy.upstreams.openai import OpenAI
from tests.apis.openai.asked import CHATS, parse

PAGE = (Path(__file__).parent.parent / "docs/fields.md").read_text()
TRANSPORT = Transport(connect_timeout_seconds=1)
ADDRESS = "http://localhost:1"
UPSTREAMS: list[Upstream] = [
    ChatKit(TRANSPORT, base_url=ADDRESS, dialect="older", effort_default="high", max_event_bytes=65536),
    AiSdk(
        TRANSPORT,
        url=ADDRESS,
        session_prefix="",
        image_format="image",
        message_format="content",
        max_event_bytes=65536,
    ),
    OpenAI(TRANSPORT, base_url=ADDRESS, api_key="", model_ids=("m",), max_event_bytes=65536),
]
FUNCTION = {"name": "f", "parameters": {"type": "object"}}
# A value of each field that asks for something.
VALUES: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "reasoning_effort": "low",
    "stop": "x",
    "max_tokens": 1,
    "max_completion_tokens": 1,
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "functions": [FUNCTION],
    "function_call": {"name": "f"},
    "response_format": {"type": "json_object"},
    "n": 2,
    "temperature": 1.0,
    "top_p": 0.5,
    "presence_penalty": 1.0,
    "frequency_penalty": 1.0,
    "seed": 1,
    "logit_bias": {"1": 1},
    "user": "ada",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "flex",
    "logprobs": True,
    "top_logprobs": 1,
    "audio": {},
    "modalities": ["text", "audio"],
}
# Values of other fields that a field makes sense with.
WITH: dict[str, dict[str, Any]] = {
    "stream_options": {"stream": True},
    "function_call": {"functions": [FUNCTION]},
    "tool_choice": {"tools": VALUES["tools"]},
}

# ChatRequest's names of fields that it has under another one.
NEUTRAL = {
    "functions": "tools",
    "function_call": "tool_choice",
    "parallel_tool_calls": "parallel_calls",
    "max_tokens": "limits",
    "max_completion_tokens": "limits",
}


def rows() -> dict[str, list[str]]:
    """Return field → what the page says of it for each upstream."""
    table = PAGE.split("## Request fields")[1].split("\n\n")[1]
    found: dict[str, list[str]] = {}
    for line in table.splitlines()[2:]:
        names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), cells))
    return found


def effect(field: str, upstream: Upstream) -> str:
    """Return what the code does with the field."""
    body = {"messages": VALUES["messages"], **WITH.get(field, {}), field: VALUES[field]}
    try:
        request = parse(CHATS, body)
    except InvalidRequest:
        return "refused"
    if field == "n":  # in no upstream's request: the gateway asks several times
        assert (request.n, "n" in request.passthrough) == (2, False)
        return "emulated"
    if upstream.native_options is None:
        return "passed on"
    emulated, name = prepare(request, upstream.native_options, harmony=False).request, NEUTRAL.get(field, field)
    if getattr(emulated, name, None) != getattr(request, name, None) or field == "stream_options":
        return "emulated"
    ignored = CHATS.spell_ignored(without_effect(request, upstream), request)
    return "without effect" if field in ignored else "passed on"


def test_every_known_field_is_in_the_table_and_has_a_value_here() -> None:
    known = {field.name for kind in REQUEST for field in msgspec.structs.fields(kind)}
    assert rows().keys() == known == VALUES.keys()


@pytest.mark.parametrize("column", range(3), ids=[upstream.name for upstream in UPSTREAMS])
@pytest.mark.parametrize("field", VALUES)
def test_the_table_says_what_the_code_does(field: str, column: int) -> None:
    assert rows()[field][column].startswith(effect(field, UPSTREAMS[column]))
