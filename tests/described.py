"""Holds answers against the OpenAPI document, which must tell all that they hold: nothing more may be in them."""

import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema_rs


class Described:
    """A document, and what it says of answers."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._components = _closed(document["components"])

    def assert_fits(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The operation has this status with these headers, this media type, and a body that fits its schema."""
        answers = self._operation(method, path)["responses"]
        assert str(status) in answers, f"{method} {path} has no {status}: {body[:500]!r}"
        answer = self._resolved(answers[str(status)])
        self._assert_headers(answer["headers"], headers)
        kind = headers["content-type"].partition(";")[0]
        assert kind in answer["content"], f"{method} {path} has no {kind}"
        schema = answer["content"][kind]["schema"]
        match kind:
            case "application/json":
                self.assert_valid(json.loads(body), schema)
            case "text/event-stream":
                self._assert_events(body, schema)
            case _:
                self.assert_valid(body.decode(), schema)

    def assert_valid(self, value: Any, schema: dict[str, Any]) -> None:
        jsonschema_rs.validate({**schema, "components": self._components}, value)

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        path = path if path.startswith("/v1/") or f"/v1{path}" not in self._document["paths"] else f"/v1{path}"
        for template, item in self._document["paths"].items():
            if re.fullmatch(re.sub(r"\\{\w+\\}", ".+", re.escape(template)), path):
                return item[method.lower()]
        raise AssertionError(f"{path} is not in the document")

    def _assert_headers(self, described: dict[str, Any], headers: Mapping[str, str]) -> None:
        for name, reference in described.items():
            header = self._resolved(reference)
            assert name in headers or not header["required"], f"{name} is missing"
            if name in headers:
                self.assert_valid(headers[name], header["schema"])
        undescribed = {name.lower() for name in headers if name.lower().startswith("x-")} - set(described)
        assert undescribed <= {"x-accel-buffering", "x-content-type-options", "x-frame-options"}, undescribed

    def _assert_events(self, body: bytes, schema: dict[str, Any]) -> None:
        *events, end = body.decode().split("\n\n")
        assert end == ""
        assert events[-1] == "data: [DONE]"
        for event in events[:-1]:
            data = event.removeprefix("data: ")
            self.assert_valid({"data": data}, schema)
            self.assert_valid(json.loads(data), schema["properties"]["data"]["anyOf"][1]["contentSchema"])

    def _resolved(self, value: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in value:
            return value
        _, _, kind, name = value["$ref"].split("/")
        return self._document["components"][kind][name]


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(inner) for key, inner in schema.items()}
    return {"additionalProperties": False, **closed} if "properties" in schema and schema.get("type") else closed
