"""The API guide (`POST /`) and the OpenAPI document, both made from the endpoint table."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve import __version__
from tfserve.errors import Failure
from tfserve.http.answers import STATUS
from tfserve.protocols.oip import openapi as oip
from tfserve.protocols.tfmodel.endpoints import ENDPOINTS as TRAINING
from tfserve.protocols.tfmodel.endpoints import Endpoint as TrainingEndpoint
from tfserve.protocols.tfmodel.requests import NewTask
from tfserve.protocols.tfserve.endpoints import ENDPOINTS, Endpoint
from tfserve.protocols.tfserve.reading import READS, Read

REFUSALS = sorted({str(status) for status in STATUS.values()})
REF = "#/components/schemas/{name}"


def guide() -> dict[str, Any]:
    """An object keyed by endpoint path: purpose, request fields, result."""
    pages: dict[str, Any] = {
        "/": {"purpose": "this guide", "request": {}, "result": "an object keyed by endpoint path"},
        "/json_test/": {
            "purpose": "show that requests arrive as they were meant",
            "request": {"any": "JSON"},
            "result": "the same JSON",
        },
    }
    for endpoint in ENDPOINTS:
        pages[endpoint.path] = {
            "purpose": endpoint.purpose,
            "request": _fields(endpoint.request),
            "result": endpoint.tells,
        }
    for call in TRAINING:
        request = _fields(NewTask) if call.takes_task else dict(call.query)
        pages[f"{call.verb} {call.path}"] = {"purpose": call.purpose, "request": request, "result": call.tells}
    for path in oip.PATHS:
        request = _fields(path.request) if path.request is not None else {}
        pages[f"{path.verb.upper()} {path.path}"] = {"purpose": path.purpose, "request": request, "result": oip.TELLS}
    return pages | {
        f"GET {each.path}": {
            "purpose": each.purpose,
            "request": {name: schema["description"] for name, schema in each.parameters.items()},
            "result": each.tells,
        }
        for each in READS
    }


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types: list[Any] = [endpoint.request for endpoint in ENDPOINTS]
    types += [endpoint.result for endpoint in ENDPOINTS] + [Failure, NewTask, *oip.REQUESTS]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    paths: dict[str, Any] = {
        "/": {"post": _operation("the API guide", {"type": "object"}, {"type": "object"}, "guide")},
        "/json_test/": {"post": _operation("the same JSON again", {}, {}, "json_test")},
    }
    for index, endpoint in enumerate(ENDPOINTS):
        paths[endpoint.path] = {"post": _post(endpoint, schemas[index], schemas[index + len(ENDPOINTS)])}
    for each in READS:
        paths[each.path] = {"get": _get(each)}
    for call in TRAINING:
        paths.setdefault(call.path, {})[call.verb.lower()] = _training(call)
    paths |= oip.paths(REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TFserve",
            "version": __version__,
            "description": "Train, run and serve TensorFlow models over plain HTTP and JSON.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _fields(request: type) -> dict[str, Any]:
    schema = msgspec.json.schema_components([request], ref_template=REF)[1][request.__name__]
    needed = schema.get("required", [])
    return {
        name: {
            "type": _type(field),
            "description": field.get("description", ""),
            **({"needed": True} if name in needed else {"default": field.get("default")}),
        }
        for name, field in schema["properties"].items()
    }


def _type(field: dict[str, Any]) -> str:
    """A schema's type in one word or two."""
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "enum" in field:
        return " or ".join(str(each) for each in field["enum"])
    return str(field.get("type", "any"))


def _post(endpoint: Endpoint, request: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    operation = _operation(endpoint.purpose, request, result, endpoint.path.strip("/"))
    operation["description"] = f"Result: {endpoint.tells}."
    if endpoint.submits:
        operation["parameters"] = [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "maxLength": 200},
                "description": "a second request with the same key is the same job",
            }
        ]
    return operation


def _operation(summary: str, request: dict[str, Any], result: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {"content": {"application/json": {"schema": request}}},
        "responses": {"200": _answer(result), **{status: _refusal() for status in REFUSALS}},
    }


def _get(each: Read) -> dict[str, Any]:
    return {
        "summary": each.purpose,
        "operationId": each.name,
        "description": each.tells,
        "parameters": [
            {
                "name": name,
                "in": "path" if f"{{{name}}}" in each.path else "query",
                "required": f"{{{name}}}" in each.path,
                "schema": {key: value for key, value in schema.items() if key != "description"},
                "description": schema["description"],
            }
            for name, schema in each.parameters.items()
        ],
        "responses": {
            "200": {"description": each.tells, "content": {media: {"schema": {}} for media in each.media}},
            **{status: _refusal() for status in REFUSALS},
        },
    }


def _training(call: TrainingEndpoint) -> dict[str, Any]:
    """The calls of the training API answer with the thing itself, and errors are {"error": sentence}."""
    in_path = [name for name in ("id", "path") if f"{{{name}}}" in call.path]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path]
    parameters += [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": text} for name, text in call.query
    ]
    refusal = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    refused = {"description": "refused", "content": {"application/json": {"schema": refusal}}}
    operation: dict[str, Any] = {
        "summary": call.purpose,
        "operationId": call.handler.__name__,
        "parameters": parameters,
        "responses": {
            "200": {"description": call.tells, "content": {"application/json": {"schema": {}}}},
            **dict.fromkeys(REFUSALS, refused),
        },
    }
    if call.takes_task:
        schema = {"$ref": REF.format(name="NewTask")}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return operation


def _answer(result: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["request_result", "result"],
        "properties": {"request_result": {"const": True}, "result": result},
    }
    return {"description": "done", "content": {"application/json": {"schema": schema}}}


def _refusal() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["request_result", "result", "error"],
        "properties": {
            "request_result": {"const": False},
            "result": {"type": "string"},
            "error": {"$ref": REF.format(name="Failure")},
        },
    }
    return {"description": "refused", "content": {"application/json": {"schema": schema}}}
