"""OpenAI's client APIs as tests use them, and requests as they come out of their parsers."""

import json
from collections.abc import Mapping
from typing import Any

from gpt_oss_proxy.apis.base import Incoming
from gpt_oss_proxy.apis.openai.api import OpenAIApi, Own
from gpt_oss_proxy.apis.openai.chat_completions import ChatCompletions
from gpt_oss_proxy.apis.openai.completions import Completions
from gpt_oss_proxy.chat.request import ChatRequest
from tests.typed import typed

CHATS = ChatCompletions(default_model="default", reasoning="both")
TEXTS = Completions(default_model="default", reasoning="both")


def parse(api: OpenAIApi, body: bytes | Mapping[str, Any], **headers: str) -> ChatRequest:
    """Return what a body asks for; headers are named as WSGI names them."""
    return api.parse(Incoming(body if isinstance(body, bytes) else json.dumps(body).encode(), headers))


def asked(*arguments: Any, options: Mapping[str, Any] | None = None, **fields: Any) -> ChatRequest:
    """Return a ChatRequest: `options` under OpenAI's names, and the fields of Own among the others."""
    own = {name: fields.pop(name) for name in ("reasoning", "has_functions", "has_echo") if name in fields}
    given = options or {}
    further = typed(given) if given else {}
    return ChatRequest(*arguments, own=Own(names=tuple(given), **own), **further, **fields)
