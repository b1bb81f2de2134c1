"""OpenAI's chat completions. Source: OpenAI's API reference, POST /v1/chat/completions, and its OpenAPI document."""

from gpt_oss_proxy.apis.openai.chat_completions.describe import describe
from gpt_oss_proxy.apis.openai.chat_completions.parse import parse
from gpt_oss_proxy.apis.openai.chat_completions.render import render, stream

PATH = "/chat/completions"
ID_PREFIX = "chatcmpl-"

__all__ = ["ID_PREFIX", "PATH", "describe", "parse", "render", "stream"]
