"""The OpenAPI document: valid, complete, small, and true of the responses of a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.acceptance.conftest import Server
from tests.protocols import echo

MAX_BYTES = 120_000
JSON = "application/json"
VERBS = {
    "add", "append", "cancel", "check", "classify", "clear", "count", "create", "delete", "deploy", "destroy", "echo",
    "finish", "get", "infer", "list", "load", "predict", "push", "put", "read", "regress", "repeat", "restart",
    "resume", "revoke", "rotate", "scale", "start", "stop", "undeploy", "unload", "update",
}  # fmt: skip
VALUES = ("default", "example", "examples", "enum", "const")
"""Members of a schema that are not schemas."""


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return server.http.get("/openapi.json").json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Method, path and operation."""
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield method, path, operation


def parameters(document: Any, operation: Any) -> list[Any]:
    """The parameters of an operation, also those that it shares with others."""
    shared = document["components"]["parameters"]
    return [
        shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in operation.get("parameters", [])
    ]


def schemas(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every schema below a node, and where it is."""
    if isinstance(node, list):
        for number, each in enumerate(node):
            yield from schemas(each, f"{where}[{number}]")
    if not isinstance(node, dict):
        return
    for name, each in node.items():
        place = f"{where}/{name}"
        if name in ("schema", "items", "additionalProperties"):
            yield place, each
        if name in ("properties", "schemas"):
            yield from ((f"{place}/{field}", schema) for field, schema in each.items())
        if name not in VALUES:
            yield from schemas(each, place)


def closed(node: Any) -> Any:
    """The schemas of a node, in which an object has only the fields that it lists: clients in Go refuse others."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {name: closed(each) for name, each in node.items()}
    return found if not isinstance(node.get("properties"), dict) else {"additionalProperties": False, **found}


def problems(document: Any, schema: Any, value: Any) -> list[str]:
    """What keeps a value from fitting a schema of the document."""
    validator = Draft202012Validator(closed({**schema, "components": document["components"]}))
    return [each.message for each in validator.iter_errors(value)]


def test_the_document_is_valid_and_small(server: Server) -> None:
    response = server.http.get("/openapi.json")
    validate(response.json())
    assert len(response.content) < MAX_BYTES


def test_ids_are_unique_and_begin_with_a_verb(document: Any) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert [each for each in ids if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", each)] == []
    assert [each for each in ids if each.partition("_")[0] not in VERBS] == []


def test_every_operation_has_a_tag_that_the_document_describes(document: Any) -> None:
    described = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(described.values())
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} == set(described)


def test_the_document_names_the_server_and_its_security(document: Any, server: Server) -> None:
    assert [each["url"] for each in document["servers"]] == [server.url]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert document["security"] == [{"bearer": []}, {"apiKey": []}, {}]


def test_every_response_has_a_type_and_all_errors_have_the_same(document: Any) -> None:
    for method, path, operation in operations(document):
        content = operation["responses"]["200"]["content"]
        assert content, (method, path)
        assert all(media["schema"] for media in content.values()), (method, path)
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}


def test_schemas_are_not_empty_and_arrays_have_items(document: Any) -> None:
    found = list(schemas(document))
    assert len(found) > 100
    assert [where for where, schema in found if schema == {}] == []
    assert [
        where
        for where, schema in found
        if isinstance(schema, dict) and schema.get("type") == "array" and "items" not in schema
    ] == []


def type_of(schema: Any) -> str | None:
    """The type of a schema, also if null is another."""
    types = schema.get("type") if isinstance(schema, dict) else None
    return types[0] if isinstance(types, list) else types


def test_numbers_that_may_be_large_say_so(document: Any) -> None:
    """Without a format, generated clients in Go, Java and C# read 32 bits."""
    sizes = {"integer": "int64", "number": "double"}
    found = [(where, schema, sizes[type_of(schema)]) for where, schema in schemas(document) if type_of(schema) in sizes]
    assert len(found) > 100
    small = [schema for _, schema, _ in found if "enum" in schema or schema.get("maximum", 2**31) < 2**31]
    assert [where for where, schema, size in found if schema not in small and schema.get("format") != size] == []
    (job,) = [each for each in parameters(document, document["paths"]["/jobs/{id}"]["get"]) if each["name"] == "id"]
    assert job["schema"]["format"] == "int64"


