"""What an upstream says of its failure, in any form, is the right error of ours."""

import json
from typing import Any

import pytest

from gpt_oss_proxy.errors import (
    GatewayError,
    ModelNotFound,
    RateLimited,
    UpstreamAuthRequired,
    UpstreamBadGateway,
    UpstreamFailed,
    UpstreamNotFound,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gpt_oss_proxy.upstreams.status_error import (
    Said,
    StatusError,
    error_from_status,
    failure_in,
    failure_of,
    read_error,
)

FAILED = UpstreamFailed.message
REPORTS = "The model's server reports an error: "
REJECTED = UpstreamRejected.message
LIMITED = RateLimited.message
BUSY = UpstreamUnavailable.message
PAGE = "<!doctype html><title>Bad gateway at upstream.example</title>"


def refused(status: int, text: str = "", code: str = "") -> StatusError:
    return StatusError(status, Said(text, code))


# Bodies


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", Said()),
        (b"plain", Said("plain")),
        (b"caf\xe9", Said("caf\ufffd")),
        (b'"quoted"', Said("quoted")),
        (b"7", Said()),
        (b"[1]", Said()),
        (b"null", Said()),
        (b"{}", Said()),
        (b'{"error":null}', Said()),
        (b'{"error":7}', Said()),
        (b'{"error":"boom"}', Said("boom")),  # Ollama
        (b'{"message":"boom","code":"x"}', Said("boom", "x")),
        (b'{"error":{"message":"boom","code":7}}', Said("boom")),
        (b'{"error":{"message":"boom","code":"","type":"x"}}', Said("boom", "x")),
        (b'{"error":{"message":"","detail":"boom"}}', Said("boom")),
        (b'{"error":{"message":{"a":1}}}', Said('{"a": 1}')),
        (b'{"error":["boom"]}', Said("boom")),
        (b'{"error":{"message":"half \\ud83d"}}', Said("half \ud83d")),
        (b'[{"error":{"code":400,"message":"boom","status":"INVALID_ARGUMENT"}}]', Said("boom", "", "", 400)),  # Google
        (b'{"error":{"code":429,"message":"boom","status":"RESOURCE_EXHAUSTED"}}', Said("boom", "", "", 429)),
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"boom"}}',  # Anthropic
            Said("boom", "overloaded_error", "", 503),
        ),
        (
            b'{"object":"error","message":"boom","type":"BadRequestError","param":"seed","code":400}',  # vLLM
            Said("boom", "BadRequestError", "seed", 400),
        ),
        (b'{"detail":"boom"}', Said("boom")),  # FastAPI
        (b'{"detail":[{"loc":["body","top_p"],"msg":"bad"},{"msg":"worse"}]}', Said("body.top_p: bad; worse")),
        (b'{"detail":{"error":{"message":"boom","code":"x"}}}', Said("boom", "x")),
        (
            b'{"object":"error","message":{"detail":[{"loc":["body","n"],"msg":"bad"}]},"type":"x"}',  # Mistral
            Said("body.n: bad", "x"),
        ),
        (b'{"statusCode":400,"message":"boom","error":"Bad Request"}', Said("boom", "", "", 400)),  # Nest
        (b'{"success":false,"errors":[{"code":7,"message":"boom"}]}', Said("boom")),  # Cloudflare
        (b'{"error":{"code":"429"},"message":"boom"}', Said("boom", "429", "", 429)),
        (b'{"error":{"message":"boom"},"status_code":503}', Said("boom", "", "", 503)),
        (b'{"code":500,"msg":"boom","success":false}', Said("boom", "", "", 500)),  # Zhipu
        (b'{"error":{"message":"boom","type":"rate_limit_error"}}', Said("boom", "rate_limit_error", "", 429)),
        (b'{"error":{"message":"boom","code":200}}', Said("boom")),
        (b'{"error":{"message":"boom","code":true}}', Said("boom")),
        (b'{"error":{"message":"boom","param":null}}', Said("boom")),
        (b'{"error":{"message":"boom","param":["x"]}}', Said("boom")),
        (b'{"error":{"message":"boom","param":"messages[0].role"}}', Said("boom", "", "messages[0].role")),
    ],
)
def test_an_error_s_body_is_read_in_every_form(body: bytes, said: Said) -> None:
    assert read_error(body) == said


