"""OpenAI's error object. Source: OpenAI's API reference, and what its SDKs read of it."""

import msgspec

from gpt_oss_proxy import sse
from gpt_oss_proxy.errors import GatewayError


def error_body(error: GatewayError) -> bytes:
    """Return the object as the body of an answer."""
    return msgspec.json.encode(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def error_event(error: GatewayError) -> bytes:
    """Return the object as the last event of a stream, and [DONE]."""
    return sse.encode(error_body(error)) + sse.DONE
