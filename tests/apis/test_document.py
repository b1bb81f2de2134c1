"""The document is one by its own standard, and says of requests what their types say."""

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import msgspec
from schemathesis.specs.openapi.definitions import OPENAPI_31

from gpt_oss_proxy.apis.base import Description
from gpt_oss_proxy.apis.document import document, errors_of, reference, request_schemas
from gpt_oss_proxy.app import CLIENT_APIS
from gpt_oss_proxy.config.settings import Settings
from tests.doubles import SERVICES

APIS = [build(Settings(), SERVICES) for build in CLIENT_APIS]
DOCUMENT = document(APIS, version="1.2.3")


def nodes(value: Any, path: str = "#") -> Iterator[tuple[str, Any]]:
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from nodes(inner, f"{path}/{key}")


def test_it_is_an_openapi_document() -> None:
    faults = [
        (error.instance_path, error.message)
        for error in jsonschema_rs.Draft202012Validator(OPENAPI_31).iter_errors(DOCUMENT)
    ]
    assert faults == []
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_every_reference_leads_somewhere_and_nothing_is_described_in_vain() -> None:
    references = {node["$ref"] for _, node in nodes(DOCUMENT) if isinstance(node, dict) and "$ref" in node}
    places = {path for path, _ in nodes(DOCUMENT)}
    assert references <= places
    components = {path for path in places if re.fullmatch("#/components/(schemas|headers|responses)/[^/]+", path)}
    # A method that a path does not take belongs to no operation, and of bugs nothing is promised.
    assert components - references == {"#/components/responses/error-405", "#/components/responses/error-500"}


def test_every_operation_has_a_name_of_its_own_and_says_in_words_what_it_does() -> None:
    operations = [operation for item in DOCUMENT["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"].endswith(".") for operation in operations)


def test_each_status_of_our_errors_tells_its_codes_and_headers() -> None:
    answers = DOCUMENT["components"]["responses"]
    assert set(answers) == {f"error-{status}" for status in (400, 401, 404, 405, 413, 429, 500, 502, 503, 504)}
    assert "`upstream_connect_timeout`" in answers["error-504"]["description"]
    with_retry_after = {name for name, answer in answers.items() if "retry-after" in answer["headers"]}
    assert with_retry_after == {"error-429", "error-503"}
    assert "www-authenticate" in answers["error-401"]["headers"]
    assert "allow" in answers["error-405"]["headers"]


class _Inner(msgspec.Struct):
    a: int


class _One(msgspec.Struct):
    inner: list[_Inner]


class _Two(msgspec.Struct):
    b: str | None = None


def test_a_request_is_all_its_types_at_once_under_names_of_its_own() -> None:
    inner = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert request_schemas("Request", _One, _Two) == {
        "Request": {
            "type": "object",
            "properties": {
                "inner": {"type": "array", "items": reference("RequestInner")},
                "b": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            },
            "required": ["inner"],
        },
        "RequestInner": inner,
    }


def test_a_further_client_api_brings_its_own_part() -> None:
    part = Description({"/say": {"post": {"responses": errors_of(400)}}, "/say/{id}": {}}, {"Say": {"type": "object"}})
    found = document([SimpleNamespace(describe=lambda: part)], version="1")  # type: ignore[list-item]
    assert list(found["paths"])[:2] == ["/v1/say", "/v1/say/{id}"]
    assert found["components"]["schemas"]["Say"] == {"type": "object"}
    assert "/v1/chat/completions" not in found["paths"]
