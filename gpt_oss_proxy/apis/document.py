"""What this service takes and answers, as an OpenAPI document.

Source: OpenAPI 3.1.1. Requests are described by the types that check them, errors by their classes; the rest is written
by hand, and the tests hold it against real answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gpt_oss_proxy import errors
from gpt_oss_proxy.apis.base import ClientApi
from gpt_oss_proxy.errors import GatewayError

Json = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_ABOUT = """One OpenAI API over upstreams that speak ChatKit, the AI SDK's protocols, or OpenAI's own.

Everything under /v1 also answers without it, and a POST below /openai/deployments/{model} or /deployments/{model}, as
Azure's clients ask. GET paths take HEAD, too; any other method is a 405 with `Allow`, any
other path a 404, both with the error object. A key is needed only where the operator has set some.
"""


def document(apis: Sequence[ClientApi], *, version: str) -> Json:
    """Return the whole document, for these client APIs."""
    described = [api.describe() for api in apis]
    paths = {f"/v1{path}": item for part in described for path, item in part.paths.items()}
    schemas = {name: schema for part in described for name, schema in part.schemas.items()}
    return {
        "openapi": "3.1.1",
        "info": {"title": "gpt_oss_proxy", "version": version, "description": _ABOUT, "license": _LICENSE},
        "servers": [{"url": "/"}],
        "security": [{}, {"key": []}],
        "paths": paths | _PATHS,
        "components": {
            "schemas": schemas | _SCHEMAS_OF_OURS,
            "headers": _HEADERS,
            "responses": {_name(status): _error_answer(status, kinds) for status, kinds in _family().items()},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "One of the operator's keys."}
            },
        },
    }


def reference(schema: str) -> Json:
    """Return a reference to a schema of the document."""
    return {"$ref": f"{_SCHEMAS}{schema}"}


def request_schemas(name: str, *types: type) -> Json:
    """Return the schemas of a body that fits all these types: the whole is called `name`, and its parts begin so."""
    found, parts = msgspec.json.schema_components(types, ref_template=f"{_SCHEMAS}{{name}}")
    # The names of our types are private; those in the document must not meet those of another API.
    renamed = {part: f"{name}{part.removeprefix('_')}" for part in parts}
    wholes = [parts.pop(schema["$ref"].removeprefix(_SCHEMAS)) for schema in found]
    body = {
        "type": "object",
        "properties": {field: schema for whole in wholes for field, schema in whole["properties"].items()},
        "required": [field for whole in wholes for field in whole["required"]],
    }
    return {name: _renamed(body, renamed)} | {
        renamed[part]: _renamed({key: value for key, value in schema.items() if key != "title"}, renamed)
        for part, schema in parts.items()
    }


def errors_of(*statuses: int) -> Json:
    """Return the answers of an operation that can fail with these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in statuses}


def headers_of(*further: str) -> Json:
    """Return the headers of an answer: those that all have, and these."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_EVERYWHERE, *further)}


def answer(description: str, media: Mapping[str, Json], *headers: str) -> Json:
    """Return an answer: media type → schema, and the headers that it may have besides those that all have."""
    content = {kind: {"schema": schema} for kind, schema in media.items()}
    return {"description": description, "headers": headers_of(*headers), "content": content}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return the schema with its references to these names changed."""
    if isinstance(value, dict):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names) for inner in value]
    if isinstance(value, str) and value.startswith(_SCHEMAS):
        return _SCHEMAS + names[value.removeprefix(_SCHEMAS)]
    return value


def _family() -> dict[int, list[type[GatewayError]]]:
    """Return all errors by their status."""
    found: dict[int, list[type[GatewayError]]] = {}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, GatewayError):
            found.setdefault(kind.status, []).append(kind)
    return dict(sorted(found.items()))


def _name(status: int) -> str:
    return f"error-{status}"


