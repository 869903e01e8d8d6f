"""The API guide (`POST /`), generated from the endpoint tables."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.web.api import metrics
from tfserve.web.api.training.endpoints import ENDPOINTS as TRAINING
from tfserve.web.api.v1 import openapi as tfserving
from tfserve.web.api.v2 import openapi as oip
from tfserve.web.api.workspace.endpoints import ENDPOINTS
from tfserve.web.api.workspace.reading import READS

REF = "#/components/schemas/{name}"


def guide() -> dict[str, Any]:
    """Purpose, request fields and result of each endpoint by path; other APIs have the method in front of the path."""
    pages: dict[str, Any] = {
        "/": {
            "purpose": "get this guide",
            "request": {},
            "result": (
                "an object keyed by endpoint path; unknown request fields are not an error, but cause "
                "`warnings` in the response, such as \"unknown field 'time_out'; did you mean 'timeout'?\""
            ),
        },
        "GET /": {
            "purpose": "get the status page; with taskId, same as GET /tasks/{id}",
            "request": {"taskId": "id of a training task"},
            "result": "a page, or the task",
        },
        "/json_test/": {
            "purpose": "echo the request, to check that it is sent correctly",
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
        request = (_fields(call.body) if call.body else {}) | dict(call.query)
        pages[f"{call.verb} {call.path}"] = {"purpose": call.purpose, "request": request, "result": call.tells}
    return pages | _predictions() | _looks()


def _predictions() -> dict[str, Any]:
    return {
        f"{each.verb.upper()} {each.path}": {
            "purpose": each.purpose,
            "request": _fields(each.request) if each.request is not None else {},
            "result": api.TELLS,
        }
        for api in (tfserving, oip)
        for each in api.PATHS
    }


def _looks() -> dict[str, Any]:
    reads = {
        f"GET {each.path}": {
            "purpose": each.purpose,
            "request": {name: schema["description"] for name, schema in each.parameters.items()},
            "result": each.tells,
        }
        for each in READS
    }
    scrape = {"purpose": metrics.PURPOSE, "request": {}, "result": metrics.TELLS}
    return reads | {f"GET {path}": scrape for path in metrics.PATHS}


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
    """A schema's type as text."""
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "enum" in field:
        return " or ".join(str(each) for each in field["enum"])
    return str(field.get("type", "any"))
