"""The size and the time of every page: at most 50 ms and 60 kB, however much there is to show."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.crowded_database import FAILED_JOB, LONG, RUNNING, TASKS, WORKSPACE
from benchmarks.pages import GOAL_KB, GOAL_MS, PAGES, Measured, fill
from tests.acceptance.conftest import REPOSITORY, Server
from tests.protocols import echo

MANY, SIGNATURES, DEPLOY_S = 1000, 300, 180
CROWDED = {
    "Overview": "/",
    "Workspaces": "/pages/workspaces/",
    "Workspace": f"/pages/workspaces/{WORKSPACE}/",
    "Jobs": "/pages/jobs/",
    "Trainings": "/pages/trainings/",
    "New training": "/pages/trainings/new/",
    **{f"Training {task}": f"/pages/trainings/{task}/" for task in (*TASKS, RUNNING)},
    "A cell": "/pages/trainings/confused/?cell=1-2",
    "Models": "/pages/models/",
    **{f"Model {name}": f"/pages/models/{name}/" for name in ("labels", "signatures", "inputs", "updated")},
    "Nodes": "/pages/nodes/",
    "API": "/docs",
    "Settings": "/pages/settings/",
    "Tokens": "/pages/tokens/",
    "Audit log": "/pages/audit/",
    "Log in": "/pages/login/",
    "Not found": "/pages/nothing/",
}


def assert_within_budget(server: Server, paths: dict[str, str]) -> None:
    pages = {label: Measured(server.http, server.pid, path) for label, path in paths.items()}
    too_large = {label: page.kb for label, page in pages.items() if page.kb > GOAL_KB}
    too_slow = {label: page.processor_ms for label, page in pages.items() if page.processor_ms > GOAL_MS}
    assert not too_large
    assert not too_slow


@pytest.mark.slow
def test_pages_of_many_jobs_are_fast_and_small(start: Callable[..., Server], tmp_path: Path) -> None:
    fill(tmp_path)
    assert_within_budget(start(), PAGES)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the largest trainings, workspaces, lists of tokens and models."""
    folder = tmp_path_factory.mktemp("crowded")
    environment = {**os.environ, "TFSERVE_DATA_DIR": str(folder / "data")}
    subprocess.run([sys.executable, "-m", "benchmarks.crowded_database"], cwd=REPOSITORY, env=environment, check=True)
    server = Server(folder / "data", environment={"TFSERVE_AUTH": "off"})
    server.http.timeout = httpx.Timeout(DEPLOY_S + 30)
    _deploy_models(server, folder)
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pages_with_much_to_show_are_fast_and_small(crowded: Server) -> None:
    missing = CROWDED["Not found"]
    assert len(crowded.http.get(missing).content) < 1000 * GOAL_KB
    assert_within_budget(crowded, {label: path for label, path in CROWDED.items() if path != missing})


@pytest.mark.slow
def test_the_page_of_a_job_with_long_texts_is_fast_and_small(crowded: Server) -> None:
    jobs = crowded.http.get("/jobs/", params={"name": WORKSPACE}).json()["result"]["jobs"]
    job = next(each for each in jobs if each["job"] == FAILED_JOB)
    assert_within_budget(crowded, {"A job": f"/pages/jobs/{job['id']}/"})
    assert "characters left out" in crowded.http.get(f"/pages/jobs/{job['id']}/").text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "pager", "item", "count"),
    [
        ("/pages/trainings/many/", "Pages of classes", '<th scope="row" class="name">', TASKS["many"]),
        ("/pages/trainings/many/", "Pages of labels", '<span class="minor">2</span></li>', TASKS["many"]),
        ("/pages/models/signatures/", "Pages of tensors", '<td class="minor">in</td>', 4 * SIGNATURES),
        (f"/pages/workspaces/{WORKSPACE}/", "Pages of variables", '<tr id="variable-', 500),
        (f"/pages/workspaces/{WORKSPACE}/", "Pages of files", '<tr id="file-', 500),
        ("/pages/tokens/", "Pages of tokens", '<td data-label="Scopes">', 300),
    ],
)
def test_all_rows_of_a_long_list_are_reached_without_scripts(
    crowded: Server, path: str, pager: str, item: str, count: int
) -> None:
    seen, query = 0, ""
    while True:
        page = crowded.http.get(f"{path}{query}").text
        seen += page.count(item)
        links = page.partition(f'aria-label="{pager}"')[2].partition("</nav>")[0]
        following = re.search(r'href="([^"#]*)[^"]*" rel="next"', links)
        if following is None:
            break
        query = html.unescape(following[1])
    assert seen == count


def _deploy_models(server: Server, folder: Path) -> None:
    labels = [f"{number} {LONG}"[:60] for number in range(MANY)]
    _classifier(folder / "labels.onnx")
    image = {"height": 4, "width": 4, "labels": labels}
    _deploy(server, "labels", folder / "labels.onnx", image=image)
    tensors = {f"x{number}": {"dtype": "float32", "shape": [-1, 3]} for number in range(4)}
    signatures = {f"signature {number}": tensors for number in range(SIGNATURES - 1)}
    described = {"signatures": {"serving_default": tensors, **signatures}, "remarks": [LONG * 9] * 50}
    (folder / "signatures.echo").write_text(json.dumps(described))
    _deploy(server, "signatures", folder / "signatures.echo", replicas=3)
    inputs = {f"input {number} {LONG}": {"dtype": "float32", "shape": [-1, 2]} for number in range(300)}
    _deploy(server, "inputs", echo.write(folder / "inputs.echo", inputs))
    wide = {"x": {"dtype": "float32", "shape": [-1, 900]}}
    for number in range(12):
        deep = folder.joinpath(*(["a folder with a long name " * 7] * 3), f"version {number}")
        deep.mkdir(parents=True)
        _deploy(server, "updated", echo.write(deep / "wide.echo", wide))


def _deploy(server: Server, name: str, path: Path, **options: Any) -> None:
    if name not in server.call("/get_workspace/"):
        server.call("/create_workspace/", name=name)
    job = server.call("/deploy/", name=name, path=str(path), timeout=DEPLOY_S, **options)
    assert job["result"] is True, job


def _classifier(file: Path) -> None:
    """An ONNX model of images with 1000 probabilities."""
    weights = numpy_helper.from_array(np.zeros((3, MANY), np.float32), "weights")
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["sums"]),
        helper.make_node("Softmax", ["sums"], ["probabilities"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [None, 4, 4, 3])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, MANY])
    graph = helper.make_graph(nodes, "g", [images], [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
