"""A disk that is full or can't be written to: submits are refused, reads work, nothing is corrupt."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.test_start_and_stop import follow_until, run_server

Start = Callable[..., Server]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Takes all the room that is left, and returns the file that holds it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return filler


@pytest.mark.slow
def test_a_full_disk_refuses_submits_and_keeps_everything_else(small_disk: Path, start: Start) -> None:
    server = start(data_dir=small_disk / "data")
    server.call("/create_workspace/", name="a")
    server.run("a", "x = 1\nprint('kept')")
    filler = fill(small_disk)

    statuses = {
        server.http.post("/push_job/", json={"name": "a", "job": "#" * 20_000, "type": 1}).status_code for _ in range(5)
    }
    assert statuses == {507}
    status, sentence = server.refused("/create_workspace/", name="b" * 100)
    assert status == 507
    assert "full" in sentence
    assert server.call("/get_result/", name="a", job=0) is True
    assert server.call("/get_variable/", name="a") == {"x": 1}
    assert server.http.get("/jobs/1/output").text == "kept\n"
    assert server.http.get("/v2/health/live").status_code == 200

    filler.unlink()
    job = server.run("a", "y = x + 1")
    assert (job["job"], job["variable"]) == (1, {"x": 1, "y": 2})
    server.stop()
    again = start(data_dir=small_disk / "data")
    assert again.call("/get_result/", name="a") == [True, True]


@pytest.mark.slow
def test_a_job_that_ends_on_a_full_disk_is_recorded_when_there_is_room(
    small_disk: Path, start: Start, tmp_path: Path
) -> None:
    server = start(data_dir=small_disk / "data")
    server.call("/create_workspace/", name="a")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = server.run("a", f"print('begun', flush=True)\nopen({str(gate)!r}).read()\nx = 'y' * 100_000", timeout=0)
    follow_until(server, "a", 0, "begun")
    filler = fill(small_disk)
    gate.write_text("")
    deadline = time.monotonic() + 20
    while "waits until it can be recorded" not in server.log:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.http.get(f"/jobs/{job['id']}").json()["result"]["state"] == "running"
    filler.unlink()
    assert server.wait("a", 0)["state"] == "succeeded"


def test_a_data_folder_that_can_not_be_written_is_reported_at_the_start(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = run_server("127.0.0.1:0", "--data-dir", str(small_disk / "data"))
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert str(small_disk / "data") in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.sqlite
def test_a_server_whose_disk_is_full_stops_within_the_drain_time_and_names_what_is_not_recorded(
    small_disk: Path,
    start: Start,
    tmp_path: Path,
) -> None:
    server = start("--drain-s", "3", data_dir=small_disk / "data")
    server.call("/create_workspace/", name="a")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"print('begun', flush=True)\nopen({str(gate)!r}).read()\nx = 'y' * 100_000"
    server.call("/push_job/", name="a", job=script, type=1, timeout=0)
    follow_until(server, "a", 0, "begun")
    fill(small_disk)
    gate.write_text("")
    deadline = time.monotonic() + 20
    while "waits until it can be recorded" not in server.log:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 3 + 4
    assert "workspace a: job 0" in server.log
    assert "could not be recorded before the server stopped" in server.log
