"""The disk of a node is full: the error says what to do, another node is used, and no part of a file stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ray_cluster.cluster import Cluster
from tests.ray_cluster.driving import predict
from tests.ray_cluster.machines import Machine

MIB = 2**20
DISK_MIB = 24
MODEL_MIB = 20


def mounted(folder: Path, size_mib: int) -> None:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)], check=True)


@pytest.fixture
def small(machines: list[Machine], tmp_path: Path) -> Iterator[Cluster]:
    """The disk of the first node is a small one. The head runs no workers."""
    cluster = Cluster(machines, tmp_path / "cluster", TFSERVE_HEAD_RUNS_WORKERS="0")
    full, other = cluster.node_machines
    disk = cluster.folder / full.name
    mounted(disk, DISK_MIB)
    try:
        for machine in (full, other):
            cluster.start_node(machine)
        yield cluster
    finally:
        cluster.close()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def model(cluster: Cluster, name: str, size_mib: int) -> Path:
    """A model without TensorFlow in a file of this size."""
    file = cluster.models / f"{name}.echo"
    spaces = bytes(b"\t\n\r "[each & 3] for each in os.urandom(MIB))
    file.write_bytes(b'{"x": {"dtype": "float32", "shape": [-1, 2]}}' + spaces * size_mib)
    return file


def deployed(cluster: Cluster, name: str, path: Path, **fields: Any) -> Any:
    """The job of a deployment, which may have failed."""
    cluster.workspace(name)
    return cluster.deploy(name, path, **fields)


def content(cluster: Cluster, machine: Machine) -> list[str]:
    """What the cache of a node has, without its own small files."""
    folder = cluster.folder / machine.name / "files"
    return [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file() and each.stat().st_size > MIB]


def node_of(cluster: Cluster, name: str) -> list[str]:
    return [each["node"] for each in cluster.replicas(name)]


def test_a_model_that_does_not_fit_goes_to_another_node_and_later_to_this_one(small: Cluster) -> None:
    full, other = small.node_machines
    large = model(small, "large", 2 * MODEL_MIB)
    refused = deployed(small, "a", large, resources={"node": full.name})
    assert (refused["result"], refused["error"]["code"]) == (False, "out_of_space"), refused
    message = refused["error"]["message"]
    assert f"The disk of node {full.name} can't hold models/large.echo: it needs 40 MiB, and 24 MiB are free" in message
    assert f"Free space in {small.folder / full.name / 'files' / 'content'} on that node" in message, message
    assert content(small, full) == []

    # The other node has more to do, so this one is chosen first.
    deployed(small, "busy", model(small, "tiny", 0), replicas=2, resources={"node": other.name})
    assert deployed(small, "b", large)["result"] is True
    assert node_of(small, "b") == [other.name]
    assert predict(small.url, "b").status_code == 200
    assert content(small, full) == []

    # It has recovered as soon as there is space.
    subprocess.run(["mount", "-o", "remount,size=96m", str(small.folder / full.name)], check=True)
    assert small.deploy("a", large, resources={"node": full.name})["result"] is True
    assert node_of(small, "a") == [full.name]
    assert len({os.stat(small.folder / full.name / "files" / each).st_ino for each in content(small, full)}) == 1


def test_what_is_not_used_makes_room_on_a_small_disk(small: Cluster) -> None:
    full, _ = small.node_machines
    here = {"node": full.name}
    assert deployed(small, "a", model(small, "first", 16), resources=here)["result"] is True
    second = model(small, "second", 16)
    assert deployed(small, "b", second, resources=here)["error"]["code"] == "out_of_space"
    assert predict(small.url, "a").status_code == 200
    small.call("/undeploy/", name="a", timeout=60)
    assert small.deploy("b", second, resources=here)["result"] is True
    assert predict(small.url, "b").status_code == 200


def test_a_script_whose_files_do_not_fit_runs_on_another_node(small: Cluster) -> None:
    """Here the disk is full in the middle of a copy."""
    full, other = small.node_machines
    deployed(small, "busy", model(small, "tiny", 0), replicas=2, resources={"node": other.name})
    small.workspace("w")
    folder = Path(small.status("w")["folder"])
    (folder / "large.bin").write_bytes(os.urandom(2 * MODEL_MIB * MIB))
    script = "import os; node, size = os.environ['TFSERVE_NODE'], os.path.getsize('large.bin'); del os"
    found = small.run("w", script)["variable"]
    assert found == {"node": other.name, "size": 2 * MODEL_MIB * MIB}
    assert content(small, full) == []

    small.workspace("v", resources={"node": full.name})
    (Path(small.status("v")["folder"]) / "large.bin").write_bytes(os.urandom(2 * MODEL_MIB * MIB))
    refused = small.run("v", script)
    assert refused["result"] is False
    assert f"The disk of node {full.name} can't hold the files" in refused["error"]["message"], refused
    (Path(small.status("v")["folder"]) / "large.bin").write_bytes(b"small")
    assert small.run("v", script)["variable"] == {"node": full.name, "size": 5}