@pytest.mark.parametrize(
    ("head", "begin", "inner", "end", "tail"),
    [
        (b"", b'{"error":', b'"x"', b"}", b""),
        (b"", b'[{"error":', b'"x"', b"}]", b""),
        (b"", b'{"detail":', b'"x"', b"}", b""),
        (b"", b'{"detail":[{"msg":', b'"x"', b"}]}", b""),
        (b'{"message":', b"[", b"", b"]", b"}"),
        (b'{"error":{"message":', b"[", b"", b"]", b"}}"),
        (b'{"detail":[{"msg":', b"[", b"", b"]", b"}]}"),
        (b'{"detail":[{"msg":"x","loc":[', b"[", b"", b"]", b"]}]}"),
        (b'{"error":{"code":', b"[", b"", b"]", b"}}"),
    ],
)
def test_a_bottomless_body_is_read_as_far_as_it_makes_sense(
    head: bytes, begin: bytes, inner: bytes, end: bytes, tail: bytes
) -> None:
    """Above all where it is just not too deep for the parser, which depends on how deep the stack is."""
    for depth in (*range(290, 340), *range(440, 510), *range(900, 1001), 100_000):
        said = read_error(head + begin * depth + inner + end * depth + tail)
        assert type(error_from_status(StatusError(400, said))) is UpstreamRejected


# Statuses


@pytest.mark.parametrize(
    ("status", "body", "error", "code", "message"),
    [
        (400, "No user message", UpstreamRejected, "upstream_rejected", REJECTED + " It said: No user message"),
        (400, PAGE, UpstreamRejected, "upstream_rejected", REJECTED),
        (400, {"error": {"message": "Too long", "code": "context_length_exceeded"}},
         UpstreamRejected, "context_length_exceeded", REJECTED + " It said: Too long"),
        (400, {"error": {"message": "Filtered.", "code": "content_filter"}},
         UpstreamRejected, "content_filter", REJECTED + " It said: Filtered."),
        (400, {"error": {"message": "No.", "code": "some_other"}},
         UpstreamRejected, "upstream_rejected", REJECTED + " It said: No."),
        (413, "", UpstreamRejected, "upstream_rejected", REJECTED),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, UpstreamRejected, "upstream_rejected",
         REJECTED + " It said: body: bad"),
        (401, "Wrong key sk-12345", UpstreamAuthRequired, "upstream_auth_required", UpstreamAuthRequired.refused),
        (403, "", UpstreamAuthRequired, "upstream_auth_required", UpstreamAuthRequired.refused),
        (404, "nothing here", UpstreamNotFound, "upstream_not_found", UpstreamNotFound.message),
        (429, {"error": "scripted"}, RateLimited, "upstream_rate_limited", LIMITED + " It said: scripted"),
        (429, {"detail": "scripted"}, RateLimited, "upstream_rate_limited", LIMITED + " It said: scripted"),
        (500, "Internal Server Error", UpstreamFailed, "upstream_error", REPORTS + "Internal Server Error"),
        (500, "", UpstreamFailed, "upstream_error", FAILED),
        (502, PAGE, UpstreamBadGateway, "upstream_error", FAILED),
        (502, "no route", UpstreamBadGateway, "upstream_error", REPORTS + "no route"),
        (503, PAGE, UpstreamUnavailable, "upstream_unavailable", BUSY),
        (503, {"error": "loading"}, UpstreamUnavailable, "upstream_unavailable", BUSY + " It said: loading"),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
         UpstreamUnavailable, "upstream_unavailable", BUSY + " It said: Overloaded"),
        (504, PAGE, UpstreamBadGateway, "upstream_error", FAILED),
        (304, "", UpstreamFailed, "upstream_error", FAILED),
    ],
)  # fmt: skip
def test_each_status_is_an_error_of_ours(
    status: int, body: Any, error: type[GatewayError], code: str, message: str
) -> None:
    said = read_error(body.encode() if isinstance(body, str) else json.dumps(body).encode())
    found = error_from_status(StatusError(status, said))
    assert (type(found), found.code, found.message, found.param) == (error, code, message, None)


