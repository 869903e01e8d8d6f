"""What the prediction APIs have in common in the guide and in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from tfserve.http.answers import STATUS

JSON = "application/json"
REFUSALS = tuple(sorted(map(str, {405, 408, *STATUS.values()})))
"""Every status that a refusal may have; 405 and 408 are of HTTP alone."""

Schema = dict[str, Any]
REFUSED: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
"""A refusal of every API but that of the workspaces."""


class Operation(NamedTuple):
    """One verb at one path. `keys` are those that the object in a JSON answer has always."""

    verb: str
    path: str
    name: str
    purpose: str
    keys: tuple[str, ...] = ()
    request: type[msgspec.Struct] | None = None
    needs_body: bool = False
    takes: tuple[str, ...] = ()
    gives: tuple[str, ...] = (JSON,)
    query: Mapping[str, Schema] = {}
    also: Mapping[str, Schema] = {}
    """JSON answers with another status than 200 that are no refusals."""


def paths(operations: Iterable[Operation], ref_template: str, **in_path: Schema) -> dict[str, Any]:
    """Operations by path and verb; `in_path` are the schemas of what stands in braces.

    The schemas of the requests must be among the document's components.
    """
    found: dict[str, Any] = {}
    for each in operations:
        found.setdefault(each.path, {})[each.verb] = _described(each, ref_template, in_path)
    return found


def answer(description: str, schema: Schema, media: Iterable[str] = (JSON,)) -> Schema:
    """An answer that is JSON of this schema, or of another media type."""
    content = {kind: {"schema": schema if kind == JSON else {}} for kind in media}
    return {"description": description, "content": content}


def refused() -> Schema:
    """Refusals by status, in the words of `REFUSED`."""
    return {status: answer("refused", REFUSED) for status in REFUSALS}


def _described(each: Operation, ref_template: str, in_path: Mapping[str, Schema]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": each.purpose,
        "operationId": each.name,
        "parameters": [
            *(_parameter(name, "path", in_path[name]) for name in in_path if f"{{{name}}}" in each.path),
            *(_parameter(name, "query", schema) for name, schema in each.query.items()),
        ],
        "responses": {
            "200": answer(each.purpose, _object(each.keys), each.gives),
            **refused(),
            **{status: answer(each.purpose, schema) for status, schema in each.also.items()},
        },
    }
    if each.request is not None:
        schema = {"$ref": ref_template.format(name=each.request.__name__)}
        content = {JSON: {"schema": schema}, **{kind: {"schema": {}} for kind in each.takes}}
        operation["requestBody"] = {"required": each.needs_body, "content": content}
    return operation


def _parameter(name: str, place: str, schema: Schema) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _object(keys: tuple[str, ...]) -> Schema:
    return {"type": "object", "required": list(keys)} if keys else {}
