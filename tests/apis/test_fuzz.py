"""Any body is a request that every upstream can be asked, or one that is refused as invalid; there is no third."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_proxy.apis.json_body import parse_object
from gpt_oss_proxy.apis.openai.api import OpenAIApi
from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.chat.request import ChatRequest
from gpt_oss_proxy.emulation.fold import fold
from gpt_oss_proxy.emulation.prepare import prepare
from gpt_oss_proxy.errors import InvalidRequest
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.ai_sdk import AiSdk
from gpt_oss_proxy.upstreams.base import Upstream
from gpt_oss_proxy.upstreams.chatkit import ChatKit
from gpt_oss_proxy.upstreams.openai import OpenAI
from tests.apis.openai.asked import CHATS, TEXTS, parse
from tests.upstreams.test_fuzz import JSON, ODD, changed, in_pieces

quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)
TRANSPORT = Transport(connect_timeout_seconds=1)
MIB = 2**20


def chatkit(dialect: Any) -> Upstream:
    return ChatKit(TRANSPORT, base_url="http://x", dialect=dialect, effort_default="high", max_event_bytes=MIB)


def ai_sdk(image_format: Any, message_format: Any) -> Upstream:
    return AiSdk(
        TRANSPORT,
        url="http://x",
        session_prefix="",
        image_format=image_format,
        message_format=message_format,
        max_event_bytes=MIB,
    )


UPSTREAMS = [
    *(chatkit("older"), chatkit("published"), ai_sdk("image", "content"), ai_sdk("image_url", "content")),
    *(ai_sdk("attachments", "content"), ai_sdk("image", "parts")),
    OpenAI(TRANSPORT, base_url="http://x", api_key="", model_ids=(), max_event_bytes=MIB),
]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "index": 0}
PARTS = [
    {"type": "text", "text": "What is this? 👋"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
    {"type": "image_url", "image_url": "https://pictures.example/a.jpg?b"},
]
REQUESTS: list[Any] = [
    {
        "messages": [{"role": "user", "content": "Hi"}],
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PARTS, "name": "n"}]},
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}], "function_call": {"name": "f"}},
            {"role": "function", "name": "f", "content": "43"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "n": 2,
        "reasoning_effort": "low",
        "temperature": 0.5,
        "logit_bias": {"1": -100},
        "stop": ["a", "b"],
        "seed": 7,
        "metadata": {"team": "blue", "": "x" * 512},
    },
    {
        "messages": [
            *({"role": role, "content": "Hi", "name": "Ada"} for role in ("system", "developer", "user", "assistant")),
            {"role": "tool", "tool_call_id": "c1", "content": "42", "name": "files/read me"},
        ],
        "tools": [{"type": "function", "function": {"name": name}} for name in ("files.read", "a<b", "NAME")],
        "tool_choice": {"type": "function", "function": {"name": "NAME"}},
        "reasoning_effort": "max",
        "response_format": {"type": "json_object"},
        "metadata": {f"k{index}": "v" for index in range(16)},
    },
    {
        "messages": [{"role": "user", "content": "Hi"}],
        "functions": [{"name": "f", "parameters": {"type": "object"}}],
        "function_call": {"name": "f"},
    },
    {
        "messages": [
            {"role": "user", "content": [{"type": "file", "file": {}}, {"type": "input_audio", "input_audio": {}}]}
        ]
    },
]


COMPLETIONS: list[Any] = [
    {"prompt": "Hi", "model": "m", "stream": True, "stream_options": {"include_usage": True}, "echo": True},
    {"prompt": ["a", "b"], "n": 2, "best_of": 2, "stop": ["x"], "max_tokens": 5, "logit_bias": {"1": -100}},
    {"prompt": [[1, 2], [3]], "suffix": "", "logprobs": None, "tools": [], "seed": 7},
]
# A client API, and a request that it takes or all but takes.
ASKED = st.sampled_from([(CHATS, request) for request in REQUESTS] + [(TEXTS, request) for request in COMPLETIONS])


def outcome(api: OpenAIApi, body: bytes) -> ChatRequest | InvalidRequest:
    try:
        return parse(api, body)
    except InvalidRequest as error:
        return error


def assert_a_request_or_a_refusal(api: OpenAIApi, body: bytes) -> None:
    request = outcome(api, body)
    if isinstance(request, InvalidRequest):
        assert request.status == 400
        assert len(error_body(request)) < 2000
        return
    for messages in (request.messages, *request.further_prompts):
        fold(messages).encode()
    for upstream in UPSTREAMS:
        try:
            emulation = prepare(request, upstream.native_options, harmony=upstream.leaks_harmony)
            _, headers, sent = upstream.build(emulation.request)
        except InvalidRequest:
            continue
        assert json.loads(sent)
        assert all(
            value.isascii() and value.isprintable() for name, value in headers.items() if name != "x-selected-model"
        )


@quick
@given(st.data())
def test_a_request_with_wrong_values_is_a_request_or_refused(data: st.DataObject) -> None:
    api, request = data.draw(ASKED)
    body = json.dumps(request).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        body = data.draw(changed(body))
    assert_a_request_or_a_refusal(api, body)


@quick
@given(st.data())
def test_a_request_with_wrong_bytes_is_a_request_or_refused(data: st.DataObject) -> None:
    api, request = data.draw(ASKED)
    body = json.dumps(request, ensure_ascii=data.draw(st.booleans())).encode()
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=3))
    kinds = st.binary(max_size=3) | st.sampled_from([b"\\ud83d", b"NaN", b'"', b"}", b"\x00", b"1e999", b'"model":1,'])
    assert_a_request_or_a_refusal(api, data.draw(kinds).join(in_pieces(body, cuts)))


@quick
@given(
    JSON
    | st.dictionaries(
        st.sampled_from(["messages", "prompt", "model", "stream", "x"]), JSON | st.lists(JSON), max_size=4
    )
)
def test_any_json_is_a_request_or_refused(value: Any) -> None:
    for api in (CHATS, TEXTS):
        assert_a_request_or_a_refusal(api, json.dumps(value).encode())


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:20])
def test_any_value_is_an_object_or_refused(value: Any) -> None:
    body = json.dumps(value).encode()
    if value == {}:
        assert parse_object(body) == {}
        return
    try:
        assert isinstance(parse_object(body), dict)
    except InvalidRequest as error:
        assert error.code == "invalid_json"  # noqa: PT017 - either is right
