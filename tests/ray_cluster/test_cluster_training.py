"""A training whose machine dies continues on another one, from the last checkpoint that the head has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.training_calls import QUICK, digit_project, form
from tests.ray_cluster.cluster import Cluster
from tests.ray_cluster.machines import Machine

EPOCHS = 12
CONTINUES_S = 90
ENDS_S = 400


@pytest.mark.timeout(600)
def test_a_training_whose_machine_dies_continues_on_another_one_from_its_checkpoint(
    cluster: Cluster, tmp_path: Path
) -> None:
    project = digit_project(cluster.folder / "project")
    task = begin(cluster, project, epochs=EPOCHS)
    cluster.until(lambda: any(cluster.data_dir.glob(f"**/{task}/**/checkpoint-*")), CONTINUES_S)
    before = query(cluster, task)
    victim = machine_of(cluster, before)
    victim.kill_all()
    seen = [before["progress"]]

    def has_continued() -> Any:
        now = query(cluster, task)
        seen.append(now["progress"])
        return now if now["thread"] and machine_of(cluster, now) not in (victim, None) else None

    assert cluster.until(has_continued, CONTINUES_S)
    ended = cluster.until(lambda: each if (each := query(cluster, task))["state"] == "done" else None, ENDS_S)
    assert seen == sorted(seen), "progress never goes back"
    output = cluster.http.get(f"/tasks/{task}/output").text
    assert f"continuing from the last checkpoint, since its worker died: lost: node {victim.address} is gone" in output
    assert "from the checkpoint of an earlier attempt" in output, output
    trained = [output.count(f"epoch {each} of {EPOCHS}: ") for each in range(1, EPOCHS + 1)]
    assert sum(trained) <= 2 * EPOCHS + 2, f"at most the epochs since the last checkpoint are repeated: {trained}"
    assert Path(ended["modelPath"]).is_dir(), "the result is on the head"
    cluster.workspace("digits")
    assert cluster.deploy("digits", Path(ended["modelPath"]))


def begin(cluster: Cluster, project: Path, **parameters: Any) -> str:
    answer = cluster.http.post("/tasks/", json=form(project) | {"parameters": QUICK | parameters})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["taskId"])


def query(cluster: Cluster, task: str) -> Any:
    found = cluster.http.get("/", params={"taskId": task}).json()
    assert found["state"] not in ("error", "cancelled"), found
    return found


def machine_of(cluster: Cluster, task: Any) -> Machine | None:
    """Where the process of a training runs: a task names it with its number."""
    number = int(task["thread"].rpartition("-")[2])
    return next((each for each in cluster.node_machines if number in each.pids()), None)
