"""An error is OpenAI's object, in a body and in a stream."""

import pytest

from gpt_oss_proxy.apis.openai.errors import error_body, error_event
from gpt_oss_proxy.errors import GatewayError, InvalidRequest, UpstreamIncomplete


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (
            InvalidRequest('No "x".', code="invalid_type", param="messages[0].content"),
            b'{"error":{"message":"No \\"x\\".","type":"invalid_request_error",'
            b'"param":"messages[0].content","code":"invalid_type"}}',
        ),
        (
            UpstreamIncomplete(),
            b'{"error":{"message":"The model\'s server ended the answer before it was complete. Try again.",'
            b'"type":"upstream_error","param":null,"code":"upstream_incomplete"}}',
        ),
    ],
)
def test_an_error_is_openais_object(error: GatewayError, body: bytes) -> None:
    assert error_body(error) == body
    assert error_event(error) == b"data: " + body + b"\n\ndata: [DONE]\n\n"
