"""Reference pages in Markdown, generated from the program itself."""

from __future__ import annotations

import atexit
import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

# Django's settings create a secret key in the data folder. A build must not leave one in the checkout.
_DATA_FOLDER = tempfile.mkdtemp(prefix="tfserve-docs-")
atexit.register(shutil.rmtree, _DATA_FOLDER, ignore_errors=True)
os.environ.update(DJANGO_SETTINGS_MODULE="tfserve.django_settings", TFSERVE_DATA_DIR=_DATA_FOLDER)

import django  # noqa: E402
import msgspec  # noqa: E402

django.setup()

from tfserve.config import Settings, environment_name  # noqa: E402
from tfserve.ipc.messages import Metrics  # noqa: E402
from tfserve.training.recipes.parameters import TABLES  # noqa: E402
from tfserve.web.api import openapi as openapi_writer  # noqa: E402
from tfserve.web.api import root  # noqa: E402
from tfserve.web.api.metrics.families import families  # noqa: E402
from tools.docs_commands import command_line  # noqa: E402
from tools.docs_tables import table  # noqa: E402

Json = dict[str, Any]


# --- settings


def settings() -> str:
    return table(["environment", "option", "default", "meaning"], map(_setting, dataclasses.fields(Settings)))


def _setting(field: dataclasses.Field[Any]) -> list[str]:
    option = f"`--{field.name.replace('_', '-')}`" if field.metadata["flag"] else "–"
    return [f"`{environment_name(field.name)}`", option, _default(field.default), field.metadata["help"]]


def _default(value: Any) -> str:
    return "empty" if value == "" else f"`{value}`"


# --- metrics


def metrics() -> str:
    nothing = {"version": "", "started_at": 0, "http_errors": {}, "models": [], "workspaces": [], "processes": []}
    nothing |= {"deaths": [], "trainings": {"waiting": 0, "running": 0, "runs": {}}}
    return table(["metric", "type", "labels", "meaning"], map(_family, families(msgspec.convert(nothing, Metrics))))


def _family(family: Any) -> list[str]:
    name = family.name + "_total" * (family.type == "counter")
    return [f"`{name}`", family.type, ", ".join(family._labelnames), family.documentation]


# --- parameters of a training


def training_parameters() -> str:
    return "\n\n".join(_parameters(train_type) for train_type in TABLES)


def _parameters(train_type: str) -> str:
    rows = [[f"`{each.name}`", each.expected(), _default(each.default), each.help] for each in TABLES[train_type]]
    return f"### Parameters of a {train_type}\n\n" + table(["parameter", "value", "default", "meaning"], rows)


# --- the HTTP API

#: the sections of the page, each with the beginnings of its paths; the longest that fits counts
SECTIONS = (
    ("Workspaces", ("/",), "Details: [workspace API](workspaces.md)."),
    ("Jobs and server", ("/jobs", "/server", "/openapi"), "Details: [jobs](workspaces.md#jobs)."),
    ("TensorFlow Serving's REST API", ("/v1",), "Details: [v1](v1.md)."),
    ("Open Inference Protocol v2", ("/v2",), "Details: [v2](v2.md)."),
    ("Training", ("/tasks", "/training"), "Details: [training](training.md)."),
    ("Metrics", ("/metrics", "/monitoring"), "Details: [metrics](metrics.md)."),
)
_VERSIONED = "/versions/{version}"


def openapi() -> Json:
    """The OpenAPI document of the whole HTTP API."""
    return openapi_writer.openapi(root.endpoints())


def api() -> str:
    document = openapi()
    parts: dict[str, list[str]] = {title: [f"## {title}", note] for title, _, note in SECTIONS}
    for path, operations in document["paths"].items():
        if _VERSIONED not in path:
            parts[_section(path)] += [_operation(document, path, verb) for verb in operations]
    text = "\n\n".join(part for section in parts.values() for part in section if part)
    return f"{text}\n\n## Types\n\n{_types(document, text)}"


def _section(path: str) -> str:
    fitting = [(len(each), title) for title, beginnings, _ in SECTIONS for each in beginnings if path.startswith(each)]
    return max(fitting)[1]


