"""Requests made from the OpenAPI document, right ones and wrong ones: each has an answer that the document knows.

The same requests in every run. Left out is what would keep the server busy or take away what other requests need.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import load_all_checks
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.acceptance.conftest import Server
from tests.protocols import echo

EXAMPLES = 8
"""Requests of each sort to an operation."""

MODELS = ["numbers", "echo"]
SCRIPTS = "scripts"
MAY_FAIL = (501, 503, 504, 507)
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]

load_all_checks()


@pytest.fixture(scope="module")
def fuzzed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a model of TensorFlow, an echo model, and a workspace without a model."""
    folder = tmp_path_factory.mktemp("fuzz")
    roots = f"{folder}:{models}"
    server = Server(folder / "data", environment={"TFSERVE_ROOTS": roots, "TFSERVE_MAX_WORKSPACES": "40"})
    paths = {"numbers": models / "scale", "echo": echo.write(folder / "all.echo", two=echo.TWO)}
    for name, path in paths.items():
        server.call("/create_workspace/", name=name)
        assert server.call("/deploy/", name=name, path=str(path), timeout=60)["result"] is True
    server.call("/create_workspace/", name=SCRIPTS, type=1)
    server.run(SCRIPTS, "x = 1; print(x)")
    yield server
    server.close()
    assert "Traceback" not in server.log, server.log


@pytest.fixture(scope="module")
def document(fuzzed: Server) -> Any:
    """The document, with names of what is there among those to be tried: else every answer would be 404."""
    told = fuzzed.http.get("/openapi.json").json()
    for path in told["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _or_known(parameter["name"], parameter["schema"])
    for schema in told["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            schema["properties"][name] = _or_known(name, field)
    return told


KNOWN = {
    "model": MODELS,
    "version": ["1"],
    "id": [1, 2, 3],
    "name": [*MODELS, SCRIPTS, "x", "y"],
    "fetches": ["x", ["y"]],
    "instances": [[[1, 2]], [[1, 2, 3], [4, 5, 6]], [{"x": [1.5, 2]}]],
    "inputs": [[[1, 2]], {"x": [[1, 2, 3]]}, [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]],
    "signature_name": ["two", "FP64"],
}


def _or_known(name: str, schema: Any) -> Any:
    return {"anyOf": [{"enum": KNOWN[name]}, schema]} if name in KNOWN else schema


APIS = {
    "v1": lambda path: path.startswith("/v1/"),
    "v2": lambda path: path.startswith("/v2"),
    "training": lambda path: path.startswith(("/task", "/training")),
    "reads": lambda path: path.startswith(("/jobs", "/server", "/metrics", "/monitoring", "/openapi")),
    "workspaces": lambda path: True,
}


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("api", APIS)
def test_every_request_has_an_answer_that_the_document_knows(
    fuzzed: Server, document: Any, api: str, mode: str
) -> None:
    for operation in schemathesis.openapi.from_dict(document).get_all_operations():
        found = operation.ok()
        if next(name for name, takes in APIS.items() if takes(found.path)) == api and found.path != "/destroy/":
            _try(fuzzed, found, GenerationMode(mode))
    assert fuzzed.http.get("/v2/health/ready").status_code == 200
    assert all(fuzzed.http.get(f"/v2/models/{name}/ready").status_code == 200 for name in MODELS)


def _try(server: Server, operation: Any, mode: GenerationMode) -> None:
    session = requests.Session()

    @seed(4)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        assume(not _disturbs(operation.path, case))
        answer = case.call(base_url=server.url, session=session, timeout=30)
        curl = case.as_curl_command()
        assert answer.status_code < 500 or answer.status_code in MAY_FAIL, (curl, answer.status_code, answer.text)
        is_page = operation.path == "/" and case.method == "GET" and answer.status_code == 200
        assert is_page or "html" not in answer.headers["content-type"][0], (curl, answer.text)
        case.validate_response(answer, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # there is no wrong way to ask for something that takes nothing
        ask()


def _disturbs(path: str, case: Any) -> bool:
    """Whether it would take away or rebuild what others are tried with, or begin something long."""
    body = case.body if isinstance(case.body, dict) else {}
    name = body.get("name")
    if path == "/destroy_workspace/":
        return not isinstance(name, str) or name in (*MODELS, SCRIPTS)
    if path in ("/undeploy/", "/scale/", "/push_job/", "/restart_workspace/"):
        return name in MODELS
    if path.startswith("/v2/repository/models/"):
        return case.path_parameters["model"] in MODELS
    return False


def test_a_verb_that_the_document_does_not_know_is_refused_in_the_words_of_its_api(
    fuzzed: Server, document: Any
) -> None:
    for path, operations in document["paths"].items():
        place = path.format(model="echo", version=1, id=1, path="x")
        for verb in {"get", "post", "put", "patch", "delete"} - set(operations):
            answer = fuzzed.http.request(verb, place)
            assert answer.status_code in (400, 405), (verb, place, answer.text)
            assert ("request_result" in answer.json()) is not place.startswith(("/v1/", "/v2", "/task", "/training"))
            assert "error" in json.loads(answer.content), (verb, place)