def test_names_and_unions_give_valid_programs(document: Any) -> None:
    """Go has a function NewX for each type X. Java has no class for a union with a list or an object without a name."""
    names = set(document["components"]["schemas"])
    assert {f"New{name}" for name in names} & names == set()
    found = [(where, schema) for where, schema in schemas(document["components"]) if isinstance(schema, dict)]
    for where, schema in found:
        types = [type_of(each) for each in schema.get("anyOf", []) if type_of(each) != "null"]
        assert len(types) < 2 or not {"array", "object"} & set(types), where
        assert type_of(schema) == "integer" or not any(isinstance(each, int) for each in schema.get("enum", [])), where


def test_bodies_that_are_files_are_binary(document: Any) -> None:
    binary = {"type": "string", "format": "binary"}
    for method, path, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media, content in [pair for body in bodies for pair in body.get("content", {}).items()]:
            if media.startswith("image/") or media in ("application/octet-stream", "*/*"):
                assert content["schema"] == binary, (method, path, media)


def test_json_requests_with_fields_have_an_example_that_fits(document: Any) -> None:
    missing = []
    for method, path, operation in operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get(JSON)
        if body is None:
            continue
        if "example" in body:
            assert problems(document, body["schema"], body["example"]) == [], (method, path)
        elif body["schema"].get("$ref") != "#/components/schemas/Empty":
            missing.append(path)
    assert missing == ["/"]


def test_responses_are_as_documented(server: Server, document: Any, workspace: str) -> None:
    server.run(workspace, "print(1)")
    read = [
        (path, operation)
        for method, path, operation in operations(document)
        if method == "get" and not any(each["required"] for each in parameters(document, operation))
    ]
    assert len(read) > 10
    for path, operation in read:
        content = operation["responses"]["200"]["content"]
        response = server.http.get(path)
        media = response.headers["content-type"].partition(";")[0]
        assert media in content, path
        if media == JSON:
            assert problems(document, content[JSON]["schema"], response.json()) == [], path


def test_jobs_and_models_are_as_documented(server: Server, document: Any, workspace: str) -> None:
    job = server.call("/deploy/", name=workspace, path=str(echo.write(server.roots / "all.echo")), timeout=60)
    v1, v2 = ("", "/metadata", "/example"), ("", "/ready", "/config", "/stats")
    paths = {
        "/jobs/{id}": f"/jobs/{job['id']}",
        **{f"/v1/models/{{model}}{rest}": f"/v1/models/{workspace}{rest}" for rest in v1},
        **{f"/v2/models/{{model}}{rest}": f"/v2/models/{workspace}{rest}" for rest in v2},
        "/v2/models/stats": "/v2/models/stats",
        "/server/": "/server/",
    }
    for path, asked in paths.items():
        schema = document["paths"][path]["get"]["responses"]["200"]["content"][JSON]["schema"]
        assert problems(document, schema, server.http.get(asked).json()) == [], path


def test_models_of_the_server_are_examples_that_work(server: Server, workspace: str) -> None:
    server.call("/deploy/", name=workspace, path=str(echo.write(server.roots / "two.echo", echo.TWO)), timeout=60)
    document = server.http.get("/openapi.json", params={"models": "true"}).json()
    validate(document)
    assert workspace not in server.http.get("/openapi.json").text
    for path in ("/v1/models/{model}:predict", "/v2/models/{model}/infer", "/predict/"):
        operation = document["paths"][path]["post"]
        example = operation["requestBody"]["content"][JSON]["examples"][workspace]["value"]
        response = server.http.post(path.format(model=workspace), json=example)
        assert response.status_code == 200, response.text
        schema = operation["responses"]["200"]["content"][JSON]["schema"]
        assert problems(document, schema, response.json()) == [], path
    named = document["paths"]["/v1/models/{model}"]["get"]["parameters"][0]
    assert named["examples"][workspace] == {"value": workspace}


def test_errors_of_every_api_fit_the_one_schema(server: Server, document: Any) -> None:
    schema = {"$ref": "#/components/schemas/Error"}
    paths = ("/tasks/none", "/v1/models/none", "/v2/models/none", "/upload/none", "/nothing/")
    refused = [server.http.post("/push_job/", json={"jop": 1}), *map(server.http.get, paths)]
    for response in refused:
        assert response.status_code >= 400
        assert problems(document, schema, response.json()) == [], response.text