def _operation(document: Json, path: str, verb: str) -> str:
    operation = document["paths"][path][verb]
    parts = [f"### `{verb.upper()} {path}` {{ #{operation['operationId']} }}", _sentence(operation["summary"])]
    versioned = path.replace("{model}", f"{{model}}{_VERSIONED}")
    if versioned != path and versioned in document["paths"]:
        parts.append(f"One version: `{verb.upper()} {versioned}`")
    if operation.get("description"):
        parts.append(_sentence(operation["description"]))
    if operation.get("parameters"):
        rows = map(_request_parameter, operation["parameters"])
        parts.append(table(["parameter", "in", "type", "meaning"], rows))
    parts += _body(document, operation)
    parts.append(_responses(document, operation))
    return "\n\n".join(parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." * (not text.endswith("."))


def _request_parameter(parameter: Json) -> list[str]:
    schema = parameter.get("schema", {})
    return [_name(parameter["name"], parameter.get("required", False)), parameter["in"], _type(schema),
            _meaning({**schema, "description": parameter.get("description", "")})]  # fmt: skip


def _body(document: Json, operation: Json) -> Iterator[str]:
    content = operation.get("requestBody", {}).get("content", {})
    for media, body in content.items():
        schema = body.get("schema", {})
        fields = _fields(document, schema)
        if fields:
            yield f"Body (`{media}`):\n\n{fields}"
        elif schema and not schema.get("$ref"):
            yield f"Body: `{media}`, {_type(schema)}"


def _fields(document: Json, schema: Json) -> str:
    """The fields of an object as a table; empty if it is not an object with known fields."""
    schema = _resolved(document, schema)
    required = schema.get("required", [])
    rows = [
        [_name(name, name in required), _type(field), _meaning(field)]
        for name, field in schema.get("properties", {}).items()
    ]
    return table(["field", "type", "meaning"], rows) if rows else ""


def _name(name: str, required: bool) -> str:
    return f"`{name}`" + " (required)" * required


def _meaning(schema: Json) -> str:
    default = schema.get("default")
    shown = "" if default is None else f" Default: `{default}`."
    return (_sentence(schema["description"]) if schema.get("description") else "") + shown


def _responses(document: Json, operation: Json) -> str:
    """The successful responses. Errors are the same for all endpoints of an API, and described in its own page."""
    parts = []
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            content = response.get("content", {})
            media = ", ".join(f"`{each}`" for each in content) or "no body"
            said = operation["summary"], operation.get("description"), "done"
            meaning = "" if response["description"] in said else f". {_sentence(response['description'])}"
            parts.append(f"Response {status}: {media}{meaning}")
            fields = _fields(document, _result(next(iter(content.values()), {}).get("schema", {})))
            parts += [f"`result`:\n\n{fields}"] if fields else []
    return "\n\n".join(parts)


def _result(schema: Json) -> Json:
    """What is in `result` of a workspace API response."""
    return dict(schema.get("properties", {}).get("result", {}))


def _resolved(document: Json, schema: Json) -> Json:
    reference = schema.get("$ref")
    return dict(document["components"]["schemas"][_reference(reference)] if reference else schema)


def _reference(reference: str) -> str:
    return reference.rpartition("/")[2]


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = _reference(schema["$ref"])
        return f"[{name}](#type-{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{str(schema['const']).lower()}`"
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(_type(each) for each in choices))
    kind = schema.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    return str(kind)


def _types(document: Json, text: str) -> str:
    """The types to which a text links, and those to which they link."""
    types = {name.lower(): _described(document, name) for name in document["components"]["schemas"]}
    linked, found = set(), re.findall(r"#type-(\w+)", text)
    while found:
        name = found.pop()
        if name not in linked:
            linked.add(name)
            found += re.findall(r"\(#type-(\w+)", types[name])
    return "\n\n".join(types[name] for name in sorted(linked))


def _described(document: Json, name: str) -> str:
    schema = document["components"]["schemas"][name]
    described = re.sub(r"\s+", " ", schema.get("description", ""))
    content = f"One of {_type(schema)}" if "enum" in schema else _fields(document, schema)
    return "\n\n".join(filter(None, [f"### {name} {{ #type-{name.lower()} }}", described, content]))


GENERATED = {
    "settings": settings,
    "command-line": command_line,
    "metrics": metrics,
    "training-parameters": training_parameters,
    "api": api,
}
