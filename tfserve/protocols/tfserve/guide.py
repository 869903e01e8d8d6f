"""The API guide (`POST /`), made from the tables of endpoints."""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.protocols import prometheus
from tfserve.protocols.oip import openapi as oip
from tfserve.protocols.tfmodel.endpoints import ENDPOINTS as TRAINING
from tfserve.protocols.tfserve.endpoints import ENDPOINTS
from tfserve.protocols.tfserve.reading import READS
from tfserve.protocols.tfserving import openapi as tfserving

REF = "#/components/schemas/{name}"


def guide() -> dict[str, Any]:
    """An object keyed by endpoint path, with the verb in front for other APIs: purpose, request fields, result."""
    pages: dict[str, Any] = {
        "/": {
            "purpose": "this guide",
            "request": {},
            "result": (
                "an object keyed by endpoint path; a field that an endpoint does not know is not an error, but the "
                "response has `warnings`, such as \"unknown field 'time_out'; did you mean 'timeout'?\""
            ),
        },
        "GET /": {
            "purpose": "the status page; with taskId as GET /tasks/{id}",
            "request": {"taskId": "a training task"},
            "result": "a page, or the task",
        },
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
    scrape = {"purpose": prometheus.PURPOSE, "request": {}, "result": prometheus.TELLS}
    return reads | {f"GET {path}": scrape for path in prometheus.PATHS}


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
