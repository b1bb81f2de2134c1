"""What all client APIs share."""

import pytest

from gpt_oss_proxy.apis.base import render_error
from gpt_oss_proxy.app import CLIENT_APIS
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
    assert render_error(error) == body


@pytest.mark.parametrize("api", CLIENT_APIS.values(), ids=CLIENT_APIS.keys())
def test_a_client_api_has_its_six_names(api: object) -> None:
    assert {"ID_PREFIX", "PATH", "describe", "parse", "render", "stream"} <= set(dir(api))
