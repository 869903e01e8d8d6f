"""A node that is stopped in an orderly way: what runs there ends or moves first, and no request fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.training_calls import digit_project
from tests.ray_cluster.cluster import Cluster, Program, two_nodes
from tests.ray_cluster.driving import asked, pids_of, predict
from tests.ray_cluster.machines import Machine
from tests.ray_cluster.test_cluster_training import begin, machine_of, query

DRAIN_S = 60
EPOCHS = 12
CONTINUES_S = 90
STOPPED = "it was stopped"


@pytest.fixture
def cluster(machines: list[Machine], tmp_path: Path) -> Iterator[Cluster]:
    with two_nodes(machines, tmp_path / "cluster", TFSERVE_DRAIN_S=str(DRAIN_S)) as found:
        yield found


def stop(cluster: Cluster, machine: Machine) -> Program:
    """Begins to stop a node. Returns when the head has noticed."""
    node = cluster.nodes[machine.name]
    node.process.terminate()
    cluster.until(lambda: cluster.node(machine.name)["state"] in ("stopping", "gone"))
    return node


def ended(cluster: Cluster, machine: Machine, node: Program) -> None:
    """It has ended in an orderly way, and left nothing behind."""
    assert node.process.wait(DRAIN_S + 30) == 0, node.log
    assert cluster.until_node(machine.name, "gone")["reason"] == STOPPED
    assert not pids_of(machine, "tfserve")


def test_the_model_of_a_node_that_stops_is_loaded_elsewhere_first_and_no_request_fails(
    cluster: Cluster, scale: Path
) -> None:
    victim, other = cluster.node_machines
    cluster.workspace("m")
    cluster.deploy("m", scale / "2", replicas=2, placement="spread")
    assert sorted(each["node"] for each in cluster.replicas("m")) == [victim.name, other.name]
    with asked(cluster.url, "m") as answers, asked(cluster.url_of(other), "m") as others:
        cluster.until(lambda: len(answers) > 20 and len(others) > 20)
        node = stop(cluster, victim)
        ready = httpx.get(f"{cluster.url_of(victim)}/v2/health/ready", timeout=10)
        assert ready.status_code == 503, "a load balancer sends it nothing more"
        assert predict(cluster.url_of(victim), "m").status_code == 200, "but what comes is answered"
        ended(cluster, victim, node)
        counts = len(answers), len(others)
        cluster.until(lambda: len(answers) > counts[0] + 20 and len(others) > counts[1] + 20)
    assert {status for status, _ in answers + others} == {200}
    assert [each["node"] for each in cluster.replicas("m")] == [other.name] * 2


def test_jobs_and_requests_end_on_a_node_that_stops_and_the_next_job_starts_elsewhere(cluster: Cluster) -> None:
    first, second = cluster.node_machines
    for name, type_ in (("process", 0), ("thread", 1)):
        cluster.workspace(name, type=type_)
        cluster.run(name, "import os; node = os.environ['TFSERVE_NODE']; kept = 1")
    victim = next(each for each in (first, second) if each.name == cluster.status("process")["node"])
    other = second if victim is first else first
    with ThreadPoolExecutor() as threads, httpx.Client(base_url=cluster.url_of(victim), timeout=90) as client:
        script = "import time; print('begun', flush=True); time.sleep(6); last = kept + 1"
        running = threads.submit(client.post, "/push_job/", json={
            "name": "process", "job": script, "type": 1, "timeout": 60,
        })  # fmt: skip
        cluster.until(lambda: cluster.status("process")["STATUS"] == "BUSY")
        queued = cluster.call("/push_job/", name="process", job="import os; node = os.environ['TFSERVE_NODE']", type=1)
        node = stop(cluster, victim)
        answer = running.result().json()
        assert answer["result"]["variable"]["last"] == 2, answer
        ended(cluster, victim, node)
    cluster.until(lambda: cluster.job(queued)["state"] == "succeeded")
    found = cluster.run("process", "after = node")["variable"]
    assert (found["after"], "kept" in found) == (other.name, False), found
    assert cluster.run("thread", "import os; node = os.environ['TFSERVE_NODE']")["variable"]["node"] == other.name


def test_what_does_not_end_in_time_is_lost_with_the_reason(machines: list[Machine], tmp_path: Path) -> None:
    """The only node: nothing can move, so a model does not delay the stop."""
    with two_nodes(machines[:2], tmp_path / "cluster", TFSERVE_DRAIN_S="3") as cluster:
        (only,) = cluster.node_machines
        (cluster.models / "m.echo").write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
        cluster.workspace("m")
        cluster.deploy("m", cluster.models / "m.echo")
        began = time.monotonic()
        ended(cluster, only, stop(cluster, only))
        assert cluster.status("m")["deployment"]["state"] == "loading"
        cluster.start_node(only)
        cluster.until(lambda: cluster.status("m")["deployment"]["state"] == "active")
        assert time.monotonic() - began < DRAIN_S

        cluster.workspace("w")
        job = cluster.call("/push_job/", name="w", job="import time; time.sleep(600)", type=1)
        cluster.until(lambda: cluster.status("w")["node"] == only.name)
        ended(cluster, only, stop(cluster, only))
        lost = cluster.until(lambda: each if (each := cluster.job(job))["state"] == "lost" else None)
        assert f"lost: node {only.address} was stopped" in lost["error"]["message"], lost


def test_a_second_signal_stops_a_node_at_once(cluster: Cluster) -> None:
    victim = cluster.node_machines[0]
    cluster.workspace("w", resources={"node": victim.name})
    job = cluster.call("/push_job/", name="w", job="import time; time.sleep(600)", type=1)
    cluster.until(lambda: cluster.status("w")["node"] == victim.name)
    node = stop(cluster, victim)
    assert cluster.job(job)["state"] == "running"
    assert node.stop() == 1
    assert "stopped immediately" in node.log
    cluster.until(lambda: cluster.job(job)["state"] == "lost")


@pytest.mark.timeout(600)
def test_a_training_on_a_node_that_stops_continues_elsewhere_from_its_checkpoint(
    machines: list[Machine], tmp_path: Path
) -> None:
    with two_nodes(machines, tmp_path / "cluster", TFSERVE_DRAIN_S="2") as cluster:
        task = begin(cluster, digit_project(cluster.folder / "project"), epochs=EPOCHS)
        cluster.until(lambda: any(cluster.data_dir.glob(f"**/{task}/**/checkpoint-*")), CONTINUES_S)
        victim = machine_of(cluster, query(cluster, task))
        assert victim is not None
        ended(cluster, victim, stop(cluster, victim))

        def has_continued() -> Any:
            now = query(cluster, task)
            return now["thread"] and machine_of(cluster, now) not in (victim, None)

        cluster.until(has_continued, CONTINUES_S)
        until_printed(cluster, task, "from the checkpoint of an earlier attempt")
        output = cluster.http.get(f"/tasks/{task}/output").text
        assert "continuing from the last checkpoint, since its machine was about to stop" in output, output


def until_printed(cluster: Cluster, task: str, text: str) -> None:
    ends_at, waiting = time.monotonic() + CONTINUES_S, threading.Event()
    while text not in (output := cluster.http.get(f"/tasks/{task}/output").text):
        assert time.monotonic() < ends_at, output
        waiting.wait(1)
