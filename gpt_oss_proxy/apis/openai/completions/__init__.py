"""OpenAI's legacy completions: text in, text out. Source: OpenAI's API reference, POST /v1/completions."""

from gpt_oss_proxy.apis.openai.completions.describe import describe
from gpt_oss_proxy.apis.openai.completions.parse import parse
from gpt_oss_proxy.apis.openai.completions.render import render, stream

PATH = "/completions"
ID_PREFIX = "cmpl-"

__all__ = ["ID_PREFIX", "PATH", "describe", "parse", "render", "stream"]
