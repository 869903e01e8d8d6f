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
from tfserve.web.api.endpoint import Tag  # noqa: E402
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

#: the pages with the details of each group of endpoints
DETAILS = {
    Tag.SERVER: "[metrics](metrics.md), [operations](operations.md)",
    Tag.WORKSPACES: "[workspace API](workspaces.md)",
    Tag.JOBS: "[jobs](workspaces.md#jobs)",
    Tag.MODELS: "[workspace API](workspaces.md), [model formats and runtimes](runtimes.md)",
    Tag.V1: "[v1](v1.md)",
    Tag.V2: "[v2](v2.md)",
    Tag.TRAINING: "[training](training.md)",
    Tag.UPLOADS: "[uploads](uploads.md)",
    Tag.FILES: "[uploads and workspace files](uploads.md)",
    Tag.BATCHES: "[batches](../how-to/batch.md), [callbacks](../how-to/callbacks.md)",
    Tag.ACCESS: "[control access](../how-to/access.md)",
}
_VERSIONED = "/versions/{version}"


def openapi() -> Json:
    """The OpenAPI document of the whole HTTP API."""
    return openapi_writer.openapi(root.endpoints())


def api() -> str:
    document = openapi()
    parts: dict[str, list[str]] = {each["name"]: _section(each) for each in document["tags"]}
    for path, operations in document["paths"].items():
        if _VERSIONED not in path:
            for verb, operation in operations.items():
                parts[operation["tags"][0]].append(_operation(document, path, verb))
    text = "\n\n".join(part for section in parts.values() for part in section if part)
    return f"{text}\n\n## Types\n\n{_types(document, text)}"


def _section(tag: Json) -> list[str]:
    return [f"## {tag['name'].capitalize()}", f"{tag['description']} Details: {DETAILS[Tag(tag['name'])]}."]


def _operation(document: Json, path: str, verb: str) -> str:
    operation = document["paths"][path][verb]
    parts = [f"### `{verb.upper()} {path}` {{ #{operation['operationId']} }}", _sentence(operation["summary"])]
    versioned = path.replace("{model}", f"{{model}}{_VERSIONED}")
    if versioned != path and versioned in document["paths"]:
        parts.append(f"One version: `{verb.upper()} {versioned}`")
    if operation.get("description"):
        parts.append(_sentence(operation["description"]))
    if operation.get("parameters"):
        rows = [_request_parameter(_referenced(document, each)) for each in operation["parameters"]]
        parts.append(table(["parameter", "in", "type", "meaning"], rows))
    parts += _body(document, operation)
    parts.append(_responses(document, operation))
    return "\n\n".join(parts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." * (not text.endswith("."))


def _referenced(document: Json, parameter: Json) -> Json:
    """A parameter, also if it is shared by several operations."""
    reference = parameter.get("$ref")
    return document["components"]["parameters"][reference.rpartition("/")[2]] if reference else parameter


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
            parts += _content(document, content)
    return "\n\n".join(parts)


def _content(document: Json, content: Json) -> Iterator[str]:
    """The fields of a JSON response, or its type if it has none."""
    schema, is_envelope = _result(content), _is_envelope(content)
    if fields := _fields(document, schema):
        yield f"{'`result`' if is_envelope else 'Fields'}:\n\n{fields}"
    elif schema:
        yield f"{'`result`' if is_envelope else 'Type'}: {_type(schema)}"


def _result(content: Json) -> Json:
    """The schema of a JSON response, in the workspace API that of its `result`."""
    schema = content.get("application/json", {}).get("schema", {})
    return dict(schema["properties"]["result"] if _is_envelope(content) else schema)


def _is_envelope(content: Json) -> bool:
    return "request_result" in content.get("application/json", {}).get("schema", {}).get("properties", {})


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
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
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
