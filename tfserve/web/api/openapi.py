"""The OpenAPI document of the whole HTTP API, generated from the endpoint tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tfserve import __version__
from tfserve.errors import Failure
from tfserve.web.api.endpoint import BINARY, JSON, REF, Endpoint, Format, Schema, Tag
from tfserve.web.api.generator_schemas import VALUE, generator_schema, sized
from tfserve.web.api.routes import MAX_KEY
from tfserve.web.http.guard import HEALTH
from tfserve.web.http.responses import METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, STATUS

SchemaOf = Callable[[Any], Schema]

ERROR_STATUSES = tuple(sorted(map(str, {METHOD_NOT_ALLOWED, REQUEST_TIMEOUT, *STATUS.values()})))
"""The statuses of all error responses."""
MIN_SHARED_BYTES = 100
"""Parameters with less JSON are not shorter as references."""
ERROR, WARNINGS = "Error", "Warnings"
"""The names of the schemas that are not generated from a type."""

TAGS = {
    Tag.SERVER: "The server itself: status, metrics, and documents that describe the API.",
    Tag.WORKSPACES: "Isolated Python sessions, each with a job queue, variables and at most one model.",
    Tag.JOBS: "Scripts that run in a workspace, their output and results.",
    Tag.MODELS: "Deploy, update, scale and run the model of a workspace.",
    Tag.V1: "Predictions with TensorFlow Serving's REST API.",
    Tag.V2: "Predictions with the Open Inference Protocol, version 2, and Triton's extensions.",
    Tag.TRAINING: "Train models on folders of images.",
    Tag.UPLOADS: "Send models, data and scripts to the server.",
    Tag.FILES: "The files in the folder of a workspace.",
    Tag.BATCHES: "Models on files of rows or images, deferred predictions, and callbacks.",
    Tag.ACCESS: "Access tokens and the audit log, for administrators.",
}
_ERROR: Schema = {
    "type": "object",
    "description": (
        "In the workspace API, `error` is an object and `result` is its message."
        " In v1, v2 and the training API, `error` is the message."
    ),
    "required": ["error"],
    "additionalProperties": True,
    "properties": {
        "error": {"anyOf": [{"$ref": REF.format(name=Failure.__name__)}, {"type": "string"}]},
        "request_result": {"type": "boolean", "description": "false"},
        "result": {"type": "string"},
        "field": {"type": "string", "description": "training API: the field of the request that is wrong"},
        "taskId": {"type": "string"},
        "warnings": {"$ref": REF.format(name=WARNINGS)},
    },
}
_SCHEMAS: dict[str, Schema] = {
    ERROR: _ERROR,
    VALUE: {"description": "any JSON value"},
    WARNINGS: {
        "type": "array",
        "items": {"type": "string"},
        "description": "present if the request has unknown fields; each entry suggests the intended field",
    },
}
_ERROR_RESPONSE: Schema = {
    "description": f"An error. Statuses: {', '.join(ERROR_STATUSES)}.",
    "headers": {
        "Retry-After": {
            "schema": sized({"type": "integer"}),
            "description": "seconds after which to try again (429, 503)",
        },
        "X-Request-Id": {"schema": {"type": "string"}, "description": "the id of the request in the logs"},
    },
    "content": {JSON: {"schema": {"$ref": REF.format(name=ERROR)}}},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": MAX_KEY, "pattern": "^[ -~]+$"},
    "description": "a repeated request with the same key refers to the same job",
}


_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a token, if this server requires one"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same token"},
}


def openapi(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document. The address of the server is relative to that of the document."""
    endpoints = [*endpoints]
    types = [type_ for endpoint in endpoints for type_ in _types(endpoint)]
    schemas, components = msgspec.json.schema_components([*types, Failure], ref_template=REF)
    known = dict(zip(types, map(generator_schema, schemas), strict=False))
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, lambda type_: type_ if isinstance(type_, dict) else known[type_])
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    parameters = _share_parameters([each for path in paths.values() for each in path.values()])
    used = {endpoint.tag for endpoint in endpoints}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TFserve",
            "version": __version__,
            "description": "Train, run and serve TensorFlow models over plain HTTP and JSON.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "this server"}],
        "tags": [{"name": tag, "description": text} for tag, text in TAGS.items() if tag in used],
        "paths": paths,
        "security": [{"bearer": []}, {"apiKey": []}, {}],
        "components": {
            "schemas": {name: generator_schema(schema) for name, schema in components.items()} | _SCHEMAS,
            "parameters": parameters,
            "responses": {ERROR: _ERROR_RESPONSE},
            "securitySchemes": _SECURITY,
        },
    }


