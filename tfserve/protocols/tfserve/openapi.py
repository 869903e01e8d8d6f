"""The OpenAPI document of the whole HTTP API, made from the tables of endpoints."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve import __version__
from tfserve.errors import Failure
from tfserve.protocols import prometheus
from tfserve.protocols.oip import openapi as oip
from tfserve.protocols.operations import JSON, REFUSALS, REFUSED, Schema, answer, refused
from tfserve.protocols.tfmodel.endpoints import ENDPOINTS as TRAINING
from tfserve.protocols.tfmodel.endpoints import Endpoint as TrainingEndpoint
from tfserve.protocols.tfmodel.requests import Feedback, NewTask
from tfserve.protocols.tfserve.endpoints import ENDPOINTS, Endpoint
from tfserve.protocols.tfserve.guide import REF
from tfserve.protocols.tfserve.reading import READS, Read
from tfserve.protocols.tfserve.requests import MAX_KEY
from tfserve.protocols.tfserving import openapi as tfserving

FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
HTML = "text/html"


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types: list[Any] = [endpoint.request for endpoint in ENDPOINTS]
    types += [endpoint.result for endpoint in ENDPOINTS]
    types += [Failure, NewTask, Feedback, *oip.REQUESTS, *tfserving.REQUESTS]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    results = schemas[len(ENDPOINTS) :]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TFserve",
            "version": __version__,
            "description": "Train, run and serve TensorFlow models over plain HTTP and JSON.",
        },
        "paths": {
            "/": _root(),
            "/json_test/": {"post": _operation("the same JSON again", {}, {}, "json_test")},
            **{
                each.path: {"post": _post(each, request, result)}
                for each, request, result in zip(ENDPOINTS, schemas, results, strict=False)
            },
            **{each.path: {"get": _get(each)} for each in READS},
            **_trainings(),
            **tfserving.paths(REF),
            **oip.paths(REF),
            **_scrapes(),
        },
        "components": {"schemas": components},
    }


# --- the workspace API


def _post(endpoint: Endpoint, request: Schema, result: Schema) -> Schema:
    operation = _operation(endpoint.purpose, request, result, endpoint.path.strip("/"))
    operation["description"] = f"Result: {endpoint.tells}."
    if endpoint.submits:
        operation["parameters"] = [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"},
                "description": "a second request with the same key is the same job",
            }
        ]
    return operation


def _operation(summary: str, request: Schema, result: Schema, name: str) -> Schema:
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {"content": {JSON: {"schema": request}}},
        "responses": {"200": answer("done", _done(result)), **_refusals()},
    }


def _get(each: Read) -> Schema:
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
        "responses": {"200": answer(each.tells, {}, each.media), **_refusals()},
    }


def _scrapes() -> Schema:
    return {
        path: {
            "get": {
                "summary": prometheus.PURPOSE,
                "operationId": path.strip("/").replace("/", "_"),
                "responses": {"200": answer(prometheus.TELLS, {}, prometheus.MEDIA), **_refusals()},
            }
        }
        for path in prometheus.PATHS
    }


def _done(result: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["request_result", "result"],
        "properties": {"request_result": {"const": True}, "result": result, "warnings": _WARNINGS},
    }


def _refusals() -> Schema:
    return dict.fromkeys(REFUSALS, answer("refused", _REFUSAL))


_WARNINGS = {
    "type": "array",
    "items": {"type": "string"},
    "description": "present if the request has fields that its endpoint does not know: each with what was meant",
}

_REFUSAL = {
    "type": "object",
    "required": ["request_result", "result", "error"],
    "properties": {
        "request_result": {"const": False},
        "result": {"type": "string"},
        "error": {"$ref": REF.format(name="Failure")},
        "warnings": _WARNINGS,
    },
}


# --- the training API: the thing itself, and errors as {"error": sentence}


def _trainings() -> Schema:
    found: Schema = {}
    for call in TRAINING:
        found.setdefault(call.path, {})[call.verb.lower()] = _training(call)
    return found


def _training(call: TrainingEndpoint) -> Schema:
    in_path = [name for name in ("id", "path") if f"{{{name}}}" in call.path]
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path
    ]
    parameters += [
        {"name": name, "in": "query", "schema": {"type": "string"}, "description": text} for name, text in call.query
    ]
    operation: Schema = {
        "summary": call.purpose,
        "operationId": call.handler.__name__,
        "parameters": parameters,
        "responses": {"200": answer(call.tells, {}, call.media), **refused()},
    }
    if call.body is not None:
        schema = {"$ref": REF.format(name=call.body.__name__)}
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    return operation


_NEW_TASK = {"$ref": REF.format(name="NewTask")}
_WEIGHTS = {"type": "string", "format": "binary", "description": "a file with the weights of the backbone"}
_UPLOAD = {"allOf": [_NEW_TASK, {"type": "object", "properties": {"weights": _WEIGHTS}}]}


# --- the root, which the APIs and the pages share


def _root() -> Schema:
    either = {status: answer("refused", {"anyOf": [_REFUSAL, REFUSED]}) for status in REFUSALS}
    task_id = {"name": "taskId", "in": "query", "schema": {"type": "string"}, "description": "a training task"}
    guide = "the API guide; with a form, start a training task"
    return {
        "get": {
            "summary": "the status page; with taskId as GET /tasks/{id}",
            "operationId": "page_or_task",
            "parameters": [task_id],
            "responses": {"200": answer("a page, or the task", {"type": "object"}, (HTML, JSON)), **either},
        },
        "post": {
            "summary": guide,
            "operationId": "guide",
            "requestBody": {
                "content": {
                    JSON: {"schema": {"type": "object"}},
                    FORM: {"schema": _NEW_TASK},
                    MULTIPART: {"schema": _UPLOAD},
                }
            },
            "responses": {"200": answer("the guide, or the task", {"type": "object"}), **either},
        },
    }
