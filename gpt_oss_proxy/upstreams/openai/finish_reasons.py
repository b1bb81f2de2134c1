"""Finish reasons, in every spelling that OpenAI-compatible servers use.

Sources: the references of OpenAI, Azure, Mistral, DeepSeek, Zhipu, Moonshot, Together, OpenRouter, vLLM, SGLang, TGI,
llama.cpp and Ollama; Anthropic's, Google's, Amazon's and Cohere's own words, which intermediate gateways pass on.
"""

import re
from collections.abc import Mapping
from typing import Literal

from gpt_oss_proxy.chat.events import FinishReason

Ending = FinishReason | Literal["error"]

REASONS: Mapping[Ending, tuple[str, ...]] = {
    "stop": (
        *("stop", "end_turn", "stop_sequence", "stop_word", "stop_str", "eos", "eos_token", "end_of_text"),
        *("end", "complete", "completed", "done", "finish_reason_stop", "normal", "end_of_turn"),
    ),
    "length": (
        *("length", "max_tokens", "max_token", "max_output_tokens", "max_completion_tokens", "max_new_tokens"),
        *("model_length", "max_length", "token_limit", "limit", "incomplete", "model_context_window_exceeded"),
        *("context_length_exceeded", "context_window_exceeded", "finish_reason_max_tokens", "truncated"),
    ),
    "tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call", "function_calls", "tool"),
    "content_filter": (
        *("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content", "spii"),
        *("image_safety", "language", "sensitive", "refusal", "guardrail_intervened", "error_toxic", "moderation"),
        "finish_reason_safety",
    ),
    "error": (
        *("error", "abort", "aborted", "cancelled", "canceled", "cancel", "user_cancel", "network_error"),
        *("insufficient_system_resource", "internal_error", "server_error", "failed", "failure", "timeout"),
        *("insufficient_quota", "rate_limit", "rate_limited", "abort_error"),
        *("error_limit", "malformed_function_call", "unexpected_tool_call", "too_many_tool_calls", "overloaded"),
    ),
}
_ENDINGS = {spelling: ending for ending, spellings in REASONS.items() for spelling in spellings}


def ending_of(reason: str) -> Ending | None:
    """Return what a server's word means, None if it is unknown. Capitals, hyphens and spaces are ignored."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", reason.strip())  # as in maxTokens
    return _ENDINGS.get(re.sub(r"[- ]", "_", words).lower())
