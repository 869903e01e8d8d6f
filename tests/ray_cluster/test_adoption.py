"""The next start of the head takes over models on nodes whatever computes them, with the files that they came from."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import helper, save_model

from tests.ray_cluster.cluster import Cluster
from tests.ray_cluster.driving import asked, predict

REQUESTED = ("onnxruntime", "openvino", "litert")


def double(folder: Path) -> Path:
    """An ONNX file: y = x + x."""
    x, y = (helper.make_tensor_value_info(name, 1, ["n", 2]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    file = folder / "double.onnx"
    save_model(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), file)
    return file


def served(cluster: Cluster, name: str) -> dict[str, Any]:
    """What must be the same afterwards."""
    found = cluster.status(name)["deployment"]
    return {
        key: found[key] for key in ("runtime", "processes", "version", "state", "path", "format", "choice", "served")
    }


@pytest.mark.timeout(600)
def test_models_of_every_runtime_are_taken_over_with_their_processes(cluster: Cluster, scale: Path) -> None:
    node = cluster.url_of(cluster.node_machines[0])
    for name in REQUESTED:
        cluster.workspace(name)
        cluster.deploy(name, scale / "2", runtime=name)
    cluster.workspace("file")
    cluster.deploy("file", double(cluster.models))
    names = [*REQUESTED, "file"]
    before = {name: served(cluster, name) for name in names}
    assert {name: before[name]["runtime"] for name in REQUESTED} == {name: name for name in REQUESTED}
    with asked(node, "openvino") as answers:
        cluster.head.stop(signal.SIGKILL)
        for name in names:
            assert predict(node, name).json() == {"predictions": [[2.0, 4.0]]}
        cluster.head = cluster.start_head()
        cluster.until(lambda: all(cluster.replicas(name) for name in names))
    assert {status for status, _ in answers} == {200}, [each for each in answers if each[0] != 200][:3]
    assert {name: served(cluster, name) for name in names} == before
    for name in names:
        assert predict(cluster.url, name).json() == {"predictions": [[2.0, 4.0]]}

    # What is taken over can be changed like any other, and the files that nodes have are used again.
    cluster.call("/scale/", name="litert", replicas=2)
    assert cluster.call("/update/", name="onnxruntime", path=str(scale / "1"), timeout=90)["result"] is True
    assert predict(node, "onnxruntime").json() == {"predictions": [[1.0, 2.0]]}
    cluster.call("/undeploy/", name="file", timeout=60)
    cluster.deploy("file", double(cluster.models))
    assert predict(node, "file").json() == {"predictions": [[2.0, 4.0]]}
    assert httpx.post(f"{node}/v1/models/litert:predict", json={"instances": [[1, 2]] * 3}, timeout=60).json() == {
        "predictions": [[2.0, 4.0]] * 3
    }
