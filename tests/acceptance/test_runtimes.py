"""Models for other runtimes than TensorFlow, deployed on a real server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
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


@pytest.mark.slow
def test_without_tensorflow_a_saved_model_is_served_by_openvino_and_said_to_be_not_compared(
    start: Callable[..., Server], models: Path, tmp_path: Path
) -> None:
    (tmp_path / "lacking").mkdir()
    blocked = "import sys\nsys.modules['tensorflow'] = sys.modules['keras'] = None\n"
    (tmp_path / "lacking" / "sitecustomize.py").write_text(blocked)
    python_path = os.pathsep.join([str(tmp_path / "lacking"), os.environ.get("PYTHONPATH", "")])
    server = start(PYTHONPATH=python_path, TFSERVE_ROOTS=str(models), TFSERVE_CONVERT="1")
    for name, runtime in (("first", "auto"), ("second", "openvino")):
        server.call("/create_workspace/", name=name)
        path = str(models / "scale" / "2")
        job = server.call("/deploy/", name=name, path=path, runtime=runtime, timeout=60)
        assert job["result"] is True, job
        assert server.call("/get_status/", name=name)["deployment"]["runtime"] == "openvino"
        job = server.call("/predict/", name=name, fetches=["y"], feed_dict={"x": [[1, 2]]}, timeout=60)
        assert job["result"] == [[[2.0, 4.0]]]
    job = server.call("/deploy/", name="second", path=str(models / "net.keras"), timeout=60)
    assert "needs TensorFlow, which is not installed: pip install" in job["error"]["message"]
    eventually_says(server, "first", "not compared with TensorFlow")


def eventually_says(server: Server, name: str, words: str) -> None:
    deadline = time.monotonic() + 60
    while words not in server.call("/get_status/", name=name)["deployment"].get("choice", ""):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_damaged_file_is_reported_and_nothing_is_deployed(server: Server, workspace: str) -> None:
    file = server.roots / "damaged.tflite"
    file.write_bytes(b"dameTFL3" * 100)
    job = server.call("/deploy/", name=workspace, path=str(file), timeout=60)
    assert f"{file} can't be loaded by LiteRT" in job["error"]["message"]
    assert server.call("/get_status/", name=workspace)["deployment"] is None
