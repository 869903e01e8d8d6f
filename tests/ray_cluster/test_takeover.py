"""A standby on another machine takes over, and a Ray that someone else has started serves as well as the head's own."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.postgresql_server import private_server
from tests.ray_cluster.cluster import STARTED, Cluster, Program
from tests.ray_cluster.driving import asked, kill, pids_of, predict
from tests.ray_cluster.machines import GATEWAY, Machine

GCS_PORT = 6379


@pytest.fixture
def database() -> Iterator[str]:
    with private_server(GATEWAY, "10.77.0.0/24") as postgresql:
        yield postgresql.url


def test_a_standby_on_another_machine_takes_over_and_the_model_never_stops(
    machines: list[Machine], database: str, tmp_path: Path
) -> None:
    first, node, second = machines
    settings = {"TFSERVE_DATABASE_URL": database, "TFSERVE_HEAD_RUNS_WORKERS": "0"}
    cluster = Cluster([first, node], tmp_path / "cluster", **settings)
    try:
        standby = cluster.start_head(second, "--standby", waits=False)
        standby.until("takes over when")
        cluster.start_node(node, standbys=[second])
        echo = cluster.models / "m.echo"
        echo.write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
        cluster.workspace("m")
        cluster.deploy("m", echo)
        cluster.workspace("w")
        done = cluster.run("w", "x = 7")
        running = cluster.call("/push_job/", name="w", job="import time; time.sleep(600)", type=1)
        (served_by,) = [each["pid"] for each in cluster.replicas("m")]

        with asked(cluster.url_of(node), "m") as answers:
            first.kill_all()
            standby.until(STARTED)
            cluster.move_to(second, standby)
            cluster.until(lambda: cluster.replicas("m"))
        assert {status for status, _ in answers} == {200}
        assert [each["pid"] for each in cluster.replicas("m")] == [served_by], "adopted, not loaded again"
        assert cluster.job(done)["state"] == "succeeded"
        assert cluster.job(running)["state"] == "lost"

        # The node gets the Ray of the new head, and the former one ends with its last actor.
        cluster.until_node(node.name, "ready")
        assert cluster.run("w", "y = 8")["variable"] == {"y": 8}
        assert predict(cluster.url, "m").status_code == 200
        cluster.call("/undeploy/", name="m", timeout=60)
        cluster.until(lambda: len(pids_of(node, "raylet/raylet")) == 1)
    finally:
        second.kill_all()
        cluster.close()


def test_a_head_that_was_replaced_while_it_was_cut_off_closes_its_cluster_port(
    machines: list[Machine], database: str, tmp_path: Path
) -> None:
    first, node, second = machines
    settings = {"TFSERVE_DATABASE_URL": database, "TFSERVE_HEAD_RUNS_WORKERS": "0"}
    cluster = Cluster([first, node], tmp_path / "cluster", **settings)
    former = cluster.head
    try:
        # A folder of its own, as if the locks of the machine that is cut off had expired on a shared one.
        folder = tmp_path / "second"
        shutil.copytree(cluster.data_dir / "cluster", folder / "cluster", ignore=shutil.ignore_patterns("ray"))
        standby = cluster.start_head(second, "--standby", "--data-dir", str(folder), waits=False)
        standby.until("takes over when")
        cluster.start_node(node, standbys=[second])
        first.cut()
        end_connections_of(database, first)
        standby.until(STARTED)
        cluster.move_to(second, standby)
        cluster.until_node(node.name, "ready")
        first.heal()
        former.until("the cluster port 7700 is closed")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((first.address, 7700), 10)
        assert former.process.poll() is None, "it still says what is wrong"
        assert cluster.node(node.name)["state"] == "ready"
    finally:
        first.heal()
        first.kill_all()
        second.kill_all()
        cluster.close()


def end_connections_of(database: str, machine: Machine) -> None:
    """PostgreSQL would notice by itself that the machine is cut off, but only after most of a minute."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr = %s::inet", [machine.address]
        )


def test_a_ray_that_someone_else_has_started_runs_the_workers(machines: list[Machine], tmp_path: Path) -> None:
    """As on Kubernetes, where KubeRay starts Ray on every machine."""
    head, node, _ = machines
    gcs = f"{head.address}:{GCS_PORT}"
    rays = [ray(head, "--head", f"--port={GCS_PORT}", "--num-cpus=0", "--include-dashboard=false")]
    rays[0].until("Ray runtime started")
    rays.append(ray(node, f"--address={gcs}"))
    rays[1].until("Ray runtime started")
    cluster = Cluster([head, node], tmp_path / "cluster", TFSERVE_CLUSTER=f"ray://{gcs}", TFSERVE_HEAD_RUNS_WORKERS="0")
    try:
        cluster.start_node(node, "--no-ray", "--address", node.address)
        assert len(pids_of(node, "raylet/raylet")) == 1
        cluster.workspace("w")
        assert cluster.run("w", "x = 1")["variable"] == {"x": 1}
        echo = cluster.models / "m.echo"
        echo.write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
        cluster.workspace("m")
        cluster.deploy("m", echo, resources={"cpu": 1})
        kill(pids_of(node, "ray::WorkerActor"))
        cluster.until(lambda: predict(cluster.url, "m").status_code == 200)
    finally:
        cluster.close()
        for each in rays:
            each.close()


def ray(machine: Machine, *options: str) -> Program:
    """A Ray of this machine, started as its documentation says: its token is in the home folder."""
    return Program(
        machine,
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={machine.address}",
            "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0", *options,
        ],
        {"PYTHONUNBUFFERED": "1", "RAY_AUTH_MODE": "token"},
    )  # fmt: skip
