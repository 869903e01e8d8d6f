"""The guide and the OpenAPI document say what the endpoints really do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.acceptance.conftest import Server

ENDPOINTS = [
    "/", "/json_test/", "/create/", "/destroy/", "/create_workspace/", "/destroy_workspace/", "/get_workspace/",
    "/get_status/", "/push_job/", "/clear/", "/deploy/", "/update/", "/undeploy/", "/predict/", "/get_job/",
    "/get_finish/", "/get_variable/", "/get_result/",
]  # fmt: skip


@pytest.fixture(scope="module")
def openapi(server: Server) -> dict[str, Any]:
    return dict(server.http.get("/openapi.json").json())


def fields_of(openapi: dict[str, Any], path: str) -> dict[str, Any]:
    schema = openapi["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return dict(schema)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"any": 1}'])
def test_the_guide_has_every_endpoint_of_the_contract(server: Server, body: bytes) -> None:
    guide = server.http.post("/", content=body).json()["result"]
    assert set(ENDPOINTS) <= set(guide)
    for page in guide.values():
        assert page["purpose"]
        assert page["result"]
        assert isinstance(page["request"], dict)
    assert guide["/push_job/"]["request"]["timeout"] == {
        "type": "number", "description": "seconds to wait for the job to finish; 0: do not wait", "default": 1.0,
    }  # fmt: skip


def test_guide_and_openapi_report_the_same(server: Server, openapi: dict[str, Any]) -> None:
    guide = server.call("/")
    assert openapi["openapi"] == "3.1.0"
    told = {path if path.startswith("/") else path.partition(" ")[2] for path in guide}
    assert told == set(openapi["paths"])
    for path in set(ENDPOINTS) - {"/", "/json_test/"}:
        assert set(guide[path]["request"]) == set(fields_of(openapi, path)["properties"])


DEFAULTS = {
    "/create_workspace/": {"name": None, "type": 0, "time_interval": 1.0},
    "/destroy_workspace/": {"name": None},
    "/push_job/": {"type": 0, "clear": False, "timeout": 1.0, "time_interval": 1.0, "time_limit": None},
    "/clear/": {"timeout": 1.0, "time_interval": 1.0},
    "/deploy/": {"device": "/cpu:0", "timeout": 1.0, "time_interval": 1.0},
    "/update/": {"timeout": 1.0, "time_interval": 1.0},
    "/undeploy/": {"timeout": 1.0, "time_interval": 1.0},
    "/predict/": {"feed_dict": {}, "signature": "serving_default", "timeout": 1.0, "time_interval": 1.0},
    "/get_finish/": {"job": None},
    "/get_variable/": {"variable": None},
    "/get_result/": {"job": None},
}


@pytest.mark.parametrize("path", DEFAULTS)
def test_fields_have_the_defaults_of_the_contract(openapi: dict[str, Any], path: str) -> None:
    properties = fields_of(openapi, path)["properties"]
    assert {name: properties[name]["default"] for name in DEFAULTS[path]} == DEFAULTS[path]


def test_every_operation_has_an_id_of_its_own(openapi: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operations in openapi["paths"].values() for operation in operations.values()]
    assert len(set(ids)) == len(ids)


def test_a_field_that_is_needed_is_really_needed(server: Server, openapi: dict[str, Any]) -> None:
    for path in set(ENDPOINTS) - {"/", "/json_test/"}:
        needed = fields_of(openapi, path).get("required", [])
        if needed:
            status, sentence = server.refused(path)
            assert status == 400
            assert needed[0] in sentence


def test_answers_have_the_documented_shape(server: Server, openapi: dict[str, Any], workspace: str) -> None:
    calls = {
        "/create_workspace/": {"name": "shape"},
        "/get_workspace/": {},
        "/get_status/": {"name": workspace},
        "/push_job/": {"name": workspace, "job": "x = 1", "type": 1, "timeout": 30},
        "/clear/": {"name": workspace, "timeout": 30},
        "/undeploy/": {"name": workspace, "timeout": 30},
        "/predict/": {"name": workspace, "fetches": "y", "timeout": 30},
        "/cancel_job/": {"name": workspace, "job": 0},
        "/get_job/": {"name": workspace},
        "/get_finish/": {"name": workspace},
        "/get_variable/": {"name": workspace},
        "/get_result/": {"name": workspace},
        "/restart_workspace/": {"name": workspace},
        "/destroy_workspace/": {"name": "shape"},
        "/create/": {},
    }
    for path, fields in calls.items():
        result = server.call(path, **fields)
        answer = openapi["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        check(openapi, answer["properties"]["result"], result, path)


def check(openapi: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> None:
    """Holds a value to a schema, and refuses fields that the schema does not know."""
    if "$ref" in schema:
        schema = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        kinds = {each.get("type") for each in schema["anyOf"]}
        assert kind_of(value) in kinds or None in kinds, (where, value)
        return
    if "enum" in schema:
        assert value in schema["enum"], (where, value)
    if "type" in schema:
        kinds = {*schema["type"]} if isinstance(schema["type"], list) else {schema["type"]}
        kinds |= {"integer"} if "number" in kinds else set()
        assert kind_of(value) in kinds, (where, value)
    if "properties" in schema:
        assert set(schema.get("required", [])) <= set(value), where
        assert set(value) <= set(schema["properties"]), where
        for name, each in value.items():
            check(openapi, schema["properties"][name], each, f"{where} {name}")


def kind_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None else names[type(value)]


def test_json_test_gives_back_any_json(server: Server) -> None:
    for value in ({"a": [1, 2.5, None, True, "ü"]}, [], None, "text", 17, 2**53 + 1, {"n": 1e300}):
        assert server.http.post("/json_test/", content=json.dumps(value)).json() == {
            "request_result": True,
            "result": value,
        }
    assert server.http.post("/json_test/", content=b'{"exact": 9007199254740993}').content.endswith(
        b"9007199254740993}}"
    )
