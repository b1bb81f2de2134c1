"""The ChatKit upstream: its models, its POST, and which answers it reads."""

import json

import pytest
from requests.structures import CaseInsensitiveDict

from gpt_oss_proxy.errors import UpstreamFailed, UpstreamProtocolError
from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.base import Model
from gpt_oss_proxy.upstreams.chatkit import ChatKit
from gpt_oss_proxy.upstreams.chatkit.request import build_body, build_headers
from tests.upstreams.decoding import TOOLS, ask, decode, fail, sse_bytes


def chatkit(dialect: str = "older") -> ChatKit:
    return ChatKit(
        Transport(connect_timeout_seconds=1),
        base_url="https://chat.example/base",
        dialect=dialect,
        effort_default="medium",
        max_event_bytes=1000,
    )


def test_it_serves_the_two_gpt_oss_models():
    assert chatkit().models() == (
        Model("gpt-oss-20b", "openai", 1_754_352_000),
        Model("gpt-oss-120b", "openai", 1_754_352_000),
    )


@pytest.mark.parametrize("dialect", ["older", "published"])
def test_it_posts_to_chatkit_below_its_base_url(dialect):
    url, headers, body = chatkit(dialect).build(ask("Hi"))
    assert url == "https://chat.example/base/chatkit"
    assert headers == build_headers(ask("Hi"), dialect, "medium")
    assert json.loads(body) == build_body(ask("Hi"), dialect)


def test_only_the_older_dialect_has_a_field_for_the_effort():
    assert (chatkit("older").native_options, chatkit("published").native_options) == (
        frozenset({"effort"}),
        frozenset(),
    )


CALL = {"type": "thread.item.done", "item": {"type": "client_tool_call", "call_id": "c", "name": "look"}}


def test_its_decoder_knows_its_limit_and_whether_tools_were_offered():
    headers = CaseInsensitiveDict({"content-type": "Text/Event-Stream; charset=utf-8"})
    assert decode(chatkit().decoder(headers, ask(**TOOLS)), sse_bytes(CALL)).finish == "tool_calls"
    assert type(fail(chatkit().decoder(headers, ask()), sse_bytes(CALL))) is UpstreamFailed
    assert fail(chatkit().decoder(headers, ask()), b"data: " + b"x" * 1001).code == "upstream_too_large"


def test_an_answer_without_a_content_type_is_read():
    assert decode(chatkit().decoder(CaseInsensitiveDict(), ask(**TOOLS)), sse_bytes(CALL)).finish == "tool_calls"


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "text/plain"])
def test_an_answer_of_another_type_is_a_protocol_error(content_type):
    with pytest.raises(UpstreamProtocolError):
        chatkit().decoder(CaseInsensitiveDict({"Content-Type": content_type}), ask())
