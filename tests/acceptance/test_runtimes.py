"""Models for other runtimes than TensorFlow, deployed on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper, save_model

from tests.acceptance.conftest import Server


@pytest.fixture
def double(server: Server) -> Path:
    """y = x + x"""
    file = server.roots / "double.onnx"
    sides = [helper.make_tensor_value_info(name, 1, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", sides[:1], sides[1:])
    save_model(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 17)]), str(file))
    return file


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_an_onnx_file_is_deployed_and_answers(server: Server, workspace: str, double: Path, runtime: str) -> None:
    job = server.call("/deploy/", name=workspace, path=str(double), runtime=runtime, timeout=60)
    assert (job["result"], job["format"]) == (True, "ONNX file"), job
    deployment = server.call("/get_status/", name=workspace)["deployment"]
    assert deployment["runtime"] == {"auto": "onnxruntime"}.get(runtime, runtime)
    job = server.call("/predict/", name=workspace, fetches=["y"], feed_dict={"x": [[1, 2], [3, 4]]}, timeout=60)
    assert job["result"] == [[[2.0, 4.0], [6.0, 8.0]]]
    job = server.call("/predict/", name=workspace, fetches=["z"], feed_dict={"x": [[1, 2]]}, timeout=60)
    assert "no output 'z'" in job["error"]["message"]


def test_a_damaged_file_is_told_and_nothing_is_deployed(server: Server, workspace: str) -> None:
    file = server.roots / "damaged.tflite"
    file.write_bytes(b"damaged" * 100)
    job = server.call("/deploy/", name=workspace, path=str(file), timeout=60)
    assert f"{file} can't be loaded by LiteRT" in job["error"]["message"]
    assert server.call("/get_status/", name=workspace)["deployment"] is None