def _types(endpoint: Endpoint) -> list[Any]:
    """The types whose schemas an operation contains."""
    found = [endpoint.request, endpoint.result, *endpoint.accepts.values(), *endpoint.statuses.values()]
    return [each for each in found if each is not None and not isinstance(each, dict)]


def _operation(endpoint: Endpoint, schema_of: SchemaOf) -> Schema:
    operation: Schema = {
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "operationId": endpoint.name,
        "responses": {
            "200": _response(endpoint.returns, endpoint.media, _result(endpoint, schema_of)),
            **{status: _other_result(status, schema_of(type_)) for status, type_ in endpoint.statuses.items()},
            "default": {"$ref": f"#/components/responses/{ERROR}"},
        },
    }
    if parameters := _parameters(endpoint):
        operation["parameters"] = parameters
    if endpoint.path.startswith(HEALTH):
        operation["security"] = []
    if endpoint.scope is not None:
        operation["description"] = f"Token scope: {endpoint.scope}"
    bodies = ({} if endpoint.request is None else {JSON: endpoint.request}) | dict(endpoint.accepts)
    if bodies:
        content = {media: {"schema": schema_of(body)} for media, body in bodies.items()}
        if endpoint.example is not None:
            content[JSON]["example"] = endpoint.example
        operation["requestBody"] = {"required": _needs_body(endpoint), "content": content}
    return operation


def _needs_body(endpoint: Endpoint) -> bool:
    """An empty body counts as {}, which is refused if a field is required."""
    request = endpoint.request
    if endpoint.needs_body or request is None or not issubclass(request, msgspec.Struct):
        return endpoint.needs_body
    return any(field.required for field in msgspec.structs.fields(request))


def _parameters(endpoint: Endpoint) -> list[Schema]:
    in_url = [
        _parameter(name, "path" if endpoint.is_in_path(name) else "query", schema)
        for name, schema in endpoint.parameters.items()
    ]
    headers = [_parameter(name, "header", schema) for name, schema in endpoint.headers.items()]
    return [*in_url, *headers, *([_IDEMPOTENCY_KEY] if endpoint.submits_job else [])]


def _share_parameters(operations: list[Schema]) -> dict[str, Schema]:
    """Replaces long parameters that several operations have by references, and returns them by name."""
    uses = Counter(msgspec.json.encode(each) for operation in operations for each in operation.get("parameters", ()))
    shared: dict[str, bytes] = {}
    for encoded, count in sorted(uses.items(), key=lambda use: -use[1] * len(use[0])):
        if count > 2 and len(encoded) > MIN_SHARED_BYTES:
            shared.setdefault(msgspec.json.decode(encoded)["name"], encoded)
    names = {encoded: name for name, encoded in shared.items()}
    for operation in operations:
        for number, parameter in enumerate(operation.get("parameters", ())):
            if name := names.get(msgspec.json.encode(parameter)):
                operation["parameters"][number] = {"$ref": f"#/components/parameters/{name}"}
    return {name: msgspec.json.decode(encoded) for name, encoded in shared.items()}


def _parameter(name: str, location: str, schema: Schema) -> Schema:
    parameter = {
        "name": name,
        "in": location,
        "required": location == "path" or schema.get("required") is True,
        "schema": sized({key: value for key, value in schema.items() if key not in ("description", "required")}),
    }
    return parameter | ({"description": schema["description"]} if "description" in schema else {})


def _result(endpoint: Endpoint, schema_of: SchemaOf) -> Schema:
    if endpoint.format is not Format.ENVELOPE:
        return schema_of(endpoint.result)
    return {
        "type": "object",
        "required": ["request_result", "result"],
        "properties": {
            "request_result": {"type": "boolean", "const": True},
            "result": schema_of(endpoint.result),
            "warnings": {"$ref": REF.format(name=WARNINGS)},
        },
    }


def _response(description: str, media: Iterable[str], schema: Schema) -> Schema:
    """A response that is JSON with this schema, or of another media type."""
    return {"description": description, "content": {kind: {"schema": _schema(kind, schema)} for kind in media}}


def _schema(media: str, schema: Schema) -> Schema:
    if media == JSON:
        return schema
    is_text = media.startswith("text/") or media.endswith("-text")
    return {"type": "string"} if is_text else BINARY


def _other_result(status: str, schema: Schema) -> Schema:
    """A response with another status than 200, which errors may have, too."""
    if status not in ERROR_STATUSES:
        return _response("accepted", (JSON,), schema)
    return _response("this, or an error", (JSON,), {"anyOf": [schema, {"$ref": REF.format(name=ERROR)}]})
