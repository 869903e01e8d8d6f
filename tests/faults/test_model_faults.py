"""Faults of models that no other test has."""

from __future__ import annotations

import os
import resource
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from faults.chaos import versions
from tests.acceptance.conftest import Server
from tests.acceptance.test_models import deploy, deployment, predict

Start = Callable[..., Server]
MIB = 2**20


@pytest.mark.slow
def test_files_that_are_overwritten_while_serving_do_no_harm(server: Server, workspace: str, models: Path) -> None:
    copy = server.roots / "overwritten"
    shutil.copytree(models / "scale" / "1", copy)
    deploy(server, workspace, copy)
    for file in [path for path in copy.rglob("*") if path.is_file()]:
        with file.open("r+b") as opened:  # in place: also what is mapped into memory changes
            opened.write(b"\0" * file.stat().st_size)
            opened.truncate(0)
    for _ in range(3):
        assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]


def usage(server: Server) -> dict[str, int]:
    """What the server's processes hold, without the temporary ones of a deployment."""
    processes = server.processes()
    return {
        "processes": len(processes),
        "fds": sum(process.num_fds() for process in processes),
        "threads": sum(process.num_threads() for process in processes),
        "shm": len(os.listdir("/dev/shm")),
        "memory": sum(process.memory_full_info().uss for process in processes),
    }


@pytest.mark.long
@pytest.mark.slow
def test_a_hundred_deployments_leave_nothing_behind(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    (path := server.roots / "m.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')

    def cycles(count: int) -> dict[str, int]:
        for _ in range(count):
            assert deploy(server, "a", path)["result"] is True
            answer = server.http.post("/v1/models/a:predict", json={"instances": [[1, 2]]})
            assert answer.json() == {"predictions": [[1.0, 2.0]]}
            assert server.call("/undeploy/", name="a", timeout=60)["result"] is True
        return usage(server)

    before, after = cycles(20), cycles(80)
    for name in ("processes", "fds", "threads", "shm"):
        assert after[name] <= before[name] + 2, (name, before, after)
    assert after["memory"] - before["memory"] < 20 * MIB, (before, after)


def test_a_model_leaves_no_temporary_file(start: Start, tmp_path: Path) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    server = start(TMPDIR=str(temporary))
    server.call("/create_workspace/", name="a")
    assert deploy(server, "a", versions.write(server.roots, 1))["result"] is True
    answer = server.http.post("/v1/models/a:predict", json={"instances": [[1, 2]]})
    assert answer.json() == {"predictions": [[1001.0, 1002.0]]}
    assert server.stop() == 0
    assert list(temporary.iterdir()) == [], "ONNX Runtime's record for its telemetry, for example"


@pytest.mark.slow
def test_a_prediction_that_exhausts_memory_fails_alone(server: Server, workspace: str, models: Path) -> None:
    deploy(server, workspace, models / "hungry")
    process = psutil.Process(deployment(server, workspace)["pid"])
    room = process.memory_info().vms + 512 * MIB
    process.rlimit(resource.RLIMIT_AS, (room, room))
    answer = server.http.post(f"/v1/models/{workspace}:predict", json={"instances": [[1000.0, 0.0]]}, timeout=120)
    assert answer.status_code in (429, 500, 503), (
        answer.text
    )  # TensorFlow Serving's code for exhausted resources is 429
    assert "allocat" in answer.json()["error"], answer.text
    assert predict(server, workspace)["result"] == [[[1.0, 2.0]]]


@pytest.mark.slow
def test_a_deployment_of_another_fixed_size_serves_or_refuses_clearly(server: Server, workspace: str) -> None:
    paths = [server.roots / f"fixed{size}.echo" for size in (2, 3)]
    for size, path in zip((2, 3), paths, strict=True):
        path.write_text(f'{{"x": {{"dtype": "float32", "shape": [-1, {size}]}}}}')
    deploy(server, workspace, paths[0])
    stop, wrong, seen = threading.Event(), [], set()

    def client(row: list[float]) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            while not stop.is_set():
                answer = http.post(f"/v1/models/{workspace}:predict", json={"instances": [row]})
                seen.add((len(row), answer.status_code))
                if not understood(answer, row):
                    wrong.append(answer.text)

    threads = [threading.Thread(target=client, args=([1.0] * size,)) for size in (2, 3, 2, 3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            job = server.call("/update/", name=workspace, path=str(paths[(number + 1) % 2]), timeout=60)
            assert job["result"] is True, job
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    assert {(2, 200), (2, 400), (3, 200), (3, 400)} <= seen, seen


def understood(answer: httpx.Response, row: list[float]) -> bool:
    """Whether it is the row again, or a refusal that says which shape was expected."""
    content: Any = answer.json()
    if answer.status_code == 200:
        return bool(content == {"predictions": [row]})
    return answer.status_code == 400 and "shape" in content["error"]
