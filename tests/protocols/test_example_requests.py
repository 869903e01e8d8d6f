"""The example requests of a model are accepted by it, also if it rejects the usual values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from tests.acceptance.conftest import Server

INT, LONG, FLOAT = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT
Tensor = tuple[str, int, list[Any]]


def save(path: Path, nodes: list[Any], inputs: list[Tensor], output: Tensor, **constants: list[int]) -> Path:
    info = helper.make_tensor_value_info
    values = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [info(*each) for each in inputs], [info(*output)], values)
    save_model(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


def quotient(path: Path) -> Path:
    """Rejects zeros."""
    inputs: list[Tensor] = [("a", INT, ["n"]), ("b", INT, ["n"])]
    return save(path, [helper.make_node("Div", ["a", "b"], ["y"])], inputs, ("y", INT, ["n"]))


def groups(path: Path) -> Path:
    """Takes rows in multiples of four."""
    nodes = [helper.make_node("Reshape", ["x", "four"], ["z"]), helper.make_node("Reshape", ["z", "rows"], ["y"])]
    return save(path, nodes, [("x", FLOAT, ["n", 3])], ("y", FLOAT, ["n", 3]), four=[-1, 4, 3], rows=[-1, 3])


def depth(path: Path) -> Path:
    """Rejects a depth of zero, which is one number for all rows."""
    inputs: list[Tensor] = [("at", LONG, ["n"]), ("depth", LONG, [])]
    nodes = [helper.make_node("OneHot", ["at", "depth", "values"], ["y"])]
    return save(path, nodes, inputs, ("y", LONG, ["n", "depth"]), values=[0, 1])


def time_first(path: Path) -> Path:
    """The first dimension of the output does not count rows."""
    nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])]
    return save(path, nodes, [("x", FLOAT, ["n", 3])], ("y", FLOAT, [3, "n"]))


def total(path: Path) -> Path:
    """One number for all rows."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    return save(path, nodes, [("x", FLOAT, ["n", 3])], ("y", FLOAT, []))


@pytest.mark.parametrize("make", [quotient, groups, depth, time_first, total])
def test_the_examples_of_a_model_are_computed(server: Server, workspace: str, make: Callable[[Path], Path]) -> None:
    deployed = server.call("/deploy/", name=workspace, path=str(make(server.roots / "odd.onnx")), timeout=60)
    assert deployed["result"], deployed
    example = server.http.get(f"/v1/models/{workspace}/example").json()
    response = server.http.post(f"/v1/models/{workspace}:predict", json=example["json"])
    assert response.status_code == 200, (example["json"], response.text)
    paths = server.http.get("/openapi.json", params={"models": "true"}).json()["paths"]
    for path in ("/v1/models/{model}:predict", "/v2/models/{model}/infer", "/predict/"):
        body = paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"][workspace]["value"]
        found = server.http.post(path.replace("{model}", workspace), json=body)
        assert found.status_code == 200, (path, body, found.text)
        assert '"error"' not in found.text
    assert server.http.get(f"/pages/models/{workspace}/").status_code == 200


def test_what_a_model_accepts_is_listed_only_if_it_rejects_the_usual(server: Server, workspace: str) -> None:
    signatures = [
        server.call("/deploy/", name=workspace, path=str(make(server.roots / "odd.onnx")), timeout=60)["signatures"]
        for make in (quotient, total)
    ]
    assert [each["example"] for each in signatures[0]["serving_default"]["inputs"]] == [[1], [1]]
    assert "example" not in signatures[1]["serving_default"]["inputs"][0]
