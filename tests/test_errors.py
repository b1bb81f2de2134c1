"""The family of errors is the contract's table, and foreign text loses its secrets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_proxy import errors
from gpt_oss_proxy.errors import (
    GatewayError,
    InvalidRequest,
    RateLimited,
    ResponseFormatInvalid,
    ToolCallInvalid,
    UpstreamAuthRequired,
    UpstreamNotFound,
    UpstreamTls,
    quote,
)


def family(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(member for child in kind.__subclasses__() for member in family(child))]


TABLE = {
    "GatewayError": (500, "server_error", "internal_error"),
    "InvalidRequest": (400, "invalid_request_error", "invalid_request"),
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
    assert "internal" not in f"{error} {error.body()}"
    assert GatewayError().reason == ""


def test_the_body_is_openais() -> None:
    error = InvalidRequest("Too hot.", code="invalid_type", param="temperature")
    assert error.body() == {
        "error": {
            "message": "Too hot.",
            "type": "invalid_request_error",
            "param": "temperature",
            "code": "invalid_type",
        }
    }
    assert str(error) == "Too hot."


@pytest.mark.parametrize(
    ("foreign", "quoted"),
    [
        ("context too long", "context too long"),
        ("  two \n\t lines  ", "two lines"),
        ("see https://api.example.com/v1?key=1 now", "see […] now"),
        ("postgres://user:secret@db/x failed", "[…] failed"),
        ("Incorrect API key: sk-proj-abcd1234.", "Incorrect API key: […]."),
        ("https://a.example/" + "a" * 760 + " at db.internal.example", "[…] at"),
        ("hf_abcdefgh", "[…]"),
        ("Authorization: Bearer abc.def", "Authorization: […]"),
        ("Authorization: Basic bGVha2Vk==", "Authorization: […]"),
        ('{"password": "hunter2"} token=abc', '{"[…] […]'),
        ("AKIAIOSFODNN7EXAMPLE eyJhbGciOi.eyJzdWIi.c2ln", "[…] […]"),
        (
            "no Qwen2.5-Coder-32B-Instruct, gpt-4o-mini-2024-07-18",
            "no Qwen2.5-Coder-32B-Instruct, gpt-4o-mini-2024-07-18",
        ),
        ("connect to 10.0.0.7:8080 refused", "connect to […] refused"),
        ("connect ECONNREFUSED ::1:11434", "connect ECONNREFUSED […]"),
        ("connect to 2001:db8::8a2e:370:7334 failed", "connect to […] failed"),
        ("connect to 2001:db8:1:2:3:4:5:6 failed", "connect to […] failed"),
        ("no route to fe80::1", "no route to […]"),
        ("getaddrinfo ENOTFOUND chat.internal.example", "getaddrinfo ENOTFOUND […]"),
        ("localhost:3000 is down", "[…] is down"),
        ("no such file /etc/app/config.json", "no such file […]"),
        ("std::bad_alloc at 12:30:45", "std::bad_alloc at 12:30:45"),
        ("1.5 tokens a second, 3/4 done", "1.5 tokens a second, 3/4 done"),
        ("<html><body>nginx", ""),
        ("\n <!doctype html>", ""),
        ("x Traceback (most recent call last): y", ""),
        ("\ud800 half", "? half"),
        ("", ""),
    ],
)
def test_foreign_text_is_quoted_without_its_secrets(foreign: str, quoted: str) -> None:
    assert quote(foreign) == quoted


def test_a_quote_is_short() -> None:
    assert quote("a" * 10**6) == "a" * 200 + "…"
    assert quote("a" * 200) == "a" * 200
    assert [quote(" " * size + "a b c") for size in (795, 796)] == ["a b c", "a b"]  # so much of it is read


@given(st.text(st.sampled_from("a1.:-/_ \n\ud800"), max_size=1000) | st.text())
def test_a_quote_is_always_one_short_line_that_utf8_can_hold(text: str) -> None:
    quoted = quote(text)
    assert quoted.splitlines() in ([], [quoted])
    assert len(quoted.encode()) <= 4 * 201


def test_the_quote_of_an_awkward_text_is_quick() -> None:
    for awkward in ("a." * 10**6, "a-" * 10**6, "::" * 10**6, "1:" * 10**6, "/a" * 10**6, " " * 10**6):
        assert len(quote(awkward)) <= 201


@pytest.mark.parametrize("path", ["body.temperature: too high", "messages.1.reasoning", "tools.0.function.name"])
def test_the_path_of_a_field_is_no_host(path: str) -> None:
    assert quote(f"at {path}") == f"at {path}"


@pytest.mark.parametrize("host", ["db.corp.internal", "body-1.corp.internal:80", "x.messages.corp.example"])
def test_a_host_is_none_of_them(host: str) -> None:
    assert quote(f"at {host}") == "at […]"
