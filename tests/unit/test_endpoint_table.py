"""An endpoint table: its rows are served, listed in the guide and described in the OpenAPI document."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, cast

import httpx
import msgspec
import pytest
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Router

from tfserve.config import Settings
from tfserve.errors import NotFound
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.api.endpoint import TEXT, Context, Endpoint, EndpointTable, Format
from tfserve.web.api.guide import guide
from tfserve.web.api.openapi import openapi
from tfserve.web.api.routes import routes
from tfserve.web.http.request_boundary import RequestBoundary
from tfserve.web.predictions.live_models import LiveModels
from tfserve.web.supervisor_client import SupervisorClient

JOBS = EndpointTable(Format.ENVELOPE, None)
TASKS = EndpointTable(Format.PLAIN, None)


class Add(msgspec.Struct):
    a: Annotated[int, Meta(description="first number")]
    b: int = 1
    timeout: float = 0.0


@JOBS.post("/add/", Add, int, summary="add two numbers", returns="the sum", submits_job=True)
async def add(context: Context, request: Add) -> Any:
    return [request.a + request.b, context.idempotency_key] if context.idempotency_key else request.a + request.b


@JOBS.post("/echo/", msgspec.Raw, summary="echo the request", returns="the same JSON")
async def echo(_: Context, request: msgspec.Raw) -> msgspec.Raw:
    return request


@TASKS.get(
    "/tasks/{id}",
    summary="get a task",
    returns="the task",
    parameters={"id": {"type": "string"}, "n": {"type": "integer", "default": 2, "description": "a number"}},
    media=(TEXT,),
)
async def show(_: Context, request: Request) -> dict[str, str]:
    if request.path_params["id"] == "none":
        raise NotFound("There is no task.")
    return {"id": request.path_params["id"]}


@TASKS.post("/tasks/{id}", summary="change a task", returns="the task", parameters={"id": {"type": "string"}})
async def change(_: Context, request: Request) -> dict[str, str]:
    return {"changed": (await request.body()).decode()}


ROWS = [*JOBS, *TASKS, Endpoint("GET", "/elsewhere", "elsewhere", "get nothing", "nothing")]


def respond(method: str, path: str, **options: Any) -> httpx.Response:
    nothing = cast(SupervisorClient, None), cast(LiveModels, None)
    app = RequestBoundary(Router(routes(ROWS, Context(*nothing, Settings(), Path("/"), AuditLog(None)))))

    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    return asyncio.run(scenario())


def test_a_result_has_the_format_of_its_table() -> None:
    assert respond("POST", "/add/", json={"a": 2}).json() == {"request_result": True, "result": 3}
    assert respond("POST", "/echo/", content=b' {"x": 1.0} ').content == b'{"request_result":true,"result":{"x": 1.0}}'
    assert respond("GET", "/tasks/7").json() == {"id": "7"}
    assert respond("POST", "/tasks/7", content=b"text").json() == {"changed": "text"}


def test_unknown_fields_cause_warnings_in_results_and_errors() -> None:
    warning = "unknown field 'B'; did you mean 'b'?"
    assert respond("POST", "/add/", json={"a": 2, "B": 3}).json()["warnings"] == [warning]
    refused = respond("POST", "/add/", json={"B": 3})
    assert (refused.status_code, refused.json()["warnings"]) == (400, [warning])


@pytest.mark.parametrize(
    ("method", "path", "allowed", "words"),
    [
        ("GET", "/add/", "POST", "Use POST /add/ with a JSON object to add two numbers."),
        ("PUT", "/tasks/7", "GET, POST", "Use GET /tasks/{id} to get a task, or POST /tasks/{id} to change a task."),
    ],
)
def test_another_method_is_405_with_the_right_one(method: str, path: str, allowed: str, words: str) -> None:
    response = respond(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert words in response.text


def test_errors_of_a_handler_have_the_format_of_the_api() -> None:
    assert (respond("GET", "/tasks/none").status_code, respond("GET", "/tasks/none").json()) == (
        404,
        {"error": "There is no task."},
    )


@pytest.mark.parametrize("key", ["k 1", "x" * 200])
def test_an_idempotency_key_is_passed_to_endpoints_that_submit_a_job(key: str) -> None:
    assert respond("POST", "/add/", json={"a": 1}, headers={"Idempotency-Key": key}).json()["result"] == [2, key]


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_an_invalid_idempotency_key_is_400(key: str) -> None:
    assert respond("POST", "/add/", json={"a": 1}, headers={"Idempotency-Key": key}).status_code == 400


def test_the_guide_has_a_page_for_each_row() -> None:
    pages = guide(ROWS)
    assert list(pages) == ["/add/", "/echo/", "GET /tasks/{id}", "POST /tasks/{id}", "GET /elsewhere"]
    assert pages["/add/"]["request"]["a"] == {"type": "integer", "description": "first number", "needed": True}
    assert pages["/add/"]["request"]["b"] == {"type": "integer", "description": "", "default": 1}
    assert pages["/echo/"]["request"] == {"any": "JSON"}
    assert pages["GET /tasks/{id}"] == {
        "purpose": "get a task", "request": {"n": "a number (default: 2)"}, "result": "the task",
    }  # fmt: skip


def test_the_document_has_an_operation_for_each_row() -> None:
    document = openapi(ROWS)
    operations = {
        (method, path): operation
        for path, by_method in document["paths"].items()
        for method, operation in by_method.items()
    }
    assert {each["operationId"] for each in operations.values()} == {"add", "echo", "show", "change", "elsewhere"}
    added = operations["post", "/add/"]
    assert [each["name"] for each in added["parameters"]] == ["Idempotency-Key"]
    assert added["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Add"}
    assert added["requestBody"]["required"] is True, "it has a required field"
    assert operations["post", "/echo/"]["requestBody"]["required"] is False
    schema = added["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["properties"]["result"] == {"type": "integer", "format": "int64"}
    shown = operations["get", "/tasks/{id}"]
    assert [(each["name"], each["in"], each["required"]) for each in shown["parameters"]] == [
        ("id", "path", True), ("n", "query", False),
    ]  # fmt: skip
    assert shown["responses"]["200"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    assert shown["responses"]["default"] == {"$ref": "#/components/responses/Error"}
    assert "requestBody" not in shown
    assert set(document["components"]["schemas"]) == {"Add", "Failure", "Error", "Value", "Warnings"}
