"""The tokens that a server reports, in both spellings in use: OpenAI's, and Anthropic's within OpenAI's form."""

from typing import Any

from gpt_oss_proxy.chat.events import Usage
from gpt_oss_proxy.upstreams.values import count


def read_usage(usage: Any) -> Usage | None:
    """Return the usage, None if it is not reported, or not plausible."""
    if not isinstance(usage, dict):
        return None
    prompt = _first(usage, "prompt_tokens", "input_tokens")
    completion = _first(usage, "completion_tokens", "output_tokens")
    if prompt is None or completion is None:
        return None
    return Usage(
        prompt,
        completion,
        _detail(usage, "completion_tokens_details", "reasoning_tokens"),
        _detail(usage, "prompt_tokens_details", "cached_tokens"),
    )


def _first(usage: dict[str, Any], *names: str) -> int | None:
    return next((number for name in names if (number := count(usage, name)) is not None), None)


def _detail(usage: dict[str, Any], name: str, detail: str) -> int:
    details = usage.get(name)
    return (count(details, detail) or 0) if isinstance(details, dict) else 0
