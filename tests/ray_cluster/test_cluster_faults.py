"""What dies in a cluster, and what is left: nothing acknowledged is lost or repeated, and the cause is reported."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.ray_cluster.cluster import Cluster
from tests.ray_cluster.driving import asked, kill, pids_of, predict
from tests.ray_cluster.machines import Machine
from tfserve import __version__
from tfserve.cluster.identity import Authority

PLACED_AGAIN_S = 10
OTHER_VERSION = "import tfserve; tfserve.__version__ = '0.0.7'; from tfserve.cli.main import main; main()"


@pytest.fixture
def spread(cluster: Cluster, echo: Path) -> Cluster:
    """The model `m` has a replica on each node."""
    cluster.workspace("m")
    cluster.deploy("m", echo, replicas=2, placement="spread")
    assert Counter(each["node"] for each in cluster.replicas("m")) == {"tfserve-2": 1, "tfserve-3": 1}
    return cluster


def nodes_of(cluster: Cluster) -> Counter[str]:
    return Counter(each["node"] for each in cluster.replicas("m"))


def until_two(cluster: Cluster, before: list[int]) -> None:
    """Until two replicas serve that are not the ones that died."""
    cluster.until(
        lambda: len(found := [each["pid"] for each in cluster.replicas("m")]) == 2 and found != before,
        PLACED_AGAIN_S,
    )


def kill_machine(machine: Machine) -> None:
    machine.kill_all()


def kill_raylet(machine: Machine) -> None:
    kill(pids_of(machine, "raylet/raylet"))


def kill_actor(machine: Machine) -> None:
    kill(pids_of(machine, "ray::"))


def kill_worker(machine: Machine) -> None:
    kill(pids_of(machine, "-m tfserve.worker", "--fd"))


@pytest.mark.parametrize("die", [kill_machine, kill_raylet, kill_actor, kill_worker])
def test_the_replicas_of_what_died_are_placed_again_and_others_never_fail(
    spread: Cluster, die: Callable[[Machine], None]
) -> None:
    victim, other = spread.node_machines
    before = [each["pid"] for each in spread.replicas("m")]
    with asked(spread.url_of(other), "m") as answers:
        spread.until(lambda: len(answers) > 20)
        die(victim)
        until_two(spread, before)
        count = len(answers)
        spread.until(lambda: len(answers) > count + 20)
    failed = [answer for answer in answers if answer[0] != 200]
    assert len(failed) <= 1, failed  # the one that the dead replica was computing
    assert all(status == 503 and "lost" in text for status, text in failed), failed


def test_a_dead_node_is_named_as_the_cause_and_its_script_is_lost_once(cluster: Cluster) -> None:
    victim = cluster.node_machines[0]
    cluster.workspace("w", resources={"node": victim.name})
    cluster.workspace("v", resources={"node": cluster.node_machines[1].name})
    cluster.run("v", "kept = 1")
    job = cluster.call("/push_job/", name="w", job="import time\nprint('begun', flush=True)\ntime.sleep(600)", type=1)
    waiting = cluster.call("/push_job/", name="v", job="after = kept + 1", type=1)
    with cluster.http.stream("GET", f"/jobs/{job['id']}/output", headers={"Accept": "text/event-stream"}) as output:
        assert any("begun" in line for line in output.iter_lines())
    victim.kill_all()
    lost = cluster.until(lambda: each if (each := cluster.job(job))["state"] == "lost" else None)
    assert f"lost: node {victim.address} is gone" in lost["error"]["message"], lost
    assert cluster.job(waiting)["state"] == "succeeded"
    gone = cluster.until_node(victim.name, "gone")
    assert gone["reason"]


def test_a_cut_link_of_20_s_moves_the_replica_and_the_node_comes_back(spread: Cluster) -> None:
    victim, other = spread.node_machines
    before = [each["pid"] for each in spread.replicas("m")]
    began = time.monotonic()
    victim.cut()
    try:
        until_two(spread, before)
        assert nodes_of(spread) == {other.name: 2}
        assert spread.node(victim.name)["state"] == "gone"
        for _ in range(20):
            assert predict(spread.url_of(other), "m").status_code == 200
        threading.Event().wait(max(0.0, 20 - (time.monotonic() - began)))
    finally:
        victim.heal()
    spread.until_node(victim.name, "ready")
    spread.until(lambda: not pids_of(victim, "-m tfserve.worker", "m.echo"))
    assert predict(spread.url_of(victim), "m").status_code == 200


def test_over_a_slow_link_everything_works(spread: Cluster) -> None:
    slow = spread.node_machines[0]
    slow.make_slow(delay_s=0.05, loss=0.01)
    for url in (spread.url, spread.url_of(slow)):
        for _ in range(30):
            assert predict(url, "m").status_code == 200
    spread.workspace("w", resources={"node": slow.name})
    assert spread.run("w", "x = 1")["variable"]["x"] == 1
    assert spread.node(slow.name)["state"] == "ready"


def test_while_the_head_is_dead_nodes_answer_and_its_next_start_takes_the_replicas_over(spread: Cluster) -> None:
    spread.workspace("w")
    done = spread.run("w", "x = 7")
    queued = spread.call("/push_job/", name="w", job="import time; time.sleep(600)", type=1)
    pids = sorted(each["pid"] for each in spread.replicas("m"))
    node = spread.url_of(spread.node_machines[0])
    with asked(node, "m") as answers:
        spread.head.stop(signal.SIGKILL)
        for _ in range(50):
            assert predict(node, "m").status_code == 200
        refused = httpx.post(f"{node}/get_status/", json={"name": "m"}, timeout=30)
        assert refused.status_code in (502, 503)
        spread.head = spread.start_head()
        spread.until(lambda: len(spread.replicas("m")) == 2)
    assert {status for status, _ in answers} == {200}
    assert sorted(each["pid"] for each in spread.replicas("m")) == pids, "adopted, not loaded again"
    assert spread.job(done)["state"] == "succeeded"
    assert spread.job(queued)["state"] == "lost"


@pytest.mark.parametrize("part", ["gcs_server", "supervisor.cluster.ray_driver"])
def test_when_rays_head_or_its_driver_dies_models_serve_and_later_workers_start_again(
    spread: Cluster, part: str
) -> None:
    kill(pids_of(spread.head_machine, part))
    for url in (spread.url, *map(spread.url_of, spread.node_machines)):
        for _ in range(20):
            assert predict(url, "m").status_code == 200
    spread.workspace("w")
    spread.until(lambda: spread.http.post(
        "/push_job/", json={"name": "w", "job": "x = 1", "type": 1, "timeout": 30}
    ).json()["result"].get("variable") == {"x": 1}, 120)  # fmt: skip


def test_another_version_a_wrong_token_and_a_second_head_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    machine, other = cluster.node_machines
    for each in (machine, other):
        assert cluster.nodes[each.name].stop() == 0
        cluster.until_node(each.name, "gone")
    new_folder = "--folder", str(tmp_path / "older")
    older = cluster.start_node(machine, *new_folder, waits=False, program=("-c", OTHER_VERSION))
    assert older.process.wait(60) != 0
    assert f"head runs TFserve {__version__}, and the node {machine.name} runs 0.0.7" in older.log, older.log
    stranger = cluster.start_node(machine, token=str(Authority.open(tmp_path / "stranger").join_token()), waits=False)
    assert stranger.process.wait(60) != 0
    assert "token" in stranger.log, stranger.log
    second = cluster.start_head(other, waits=False)
    assert second.process.wait(60) != 0
    assert "in use by another TFserve" in second.log, second.log
