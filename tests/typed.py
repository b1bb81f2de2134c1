"""Options as OpenAI's clients write them → fields of a ChatRequest, for tests that read best so."""

from collections.abc import Mapping
from typing import Any

from gpt_oss_proxy.apis.openai.fields import typed_fields


def typed(options: Mapping[str, Any]) -> dict[str, Any]:
    return typed_fields(dict(options))
