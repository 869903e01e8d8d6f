"""The API guide (`POST /`), generated from the endpoint tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tfserve.web.api.endpoint import REF, Endpoint, Format, RequestType, Schema


def guide(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Summary, request fields and result of each endpoint by path, with the method unless it is an ordinary POST."""
    return {
        _key(each): {"purpose": each.summary, "request": _request(each), "result": each.returns} for each in endpoints
    }


def _key(endpoint: Endpoint) -> str:
    is_ordinary = endpoint.method == "POST" and endpoint.format is not Format.PLAIN
    return endpoint.path if is_ordinary else f"{endpoint.method} {endpoint.path}"


def _request(endpoint: Endpoint) -> dict[str, Any]:
    fields = {} if endpoint.request is None else _fields(endpoint.request)
    described = {name: schema for name, schema in endpoint.parameters.items() if "description" in schema}
    return fields | {name: _parameter(schema) for name, schema in described.items()}


def _parameter(schema: Schema) -> str:
    default = f" (default: {schema['default']})" if "default" in schema else ""
    return f"{schema['description']}{default}"


def _fields(request: RequestType) -> dict[str, Any]:
    if issubclass(request, msgspec.Raw):
        return {"any": "JSON"}
    schema = msgspec.json.schema_components([request], ref_template=REF)[1][request.__name__]
    required = schema.get("required", [])
    return {
        name: {
            "type": _type(field),
            "description": field.get("description", ""),
            **({"needed": True} if name in required else {"default": field.get("default")}),
        }
        for name, field in schema["properties"].items()
    }


def _type(field: Schema) -> str:
    """A schema's type as text."""
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "enum" in field:
        return " or ".join(str(each) for each in field["enum"])
    return str(field.get("type", "any"))