@pytest.mark.parametrize(
    ("status", "text", "code", "error"),
    [
        (404, "Model not found", "", ModelNotFound),
        (404, "The model `gpt-9` does not exist.", "", ModelNotFound),
        (404, "No such thing", "model_not_found", ModelNotFound),
        (404, "Not Found", "", UpstreamNotFound),
        (404, "<html>no model here", "", UpstreamNotFound),
        (400, "Model not found", "", UpstreamRejected),
        (500, "Model not found", "", UpstreamFailed),
    ],
)
def test_a_404_that_speaks_of_the_model_means_the_model(
    status: int, text: str, code: str, error: type[GatewayError]
) -> None:
    assert type(error_from_status(refused(status, text, code), "gpt-9")) is error


def test_a_model_that_the_server_does_not_know_is_named() -> None:
    error = error_from_status(refused(404, "no model"), "gpt-9")
    assert (error.param, error.message) == ("model", "The model's server does not know 'gpt-9'. Ask for another model.")


def test_without_a_model_that_was_asked_for_only_the_code_tells_a_missing_model() -> None:
    assert type(error_from_status(refused(404, "Cannot GET /v1/models"))) is UpstreamNotFound
    error = error_from_status(refused(404, "no", "model_not_found"))
    assert (type(error), error.message) == (ModelNotFound, ModelNotFound.message)


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "the request exceeds the available context size (4096 tokens), try increasing it",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Input is too long for requested model.",
        "context_length_exceeded",
        "exceed_context_size_error",
        "The input exceeds the model's context window",
        "Too many input tokens",
    ],
)
def test_a_request_that_is_too_long_has_openais_code_for_it(text: str) -> None:
    assert error_from_status(refused(400, text)).code == "context_length_exceeded"


@pytest.mark.parametrize(
    "text", ["the name is too long", "Unknown field context_length", "This is too much in this context. Size is 3."]
)
def test_other_lengths_have_no_such_code(text: str) -> None:
    assert error_from_status(refused(400, text)).code == "upstream_rejected"


def test_a_filter_that_speaks_of_lengths_keeps_its_code() -> None:
    assert error_from_status(refused(400, "prompt is too long", "content_filter")).code == "content_filter"


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimited), (503, UpstreamUnavailable), (529, UpstreamUnavailable)]
)
@pytest.mark.parametrize(("sent", "passed_on"), [("7", "7"), (None, "5")])
def test_a_retry_after_is_passed_on(status: int, error: type[GatewayError], sent: str | None, passed_on: str) -> None:
    found = error_from_status(StatusError(status, Said(), sent))
    assert (type(found), found.retry_after) == (error, passed_on)


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("see https://10.0.0.7:8080/internal?key=1 for more", "see […] for more"),
        ("at inference.internal.example:8443 and localhost:3000", "at […] and […]"),
        ("key sk-proj-abcdef and Bearer abc.def", "key […] and […]"),
        ("in /srv/app/main.py", "in […]"),
        ("  a\n\tb  ", "a b"),
        ("x" * 300, "x" * 200 + "…"),
        ("\ud83d", "?"),
    ],
)
@pytest.mark.parametrize("status", [400, 429, 500, 502, 503])
def test_an_error_s_text_is_quoted_on_one_line_without_urls_hosts_paths_and_keys(
    status: int, said: str, quoted: str
) -> None:
    head = {400: REJECTED + " It said: ", 429: LIMITED + " It said: ", 503: BUSY + " It said: "}.get(status, REPORTS)
    assert error_from_status(refused(status, said)).message == head + quoted


@pytest.mark.parametrize("said", ['Traceback (most recent call last):\n File "x"', "  <html>", ""])
def test_a_traceback_or_a_page_is_not_quoted(said: str) -> None:
    assert error_from_status(refused(400, said)).message == REJECTED


