"""JSON schemas in the form that generators of clients understand best.

Generators read OpenAPI less strictly than its standard. Their programs must compile and must hold the values of the
server, so the schemas keep to what all of them support.
"""

from __future__ import annotations

from typing import Any

from tfserve.web.api.endpoint import REF, Schema

VALUE = "Value"
"""The name of the schema of any JSON value."""
_ANY: Schema = {"$ref": REF.format(name=VALUE)}
_INT32 = 2**31
_COMPOUND = ("array", "object")


def generator_schema(schema: Any) -> Any:
    """A generated schema, made simpler and more explicit.

    A value of any type is a reference to `Value`, arrays always have `items`, objects without known fields say that
    any are allowed. Titles are left out, because they repeat the name of the component.
    """
    if not isinstance(schema, dict):
        return [generator_schema(each) for each in schema] if isinstance(schema, list) else schema
    if not schema:
        return _ANY
    if _is_unnamed_union(schema):
        return _of_any_type(schema)
    schema = _nullable(schema)
    found = {name: _member(name, value) for name, value in schema.items() if name != "title"}
    if found.get("type") in ("array", ["array", "null"]):
        found.setdefault("items", _ANY)
    if found.get("type") in ("object", ["object", "null"]) and "properties" not in found:
        found.setdefault("additionalProperties", True)
    if isinstance(next(iter(found.get("enum", ())), None), int):
        found.setdefault("type", "integer")  # text is assumed without it
    return sized(found)


def sized(schema: Schema) -> Schema:
    """A schema of a number with the size that holds all of its values.

    Without it, generators for Go, Java and C# use 32 bits, which are too few for bytes and times.
    """
    types = schema.get("type")
    if types in ("number", ["number", "null"]):
        return {**schema, "format": "double"}
    if types in ("integer", ["integer", "null"]) and "enum" not in schema and schema.get("maximum", _INT32) >= _INT32:
        return {**schema, "format": "int64"}
    return schema


def _member(name: str, value: Any) -> Any:
    if name in ("default", "examples", "enum", "const"):  # values, not schemas
        return [*value] if isinstance(value, tuple) else value
    if name == "properties":
        return {field: generator_schema(schema) for field, schema in value.items()}
    return generator_schema(value)


def _nullable(schema: Schema) -> Schema:
    """A value or null as two types instead of two schemas, which the generators understand more often."""
    alternatives = schema.get("anyOf", ())
    if len(alternatives) != 2 or alternatives[1] != {"type": "null"}:
        return schema
    value = alternatives[0]
    if not isinstance(value.get("type"), str) or "enum" in value:
        return schema
    return {**value, "type": [value["type"], "null"], **{k: v for k, v in schema.items() if k != "anyOf"}}


def _is_unnamed_union(schema: Schema) -> bool:
    """Whether a list or an object without a name is one of several types, for which no Java class can be generated."""
    types = [each.get("type") for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return len(types) > 1 and any(each in _COMPOUND for each in types)


def _of_any_type(schema: Schema) -> Schema:
    types = " or ".join(each.get("type", "object") for each in schema["anyOf"] if each.get("type") != "null")
    text = schema.get("description")
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "title")}
    return {**_ANY, **kept, "description": f"{text} ({types})" if text else types}
