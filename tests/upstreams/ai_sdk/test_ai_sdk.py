"""The AI SDK upstream: its models, its POST, and which answers it reads."""

import json
import uuid

import pytest
from requests.structures import CaseInsensitiveDict

from gpt_oss_proxy.net.client.transport import Transport
from gpt_oss_proxy.upstreams.ai_sdk import AiSdk
from gpt_oss_proxy.upstreams.ai_sdk.data_stream import DataStreamDecoder
from gpt_oss_proxy.upstreams.ai_sdk.request import build_body
from gpt_oss_proxy.upstreams.base import Model
from tests.upstreams.decoding import ask


def ai_sdk(prefix: str = "") -> AiSdk:
    return AiSdk(
        Transport(connect_timeout_seconds=1),
        url="https://chat.example/api/chat",
        session_prefix=prefix,
        image_format="image",
        message_format="content",
        max_event_bytes=1000,
    )


def test_it_serves_the_two_gpt_4o_models():
    assert ai_sdk().models() == (
        Model("gpt-4o", "openai", 1_715_367_049),
        Model("gpt-4o-mini", "openai", 1_721_172_741),
    )


@pytest.mark.parametrize("prefix", ["", "proxy-"])
def test_it_posts_a_new_chat_each_time(prefix):
    chat_ids = []
    for _ in range(2):
        url, headers, body = ai_sdk(prefix).build(ask("Hi", model="gpt-4o"))
        sent = json.loads(body)
        chat_ids.append(sent["id"])
        assert url == "https://chat.example/api/chat"
        assert headers == {"Content-Type": "application/json", "Accept": "text/event-stream, text/plain"}
        assert sent == build_body(
            ask("Hi", model="gpt-4o"), chat_id=sent["id"], image_format="image", message_format="content"
        )
    assert chat_ids[0] != chat_ids[1]
    assert all(uuid.UUID(chat_id.removeprefix(prefix)) and chat_id.startswith(prefix) for chat_id in chat_ids)


def test_its_decoder_is_the_one_that_the_headers_name():
    headers = CaseInsensitiveDict({"x-vercel-ai-data-stream": "v1"})
    assert type(ai_sdk().decoder(headers, ask())) is DataStreamDecoder