# Within an answer


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        ({"error": {"message": "boom"}}, UpstreamFailed, REPORTS + "boom"),
        ({"error": "boom"}, UpstreamFailed, REPORTS + "boom"),
        ({"error": {"message": "at http://10.0.0.1"}}, UpstreamFailed, REPORTS + "at […]"),
        ({"error": 7}, UpstreamFailed, FAILED),
        ({"error": True, "message": "boom"}, UpstreamFailed, REPORTS + "boom"),
        ({"error": {"message": "boom"}, "choices": [{"delta": {}}]}, UpstreamFailed, REPORTS + "boom"),
        ({"error": {"message": "slow", "code": 429}, "choices": []}, RateLimited, LIMITED + " It said: slow"),
        ({"error": {"message": "slow", "code": "429"}}, RateLimited, LIMITED + " It said: slow"),
        ({"error": {"message": "slow", "type": "rate_limit_exceeded"}}, RateLimited, LIMITED + " It said: slow"),
        ({"error": {"message": "slow", "code": 1302, "status": 429}}, RateLimited, LIMITED + " It said: slow"),
        ({"error": "slow", "status": 429}, RateLimited, LIMITED + " It said: slow"),
        ({"error": {"message": "full", "code": 529}}, UpstreamUnavailable, BUSY + " It said: full"),
        ({"error": {"message": "who?", "code": 401}}, UpstreamAuthRequired, UpstreamAuthRequired.refused),
        ({"error": {"message": "no", "code": "model_not_found"}}, ModelNotFound, ModelNotFound.message),
        ({"error": {"message": "no", "code": 700}}, UpstreamFailed, REPORTS + "no"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "full"}}, UpstreamUnavailable,
         BUSY + " It said: full"),
        ({"object": "error", "message": "bad", "code": 400}, UpstreamRejected, REJECTED + " It said: bad"),
        ({"object": "error"}, UpstreamFailed, FAILED),
        ({"detail": "boom"}, UpstreamFailed, REPORTS + "boom"),
        ({"detail": [{"msg": "bad", "loc": ["a"]}]}, UpstreamFailed, REPORTS + "a: bad"),
        ({"errors": [{"message": "boom"}], "success": False}, UpstreamFailed, REPORTS + "boom"),
        ({"message": "boom"}, UpstreamFailed, REPORTS + "boom"),
        ({"code": 500, "msg": "boom"}, UpstreamFailed, REPORTS + "boom"),
    ],
)  # fmt: skip
def test_a_failure_within_an_answer_is_of_the_kind_that_its_number_or_word_means(
    record: dict[str, Any], error: type[GatewayError], message: str
) -> None:
    found = failure_in(record)
    assert (type(found), found and found.message) == (error, message)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"error": None, "choices": []},
        {"choices": [], "message": "told beside an answer", "detail": "x"},
        {"message": {"role": "assistant", "content": "Hi"}},
        {"message": ""},
        {"object": "list", "data": []},
        {"usage": {}},
        {"type": "ping"},
    ],
)
def test_what_is_no_failure_is_none(record: dict[str, Any]) -> None:
    assert failure_in(record) is None


def test_a_filter_s_code_is_kept_within_an_answer_too() -> None:
    error = failure_of({"message": "Filtered.", "code": "content_filter", "status": 400})
    assert (type(error), error.code) == (UpstreamRejected, "content_filter")
    error = failure_of({"message": "Too long", "code": "context_length_exceeded"})
    assert (type(error), error.code) == (UpstreamRejected, "context_length_exceeded")


@pytest.mark.parametrize(
    ("body", "status", "text", "code"),
    [
        ({"Message": "slow down"}, 429, "slow down", "upstream_rate_limited"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": "no GPU"}}},
            500,
            "no GPU",
            "upstream_error",
        ),
        (
            {"error": {"message": "Filtered", "code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            400,
            "Filtered",
            "content_filter",
        ),
        ({"error": {"code": "DeploymentNotFound", "message": "No deployment"}}, 404, "", "model_not_found"),
        ({"error": {"code": "model_not_found", "message": "No"}}, 400, "", "model_not_found"),
    ],
)
def test_errors_of_further_servers_are_read(body: object, status: int, text: str, code: str) -> None:
    error = error_from_status(StatusError(status, read_error(json.dumps(body).encode())), "m")
    assert (error.code, text in error.message) == (code, True)
