"""What the OpenAPI document allows and what it rules out, sent to a real gateway: schemathesis makes both from it.

Boundary values of every field, each alone, then whole requests at random, the same ones each time.
"""

import re
import uuid
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.generation.meta import TestPhase

from tests.described import Described
from tests.doubles import described
from tests.live.talk import SECONDS

pytest_plugins = ["schemathesis.pytest.plugin"]  # it collects what API.parametrize makes
DOCUMENT = described()
DESCRIBED = Described(DOCUMENT)
# The same requests each time: none that depends on earlier answers, none remembered from earlier runs.
ALWAYS_THE_SAME = {
    "seed": 1,
    "generation": {"deterministic": True, "max-examples": 40, "database": "none", "no-shrink": True},
    "phases": {
        "coverage": {"extra-data-sources": {"responses": False}},
        "fuzzing": {"extra-data-sources": {"responses": False}, "error-feedback": {"enabled": False}},
    },
}
API = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig.from_dict(ALWAYS_THE_SAME))
CHAT = "/v1/chat/completions"
# A schema cannot say all: see `mended`, which makes good requests of those that fit it.
EXCLUDED = [CHECKS.get_one("positive_data_acceptance")]
# What is refused, or needs more than a model that gives back what it hears.
LEFT_OUT = {
    *("tools", "tool_choice", "functions", "function_call", "response_format"),
    *("logprobs", "top_logprobs", "modalities", "audio"),
}
UNABLE = ("tool_call_invalid", "response_format_invalid")
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def session() -> requests.Session:
    return requests.Session()


def test_the_document_is_the_one_that_is_served(base: str) -> None:
    assert requests.get(f"{base}/openapi.json", timeout=SECONDS).json() == DOCUMENT


@API.parametrize()
def test_whatever_is_sent_is_answered_as_described(
    case: schemathesis.Case, base: str, session: requests.Session
) -> None:
    positive = bool(case.meta) and case.meta.generation.mode is GenerationMode.POSITIVE
    if positive and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex  # else it would be that of an earlier request
    response = case.call(base_url=base, session=session, timeout=SECONDS)
    # A model that gives back what it hears neither calls tools nor writes JSON.
    assert response.status_code < 500 or response.json()["error"]["code"] in UNABLE
    case.validate_response(response, excluded_checks=EXCLUDED)
    if case.method != case.operation.method.upper():
        return  # a method that the path does not take
    headers = {name: values[0] for name, values in response.headers.items()}
    DESCRIBED.assert_fits(case.method, case.formatted_path, response.status_code, headers, response.content)
    if case.path == CHAT and positive and case.meta.phase.name is TestPhase.FUZZING:
        body = mended(case.body)
        answer = session.post(f"{base}{CHAT}", json=body, headers=HEADERS, timeout=SECONDS)
        assert answer.status_code == 200, f"{answer.text}: {body}"
        DESCRIBED.assert_fits("POST", CHAT, 200, answer.headers, answer.content)
        assert b'"error"' not in answer.content


def mended(body: Any) -> dict[str, Any]:
    """Return the request without what fits its schema and is refused none the less."""
    kept = {name: with_plain_numbers(value) for name, value in body.items() if name not in LEFT_OUT}
    messages = [mended_message(message) for message in kept["messages"]]
    has_image = PIXEL in repr(messages)
    return kept | {"messages": messages, "model": "gpt-4o" if has_image or len(body) % 2 else "gpt-oss-20b"}


def with_plain_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [with_plain_numbers(inner) for inner in value]
    if isinstance(value, dict):
        return {name: with_plain_numbers(inner) for name, inner in value.items()}
    if isinstance(value, float) and value.is_integer():  # a schema's integer, too, but not ours
        value = int(value)
    return value if not isinstance(value, int) or -(2**63) <= value < 2**64 else 7


def mended_message(message: dict[str, Any]) -> dict[str, Any]:
    content, role = message.get("content"), message["role"]
    if isinstance(content, list):
        content = [mended_part(part, role) for part in content]
    elif content is None and role not in ("assistant", "function"):
        content = "Hello!"
    call_id = message.get("tool_call_id")
    message = {field: value for field, value in message.items() if field != "name" or role == "function"}
    return {**message, "content": content, "tool_call_id": "c1" if role == "tool" and call_id is None else call_id}


def mended_part(part: dict[str, Any], role: str) -> dict[str, Any]:
    match part["type"]:
        case "image_url" if role == "user":
            return {"type": "image_url", "image_url": {"url": PIXEL}}
        case "text" | "refusal":
            return part
        case kind:
            return {"type": "text", "text": f"Once a part of kind {re.escape(kind)}."}
