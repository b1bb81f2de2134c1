"""The family of errors is the one that docs/contract.md promises, and foreign text loses its secrets."""

import copy
import re

import pytest

from gpt_oss_proxy import errors
from gpt_oss_proxy.apis.openai.errors import error_body
from gpt_oss_proxy.errors import (
    GatewayError,
    InvalidField,
    InvalidRequest,
    RateLimited,
    ResponseFormatInvalid,
    ToolCallInvalid,
    UpstreamAuthRequired,
    UpstreamNotFound,
    UpstreamTls,
)


def family(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(member for child in kind.__subclasses__() for member in family(child))]


TABLE = {
    "GatewayError": (500, "server_error", "internal_error"),
    "InvalidRequest": (400, "invalid_request_error", "invalid_request"),
    "InvalidField": (400, "invalid_request_error", "invalid_value"),
    "NotFound": (404, "invalid_request_error", "not_found"),
    "ModelNotFound": (404, "invalid_request_error", "model_not_found"),
    "MethodNotAllowed": (405, "invalid_request_error", "method_not_allowed"),
    "BodyTooLarge": (413, "invalid_request_error", "body_too_large"),
    "Unauthorized": (401, "authentication_error", "invalid_api_key"),
    "UpstreamRejected": (400, "upstream_error", "upstream_rejected"),
    "RateLimited": (429, "rate_limit_error", "upstream_rate_limited"),
    "UpstreamFailed": (502, "upstream_error", "upstream_error"),
    "UpstreamUnreachable": (502, "upstream_error", "upstream_unreachable"),
    "UpstreamTls": (502, "upstream_error", "upstream_tls"),
    "UpstreamConnectionError": (502, "upstream_error", "upstream_connection_error"),
    "UpstreamBadGateway": (502, "upstream_error", "upstream_error"),
    "UpstreamIncomplete": (502, "upstream_error", "upstream_incomplete"),
    "UpstreamProtocolError": (502, "upstream_error", "upstream_protocol_error"),
    "UpstreamTooLarge": (502, "upstream_error", "upstream_too_large"),
    "UpstreamEmpty": (502, "upstream_error", "upstream_empty_response"),
    "ToolCallInvalid": (502, "upstream_error", "tool_call_invalid"),
    "ResponseFormatInvalid": (502, "upstream_error", "response_format_invalid"),
    "UpstreamAuthRequired": (502, "upstream_error", "upstream_auth_required"),
    "UpstreamNotFound": (502, "upstream_error", "upstream_not_found"),
    "Overloaded": (503, "overloaded_error", "overloaded"),
    "ShuttingDown": (503, "overloaded_error", "shutting_down"),
    "CircuitOpen": (503, "overloaded_error", "circuit_open"),
    "UpstreamUnavailable": (503, "overloaded_error", "upstream_unavailable"),
    "TimedOut": (504, "timeout_error", "timeout"),
    "UpstreamConnectTimeout": (504, "timeout_error", "upstream_connect_timeout"),
    "UpstreamFirstEventTimeout": (504, "timeout_error", "upstream_first_event_timeout"),
    "UpstreamIdleTimeout": (504, "timeout_error", "upstream_idle_timeout"),
    "TotalTimeout": (504, "timeout_error", "total_timeout"),
    "InternalError": (500, "server_error", "internal_error"),
}


def test_the_family_is_the_contracts_table() -> None:
    assert {kind.__name__: (kind.status, kind.type, kind.code) for kind in family(GatewayError)} == TABLE


def test_the_tree_in_the_docstring_names_every_member_in_this_order() -> None:
    drawn = re.findall(r"^[│ ├└─]*([A-Z]\w+)(?: {2,}|$)", (errors.__doc__ or "").split("Statuses,")[0], re.MULTILINE)
    assert drawn == [kind.__name__ for kind in family(GatewayError)]


def names(flag: str) -> set[str]:
    """Return the names of the errors for which this is True."""
    return {kind.__name__ for kind in family(GatewayError) if getattr(kind(), flag)}


def test_which_errors_open_the_circuit() -> None:
    assert names("unhealthy") == {
        "UpstreamUnreachable",
        "UpstreamConnectionError",
        "UpstreamBadGateway",
        "UpstreamUnavailable",
        "UpstreamConnectTimeout",
        "UpstreamFirstEventTimeout",
    }


def test_after_which_errors_another_try_cannot_be_a_second_answer() -> None:
    assert names("not_taken") == {
        "RateLimited",
        "UpstreamUnreachable",
        "UpstreamTls",
        "UpstreamBadGateway",
        "Overloaded",
        "ShuttingDown",
        "CircuitOpen",
        "UpstreamUnavailable",
        "UpstreamConnectTimeout",
    }


@pytest.mark.parametrize("kind", family(GatewayError))
def test_every_error_says_what_happened_in_a_sentence(kind: type[GatewayError]) -> None:
    assert re.fullmatch(r"[A-Z].+\.", kind().message)


def test_every_error_says_something_of_its_own_unless_it_only_tells_whether_to_ask_again() -> None:
    assert [kind.__name__ for kind in family(GatewayError) if "message" not in vars(kind)] == ["UpstreamBadGateway"]
    assert str(InvalidRequest()) == InvalidRequest.message


def test_limits_always_tell_when_to_come_back() -> None:
    limiting = [kind for kind in family(GatewayError) if kind.status in (429, 503)]
    assert {kind.__name__: kind().retry_after for kind in limiting} == {
        "RateLimited": "5",
        "Overloaded": "5",
        "ShuttingDown": "1",
        "CircuitOpen": "5",
        "UpstreamUnavailable": "5",
    }
    limited = RateLimited(retry_after="17")
    assert (limited.retry_after, limited.upstream_retry_after) == ("17", "17")
    assert RateLimited().upstream_retry_after is None


def test_only_what_nobody_but_an_operator_can_mend_or_was_tried_again_forbids_a_retry() -> None:
    forbidding = [kind for kind in family(GatewayError) if kind().should_retry is False]
    assert forbidding == [
        *(UpstreamTls, ToolCallInvalid, ResponseFormatInvalid, UpstreamAuthRequired, UpstreamNotFound),
    ]
    assert GatewayError(should_retry=False).should_retry is False


def test_a_reason_is_the_operators_and_not_the_clients() -> None:
    error = UpstreamTls(reason="certificate is not valid for 'db.internal'")
    assert error.reason == "certificate is not valid for 'db.internal'"
    assert "internal" not in f"{error} {error_body(error)!r}"
    assert GatewayError().reason == ""


def test_a_field_is_named_neutrally_until_a_client_api_spells_it() -> None:
    error = InvalidField(("tools", 0, "name"), "it is too long.")
    assert (error.status, error.code, error.param) == (400, "invalid_value", "tools[0].name")
    assert error.message == str(error) == "tools[0].name: it is too long."
    error.spell(lambda path: f"/{path[0]}")
    assert (error.param, error.message, str(error)) == ("/tools", "/tools: it is too long.", "/tools: it is too long.")


def test_a_message_that_says_enough_does_not_name_the_field() -> None:
    error = InvalidField(("messages", 1), "No images here.", code="unsupported_image", is_named=False)
    assert (error.message, error.param, error.code) == ("No images here.", "messages[1]", "unsupported_image")


def test_a_copy_of_an_error_that_names_a_field_is_the_same() -> None:
    error = InvalidField(("a", 1), "no.", code="c", is_named=False)
    error.spell(lambda _: "b")
    assert vars(copy.copy(error)) == vars(error)