def _error_answer(status: int, kinds: list[type[GatewayError]]) -> Json:
    headers = ["x-should-retry"]
    if any(kind.retry_after for kind in kinds):
        headers.append("retry-after")
    if status == 401:
        headers.append("www-authenticate")
    if status == 405:
        headers.append("allow")
    codes = ", ".join(f"`{code}`" for code in dict.fromkeys(kind.code for kind in kinds))
    return answer(
        f"{kinds[0].message}\n\nCodes, among others: {codes}.", {"application/json": reference("Error")}, *headers
    )


def _header(description: str, *, required: bool = False, **schema: Any) -> Json:
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


_EVERYWHERE = ("x-request-id", "openai-processing-ms")
_HEADERS: Json = {
    "x-request-id": _header(
        "The request's own, if it has at most 128 visible ASCII characters; else a new one.",
        required=True,
        maxLength=128,
    ),
    "openai-processing-ms": _header("Milliseconds until the head of this answer.", required=True, pattern="^[0-9]+$"),
    "x-ignored-params": _header("The request's fields that had no effect, separated by commas."),
    "x-upstream-id": _header("The upstream's own id of the answer."),
    "x-should-retry": _header("`false`: asking again cannot help, or has been tried.", enum=["true", "false"]),
    "retry-after": _header("When to ask again: seconds, or a date."),
    "www-authenticate": _header("How to send a key.", required=True),
    "allow": _header("The methods that this path takes.", required=True),
}
_LICENSE = {"name": "MIT", "identifier": "MIT"}
_STRING: Json = {"type": "string"}
_SCHEMAS_OF_OURS: Json = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string", "description": "What happened and what to do.", "minLength": 1},
                    "type": {"enum": sorted({kind.type for kinds in _family().values() for kind in kinds})},
                    "param": {"type": ["string", "null"], "description": "The path of the field at fault."},
                    "code": {"type": "string", "description": "What exactly went wrong, for programs."},
                },
            }
        },
    },
    "Model": {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": {"type": "string", "description": "What to ask for; may hold `/`."},
            "object": {"const": "model"},
            "created": {"type": "integer", "description": "Unix seconds, 0 if it is not known."},
            "owned_by": _STRING,
            "description": {"type": "string", "description": "Set where something else answers in the model's place."},
        },
    },
    "Models": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": reference("Model")}},
    },
    "Liveness": {
        "type": "object",
        "required": ["status", "version"],
        "properties": {"status": {"const": "ok"}, "version": _STRING, "commit": _STRING},
    },
    "Readiness": {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"const": "ready"},
            "circuits": {
                "type": "object",
                "description": "The circuit of each upstream.",
                "additionalProperties": {"enum": ["closed", "half_open", "open"]},
            },
        },
    },
}


def _get(name: str, summary: str, ok: Json, *failures: int, public: bool = True, **more: Any) -> Json:
    operation: Json = {"operationId": name, "summary": summary, "responses": {"200": ok, **errors_of(400, *failures)}}
    if public:
        operation["security"] = []
    return {"get": operation | more}


_PATHS: Json = {
    "/v1/models": _get(
        "listModels",
        "What can be asked for now.",
        answer("All models.", {"application/json": reference("Models")}),
        401,
        public=False,
    ),
    "/v1/models/{id}": _get(
        "getModel",
        "One model.",
        answer("The model.", {"application/json": reference("Model")}),
        *(401, 404, 429, 502, 503, 504),  # its upstream may have to be asked whether it exists
        public=False,
        parameters=[{"name": "id", "in": "path", "required": True, "schema": _STRING, "example": "gpt-4o"}],
    ),
    "/": _get(
        "root",
        "`ok` for programs, a page for browsers.",
        answer("Alive.", {"text/plain": _STRING, "text/html": _STRING}),
    ),
    "/healthz": _get("isAlive", "The process is alive.", answer("It is.", {"application/json": reference("Liveness")})),
    "/readyz": _get("isReady", "It takes work.", answer("It does.", {"application/json": reference("Readiness")}), 503),
    "/metrics": _get("metrics", "Prometheus metrics.", answer("All workers' together.", {"text/plain": _STRING})),
    "/openapi.json": _get("openapi", "This document.", answer("It.", {"application/json": {"type": "object"}})),
}
