"""Which limits apply, and how control groups are used. No control groups of version 2 are writable on every machine,
so their files are ordinary ones here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tfserve.config import Settings
from tfserve.errors import Invalid
from tfserve.ipc.messages import Limits
from tfserve.supervisor.processes import limits, tree_usage
from tfserve.supervisor.processes.control_groups import ControlGroups
from tfserve.supervisor.processes.limits import Exceeded


def test_a_workspace_has_its_own_limits_and_otherwise_those_of_the_server() -> None:
    server = limits.of_server(Settings(workspace_memory="4GiB", workspace_threads=2, workspace_disk=""))
    assert (server.memory_bytes, server.disk_bytes) == (4 * 2**30, 0)
    own = Limits(memory_bytes=2**30, disk_bytes=10)
    limits.check(own, server)
    assert limits.merged(own, server) == Limits(2**30, 2, 512, 10, server.output_bytes, 0.0)
    with pytest.raises(Invalid, match="threads of a workspace can't exceed that of the server"):
        limits.check(Limits(threads=3), server)


def test_the_default_is_a_share_of_the_machine() -> None:
    default = limits.of_server(Settings())
    assert 0 < default.memory_bytes < limits.available_memory.total()


def test_a_limit_is_explained_with_its_numbers() -> None:
    assert Exceeded("memory limit", 3 * 2**30, 2**30).sentence == (
        "memory limit exceeded: it used 3.0 GiB of memory (limit: 1.0 GiB)"
    )
    assert Exceeded("process limit", 9, 5).sentence == "process limit exceeded: it used 9 processes (limit: 5)"


def test_the_usage_of_a_process_includes_its_descendants() -> None:
    child = "x = b'x' * 60_000_000; print(1, flush=True); input()"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = tree_usage.measure([process.pid])[process.pid]
        assert used.processes == 2
        assert used.memory_bytes > 60_000_000
        assert tree_usage.exact_memory(used.pids) > 60_000_000
        process.communicate(b"\n")
    assert tree_usage.measure([process.pid])[process.pid].processes == 0


@pytest.fixture
def own_group(tmp_path: Path) -> tuple[Path, Path]:
    group = tmp_path / "server.service"
    group.mkdir()
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    (group / "cgroup.procs").write_text("")
    own = tmp_path / "own"
    own.write_text("4:memory:/old\n0::/server.service\n")
    return group, own


def test_each_worker_has_a_control_group_with_its_limits(own_group: tuple[Path, Path]) -> None:
    folder, own = own_group
    groups = ControlGroups.open(folder.parent, own)
    assert groups is not None
    assert (folder / "cgroup.subtree_control").read_text() == "+memory +pids"
    group = groups.add(4711, Limits(memory_bytes=1000, processes=2))
    assert group is not None
    (made,) = folder.glob("tfserve-worker-*")
    names = ("memory.max", "memory.oom.group", "pids.max", "cgroup.procs")
    written = {name: (made / name).read_text() for name in names}
    assert written == {"memory.max": "1000", "memory.oom.group": "1", "pids.max": "128", "cgroup.procs": "4711"}
    assert group.kills() == 0
    (made / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 2\n")
    (made / "memory.peak").write_text("1001\n")
    assert (group.kills(), group.peak_bytes()) == (2, 1001)


def test_a_group_of_other_programs_is_left_alone(own_group: tuple[Path, Path]) -> None:
    folder, own = own_group
    with subprocess.Popen(["sleep", "30"], start_new_session=True) as stranger:
        (folder / "cgroup.procs").write_text(f"{os.getpid()}\n{stranger.pid}\n")
        assert ControlGroups.open(folder.parent, own) is None
        stranger.kill()
    assert not (folder / "cgroup.subtree_control").exists()


def test_without_controllers_there_are_no_groups(own_group: tuple[Path, Path]) -> None:
    folder, own = own_group
    (folder / "cgroup.controllers").write_text("cpu\n")
    assert ControlGroups.open(folder.parent, own) is None
    assert ControlGroups.open(folder.parent / "nowhere", own) is None
