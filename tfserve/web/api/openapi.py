"""The OpenAPI document of the whole HTTP API, generated from the endpoint tables."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve import __version__
from tfserve.errors import Failure
from tfserve.web.api import metrics
from tfserve.web.api.guide import REF
from tfserve.web.api.operations import JSON, REFUSALS, REFUSED, Schema, answer, refused
from tfserve.web.api.training.endpoints import ENDPOINTS as TRAINING
from tfserve.web.api.training.endpoints import Endpoint as TrainingEndpoint
from tfserve.web.api.training.requests import Feedback, NewTask
from tfserve.web.api.v1 import openapi as tfserving
from tfserve.web.api.v2 import openapi as oip
from tfserve.web.api.workspace.endpoints import ENDPOINTS, Endpoint
from tfserve.web.api.workspace.reading import READS, Read
from tfserve.web.api.workspace.requests import MAX_KEY

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
            "/json_test/": {"post": _operation("echo the request", {}, {}, "json_test")},
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
                "description": "a repeated request with the same key refers to the same job",
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
                "summary": metrics.PURPOSE,
                "operationId": path.strip("/").replace("/", "_"),
                "responses": {"200": answer(metrics.TELLS, {}, metrics.MEDIA), **_refusals()},
            }
        }
        for path in metrics.PATHS
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
    "description": "present if the request has unknown fields; each entry suggests the intended field",
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


# --- the training API: plain results, and errors as {"error": message}


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
_WEIGHTS = {"type": "string", "format": "binary", "description": "weights file of the backbone"}
_UPLOAD = {"allOf": [_NEW_TASK, {"type": "object", "properties": {"weights": _WEIGHTS}}]}


# --- the root path, shared by the APIs and the pages


def _root() -> Schema:
    either = {status: answer("refused", {"anyOf": [_REFUSAL, REFUSED]}) for status in REFUSALS}
    task_id = {"name": "taskId", "in": "query", "schema": {"type": "string"}, "description": "id of a training task"}
    guide = "get the API guide; with a form, start a training task"
    return {
        "get": {
            "summary": "get the status page; with taskId, same as GET /tasks/{id}",
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
