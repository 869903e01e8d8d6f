"""Files that were deployed before begin with the runtime that was chosen for them then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Server

PATIENCE_S = 180
WITHOUT = "import sys\nfor each in ('ai_edge_litert', 'tf2onnx', 'onnxruntime'):\n    sys.modules[each] = None\n"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_files_begin_with_the_chosen_runtime_unless_it_is_damaged(
    start: Callable[..., Server], models: Path, tmp_path: Path
) -> None:
    server = start(PYTHONPATH=without_other_candidates(tmp_path), TFSERVE_ROOTS=str(models), TFSERVE_CONVERT="1",
                   TFSERVE_WARM_SPARE="1")  # fmt: skip
    first = deployed(server, "first", models / "deep")
    assert first["runtime"] == "tensorflow"
    eventually(lambda: status(server, "first")["choice"].startswith("openvino was chosen"), server)
    (converted,) = server.data_dir.glob("conversions/*/openvino/model.bin")
    eventually(lambda: (converted.parents[1] / "served.json").exists(), server)

    second = deployed(server, "second", models / "deep")
    assert second["runtime"] == "openvino"
    assert second["choice"].startswith("openvino was chosen when these files were deployed before")
    assert second["signatures"] == first["signatures"]
    assert second["version"] == first["version"]
    assert predicted(server, "second") == predicted(server, "first")
    eventually(lambda: server.http.get("/server/").json()["result"]["light_spare"] is not None, server)

    converted.write_bytes(b"\0" * converted.stat().st_size)
    third = deployed(server, "third", models / "deep")
    assert third["runtime"] == "tensorflow"
    assert predicted(server, "third") == predicted(server, "first")


def without_other_candidates(folder: Path) -> str:
    """The PYTHONPATH of a server whose trials are over soon."""
    (folder / "lacking").mkdir()
    (folder / "lacking" / "sitecustomize.py").write_text(WITHOUT)
    return os.pathsep.join([str(folder / "lacking"), os.environ.get("PYTHONPATH", "")])


def deployed(server: Server, name: str, path: Path) -> dict[str, Any]:
    server.call("/create_workspace/", name=name)
    job = server.call("/deploy/", name=name, path=str(path), timeout=PATIENCE_S)
    assert job["result"] is True, job
    return status(server, name)


def status(server: Server, name: str) -> dict[str, Any]:
    found: dict[str, Any] = server.call("/get_status/", name=name)["deployment"]
    return found


def predicted(server: Server, name: str) -> object:
    answer = server.http.post(f"/v1/models/{name}:predict", json={"instances": [[1.0, 2.0], [3.0, -4.0]]})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def eventually(is_so: Callable[[], bool], server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, server.log
        server.http.get(
            "/server/", params={"since": server.http.get("/server/").json()["result"]["revision"], "wait": 1}
        )
