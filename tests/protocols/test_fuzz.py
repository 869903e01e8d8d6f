"""Requests made from the OpenAPI document, right ones and wrong ones: each has an answer that the document knows.

The same requests in every run. Left out is what would keep the server busy or take away what other requests need.
"""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
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
from tfserve.web.api.openapi import ERROR_STATUSES

pytestmark = pytest.mark.slow

EXAMPLES = 6
"""Requests of each sort to an operation."""

MODELS = ["numbers", "echo"]
SCRIPTS = "scripts"
LEFT_OUT = ("/destroy/", "/json_test/")
"""One ends all workspaces, the other takes anything: there is nothing to be found."""
LENGTH_OF_JSON = "Inference-Header-Content-Length"
MAY_FAIL = (501, 503, 504, 507)
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]

load_all_checks()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a model of TensorFlow, an echo model, and a workspace without a model."""
    folder = tmp_path_factory.mktemp("fuzz")
    program = Path(__file__).with_name("make_v1_model.py")
    subprocess.run([sys.executable, program, folder / "numbers"], capture_output=True, check=True)
    server = Server(folder / "data", environment={"TFSERVE_ROOTS": str(folder), "TFSERVE_MAX_WORKSPACES": "40"})
    paths = {"numbers": folder / "numbers", "echo": echo.write(folder / "all.echo", two=echo.TWO)}
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
    return fuzzed.http.get("/openapi.json").json()


def narrowed(document: Any, *tables: dict[str, list[Any]]) -> Any:
    """The document with few values to choose from, by field or by type and field."""
    told, known = copy.deepcopy(document), {key: value for table in tables for key, value in table.items()}
    for operation in [operation for path in told["paths"].values() for operation in path.values()]:
        for media in operation.get("requestBody", {}).get("content", {}).values():
            media.pop("example", None)  # it names workspaces that do not exist, and creates a token
        shared = told["components"].get("parameters", {})
        parameters = [
            copy.deepcopy(shared[each["$ref"].rpartition("/")[2]]) if "$ref" in each else each
            for each in operation.get("parameters", [])
        ]
        # A length that does not fit the body would refuse nearly every request.
        operation["parameters"] = [each for each in parameters if each["name"] != LENGTH_OF_JSON]
        for parameter in operation["parameters"]:
            if parameter["name"] in known:
                parameter["schema"] = {"enum": known[parameter["name"]]}
    for title, schema in told["components"]["schemas"].items():
        for name in schema.get("properties", {}):
            if (values := known.get(f"{title}.{name}")) is not None:
                schema["properties"][name] = {"enum": values}
    return told


NAMES: dict[str, list[Any]] = {
    "model": [*MODELS, SCRIPTS, "none"],
    "version": [1, 2],
    "id": [1, 2, 999],
    **{
        f"{title}.name": [*MODELS, SCRIPTS, "none"]
        for title in ("OneWorkspace", "Clear", "GetFinish", "GetVariable", "GetResult", "CancelJob", "Predict")
    },
    **{f"{title}.name": [SCRIPTS, "none"] for title in ("PushJob", "Deploy", "Update", "Undeploy", "Scale")},
    "DestroyWorkspace.name": ["none", "gone"],
    "InputTensor.name": ["x", "a", "z"],
}
"""Of what is there, mostly: else every answer would be 404."""

ROWS = [[1, 2]]
X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
LIKELY: dict[str, list[Any]] = {
    "model": [*MODELS, SCRIPTS],
    **{f"{title}.name": [SCRIPTS] for title in ("PushJob", "Deploy", "Undeploy", "Scale")},
    **{f"{title}.name": MODELS for title in ("Predict", "GetResult", "GetFinish")},
    "PredictRequest.instances": [ROWS, [[1, 2, 3], [4, 5, 6]], [{"x": [1.5, 2]}], [{"a": [1, 2], "b": "text"}]],
    "PredictRequest.inputs": [ROWS, [[1, 2, 3]], {"x": ROWS}, {"a": ROWS, "b": ["text"]}],
    "PredictRequest.signature_name": [None, "two", "FP64"],
    "ExamplesRequest.examples": [[{"x": 1.5}], [{"x": 1.5, "word": "a"}, {"x": 0.0, "n": True}], [{"y": 1}]],
    "ExamplesRequest.signature_name": ["classify", "classify_bare", "regress"],
    "InferRequest.inputs": [[X], [{**X, "shape": [1, 3], "data": [1, 2, 3]}], [{**X, "shape": [0, 3], "data": []}]],
    "InferRequest.outputs": [None, [], [{"name": "x"}], [{"name": "y", "parameters": {"binary_data": True}}]],
    "InferRequest.parameters": [None, {"binary_data_output": True}, {"timeout": 10**6}],
    "Predict.fetches": ["x", ["y"], []],
    "Predict.feed_dict": [{"x": ROWS}, {"x": [[1, 2, 3]]}],
    "Predict.signature": ["serving_default", "two"],
    "PushJob.job": ["x = 1", "print(x)", "1 / 0"],
    "PushJob.type": [1],
    "GetVariable.variable": [None, "x", ["x", "y"]],
    "Deploy.replicas": [1],
    "Deploy.image": [None],
    "Scale.replicas": [1],
    **{f"{title}.timeout": [0, 5] for title in ("Clear", "Deploy", "Predict", "PushJob", "Undeploy", "Update")},
}
"""What models take, so that some requests are computed."""


APIS = {
    "v1": lambda path: path.startswith("/v1/"),
    "v2": lambda path: path.startswith("/v2"),
    "training": lambda path: path.startswith(("/task", "/training")),
    "reads": lambda path: path.startswith(("/jobs", "/server", "/metrics", "/monitoring", "/openapi")),
    "workspaces": lambda path: True,
}


WAYS = {
    "likely": (GenerationMode.POSITIVE, [NAMES, LIKELY]),
    "right": (GenerationMode.POSITIVE, [NAMES]),
    "wrong": (GenerationMode.NEGATIVE, [NAMES]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("api", APIS)
def test_every_request_has_an_answer_that_the_document_knows(fuzzed: Server, document: Any, api: str, way: str) -> None:
    mode, tables = WAYS[way]
    if way == "likely":
        tables = [*tables, {"Deploy.path": [str(fuzzed.roots / "all.echo"), "none.echo"]}]
    for operation in schemathesis.openapi.from_dict(narrowed(document, *tables)).get_all_operations():
        found = operation.ok()
        if next(name for name, takes in APIS.items() if takes(found.path)) == api and found.path not in LEFT_OUT:
            _try(fuzzed, found, mode)
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
        assert answer.status_code == 200 or str(answer.status_code) in ERROR_STATUSES, curl
        assert is_page or "html" not in answer.headers["content-type"][0], (curl, answer.text)
        case.validate_response(answer, checks=CHECKS)

    with contextlib.suppress(Unsatisfiable):  # there is no wrong way to ask for something that takes nothing
        ask()


def _disturbs(path: str, case: Any) -> bool:
    """Whether it would take away what others are tried with, or start many processes."""
    body = case.body if isinstance(case.body, dict) else {}
    if path == "/destroy_workspace/":
        return not isinstance(body.get("name"), str)  # all would be destroyed
    if path.startswith("/v2/repository/models/"):
        return case.path_parameters["model"] in MODELS
    replicas = body.get("replicas")
    return path in ("/deploy/", "/scale/") and isinstance(replicas, int) and 2 < replicas <= 64


def test_a_verb_that_the_document_does_not_know_is_refused_in_the_words_of_its_api(
    fuzzed: Server, document: Any
) -> None:
    for path, operations in document["paths"].items():
        place = path.format(model="echo", version=1, id=1, path="x", name="none")
        for verb in {"get", "post", "put", "patch", "delete"} - set(operations):
            answer = fuzzed.http.request(verb, place)
            assert answer.status_code in (400, 405), (verb, place, answer.text)
            assert ("request_result" in answer.json()) is not place.startswith(("/v1/", "/v2", "/task", "/training"))
            assert "error" in json.loads(answer.content), (verb, place)
