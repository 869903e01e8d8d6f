"""The OpenAPI document of the whole HTTP API, generated from the endpoint tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tfserve import __version__
from tfserve.errors import Failure
from tfserve.web.api.endpoint import JSON, REF, Endpoint, Format, Schema
from tfserve.web.api.routes import MAX_KEY
from tfserve.web.http.responses import METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, STATUS

SchemaOf = Callable[[Any], Schema]

ERROR_STATUSES = tuple(sorted(map(str, {METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, *STATUS.values()})))

_WARNINGS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "present if the request has unknown fields; each entry suggests the intended field",
}
_ENVELOPE_ERROR: Schema = {
    "type": "object",
    "required": ["request_result", "result", "error"],
    "properties": {
        "request_result": {"const": False},
        "result": {"type": "string"},
        "error": {"$ref": REF.format(name=Failure.__name__)},
        "warnings": _WARNINGS,
    },
}
_PLAIN_ERROR: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_ERRORS: dict[Format, Schema] = {
    Format.ENVELOPE: _ENVELOPE_ERROR,
    Format.PLAIN: _PLAIN_ERROR,
    Format.EITHER: {"anyOf": [_ENVELOPE_ERROR, _PLAIN_ERROR]},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"},
    "description": "a repeated request with the same key refers to the same job",
}


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a token, if this server requires one"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same token"},
}


def openapi(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    endpoints = [*endpoints]
    types = [type_ for endpoint in endpoints for type_ in _types(endpoint)]
    schemas, components = msgspec.json.schema_components([*types, Failure], ref_template=REF)
    known = dict(zip(types, schemas, strict=False))
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, lambda type_: type_ if isinstance(type_, dict) else known[type_])
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TFserve",
            "version": __version__,
            "description": "Train, run and serve TensorFlow models over plain HTTP and JSON.",
        },
        "paths": paths,
        "security": [{"bearer": []}, {"apiKey": []}, {}],
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _types(endpoint: Endpoint) -> list[Any]:
    """The types whose schemas an operation contains."""
    found = [endpoint.request, endpoint.result, *endpoint.accepts.values()]
    return [each for each in found if each is not None and not isinstance(each, dict)]


def _operation(endpoint: Endpoint, schema_of: SchemaOf) -> Schema:
    parameters = [_parameter(endpoint, name, schema) for name, schema in endpoint.parameters.items()]
    operation: Schema = {
        "summary": endpoint.summary,
        "operationId": endpoint.name,
        "parameters": [*parameters, *([_IDEMPOTENCY_KEY] if endpoint.submits_job else [])],
        "responses": {
            "200": _response(endpoint.returns, endpoint.media, _result(endpoint, schema_of)),
            **{status: _response("error", (JSON,), _ERRORS[endpoint.format]) for status in ERROR_STATUSES},
            **{status: _response("other result", (JSON,), schema) for status, schema in endpoint.statuses.items()},
        },
    }
    if endpoint.scope is not None:
        operation["description"] = f"Scope of the token: {endpoint.scope}."
    bodies = ({} if endpoint.request is None else {JSON: endpoint.request}) | dict(endpoint.accepts)
    if bodies:
        content = {media: {"schema": schema_of(body)} for media, body in bodies.items()}
        operation["requestBody"] = {"required": endpoint.needs_body, "content": content}
    return operation


def _parameter(endpoint: Endpoint, name: str, schema: Schema) -> Schema:
    is_in_path = endpoint.is_in_path(name)
    parameter = {
        "name": name,
        "in": "path" if is_in_path else "query",
        "required": is_in_path,
        "schema": {key: value for key, value in schema.items() if key != "description"},
    }
    return parameter | ({"description": schema["description"]} if "description" in schema else {})


def _result(endpoint: Endpoint, schema_of: SchemaOf) -> Schema:
    if endpoint.format is not Format.ENVELOPE:
        return schema_of(endpoint.result)
    return {
        "type": "object",
        "required": ["request_result", "result"],
        "properties": {
            "request_result": {"const": True},
            "result": schema_of(endpoint.result),
            "warnings": _WARNINGS,
        },
    }


def _response(description: str, media: Iterable[str], schema: Schema) -> Schema:
    """A response that is JSON with this schema, or of another media type."""
    return {"description": description, "content": {kind: {"schema": schema if kind == JSON else {}} for kind in media}}
