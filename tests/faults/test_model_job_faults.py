"""Faults of deferred predictions and batches that no other test has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.model_jobs import LATER, batch_output, ended, rows_file, with_echo
from tests.acceptance.test_disk import fill, small_disk

__all__ = ["small_disk"]

pytestmark = pytest.mark.slow
COUNT = 100_000


def test_a_batch_on_a_full_disk_continues_when_there_is_room(small_disk: Path, start: Callable[..., Server]) -> None:
    server = start(data_dir=small_disk / "data")
    with_echo(server)
    batch = server.call("/batch/", name="m", input=str(rows_file(small_disk, COUNT)))
    server.http.get(batch["output"], params={"wait": 30})
    filler = fill(small_disk)
    refused = server.http.post("/v1/models/m:predict", json={"instances": [[1, 2, 3]] * 2000}, headers=LATER)
    assert refused.status_code in (503, 507), refused.text
    while "continues when the disk has space" not in server.log:
        found = server.http.get(f"/batch/{batch['id']}", params={"wait": 1}).json()["result"]
        assert found["state"] == "running", found
    filler.unlink()
    job = ended(server, batch["id"])
    assert (job["state"], job["done"], job["errors"]) == ("succeeded", COUNT, 0), job
    lines = batch_output(server, batch["id"])
    assert all(line == {"index": n, "prediction": [n, 0, -n]} for n, line in enumerate(lines))
    assert len(lines) == COUNT


def test_a_batch_whose_model_is_undeployed_keeps_its_output_and_is_resumed(server: Server, workspace: str) -> None:
    path = server.roots / f"{workspace}.echo"
    path.write_text('{"x": {"dtype": "float32", "shape": [-1, 3]}}')
    server.call("/deploy/", name=workspace, path=str(path), timeout=60)
    batch = server.call("/batch/", name=workspace, input=str(rows_file(server.roots, COUNT, "undeployed.jsonl")))
    server.http.get(batch["output"], params={"wait": 30})
    server.call("/undeploy/", name=workspace, timeout=60)
    failed = ended(server, batch["id"])
    assert (failed["state"], "can't continue" in failed["error"]["message"]) == ("failed", True)
    assert server.refused(f"/batch/{batch['id']}/resume")[0] == 404
    kept = batch_output(server, batch["id"])
    assert 0 < len(kept) == failed["done"] < COUNT
    server.call("/deploy/", name=workspace, path=str(path), timeout=60)
    resumed = ended(server, server.call(f"/batch/{batch['id']}/resume")["id"])
    assert (resumed["state"], resumed["done"]) == ("succeeded", COUNT), resumed
    lines = batch_output(server, resumed["id"])
    assert all(line == {"index": n, "prediction": [n, 0, -n]} for n, line in enumerate(lines))


def test_a_row_that_ends_the_process_of_the_model_gets_an_error_line(
    server: Server, workspace: str, models: Path
) -> None:
    deployed = server.call("/deploy/", name=workspace, path=str(models / "abort"), timeout=60)
    assert deployed["result"] is True, deployed
    rows = server.roots / "deadly.jsonl"
    rows.write_text("".join(f"[{1000 if n == 7 else n}, 0]\n" for n in range(20)))
    job = ended(server, server.call("/batch/", name=workspace, input=str(rows))["id"])
    assert (job["state"], job["done"], job["errors"]) == ("succeeded", 20, 1), job
    lines = batch_output(server, job["id"])
    assert "was lost" in lines[7]["error"]
    assert [line["prediction"][0] for line in lines if "prediction" in line] == [n for n in range(20) if n != 7]
