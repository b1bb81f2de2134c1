"""README's table of request fields says what the code does."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpt_oss_proxy.apis.openai.chat_completions.parse import REQUEST, parse
from gpt_oss_proxy.emulation.prepare import EMULATED
from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.gateway.dispatch import without_effect
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.ai_sdk import AiSdk
from gpt_oss_proxy.upstreams.base import Upstream
from gpt_oss_proxy.upstreams.chatkit import ChatKit
from gpt_oss_proxy.upstreams.openai import OpenAI

README = (Path(__file__).parent.parent / "README.md").read_text()
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


def rows() -> dict[str, list[str]]:
    """Return field → what README says of it for each upstream."""
    table = README.split("## Request fields")[1].split("\n\n")[1]
    found: dict[str, list[str]] = {}
    for line in table.splitlines()[2:]:
        names, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), cells))
    return found


def effect(field: str, upstream: Upstream) -> str:
    """Return what the code does with the field."""
    body = {"messages": VALUES["messages"], **WITH.get(field, {}), field: VALUES[field]}
    try:
        request = parse(json.dumps(body).encode(), default_model="m")
    except InvalidRequest:
        return "refused"
    if field == "n":  # in no upstream's request: the gateway asks several times
        assert (request.n, "n" in request.options) == (2, False)
        return "emulated"
    if upstream.native_options is None:
        return "passed on"
    names = {"functions": "tools", "function_call": "tool_choice"}
    if names.get(field, field) in EMULATED - upstream.native_options or field == "stream_options":
        return "emulated"
    return "without effect" if field in without_effect(request, upstream) else "passed on"


def test_every_known_field_is_in_the_table_and_has_a_value_here() -> None:
    known = {field.name for kind in REQUEST for field in msgspec.structs.fields(kind)}
    assert rows().keys() == known == VALUES.keys()


@pytest.mark.parametrize("column", range(3), ids=[upstream.name for upstream in UPSTREAMS])
@pytest.mark.parametrize("field", VALUES)
def test_the_table_says_what_the_code_does(field: str, column: int) -> None:
    assert rows()[field][column].startswith(effect(field, UPSTREAMS[column]))
