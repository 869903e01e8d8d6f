"""A backup of a running server, restored into another folder, has everything that was acknowledged before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.test_postgresql import PostgreSQL, postgresql

__all__ = ["postgresql"]

RELEASE = REPOSITORY / "tests" / "data" / "release-0.1.0.tar.gz"
BEFORE = 20
SCRIPT = "from pathlib import Path\nPath('made.txt').write_text('by a script')\nprint('to the output', flush=True)"


def tfserve(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tfserve.cli", *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True,
        timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


class Submitter(threading.Thread):
    """Submits jobs without a pause and notes the acknowledged ones."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.acknowledged: list[int] = []
        self.several = threading.Event()
        self.stopped = threading.Event()

    def run(self) -> None:
        fields = {"name": "busy", "job": "n = 1", "type": 1, "timeout": 0}
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self.stopped.is_set():
                self.acknowledged.append(http.post("/push_job/", json=fields).json()["result"]["id"])
                if len(self.acknowledged) == BEFORE:
                    self.several.set()


def prepare(server: Server, model: Path) -> None:
    """A workspace with a file, output and a deployment, and one for other jobs."""
    model.write_text(json.dumps({"x": {"dtype": "float32", "shape": [-1, 2]}}))
    for name in ("shop", "busy"):
        server.call("/create_workspace/", name=name)
    server.run("shop", SCRIPT)
    assert server.call("/deploy/", name="shop", path=str(model), timeout=60)["result"] is True


def check_restored(server: Server) -> None:
    assert sorted(server.call("/get_workspace/")) == ["busy", "shop"]
    job = server.run("shop", "print(open('made.txt').read())", timeout=60)
    assert job["stdout"] == "by a script\n", job
    assert server.http.get("/jobs/1/output").text == "to the output\n"
    inputs = [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]
    response = server.http.post("/v2/models/shop/infer", json={"inputs": inputs})
    assert response.json()["outputs"][0]["data"] == [1, 2], response.text


def ids(server: Server) -> set[int]:
    """Of all jobs."""
    jobs: list[dict[str, Any]] = []
    total = 1
    while len(jobs) < total:
        page = server.http.get("/jobs/", params={"limit": 1000, "offset": len(jobs)}).json()["result"]
        jobs, total = jobs + page["jobs"], page["total"]
    return {job["id"] for job in jobs}


@pytest.mark.slow
def test_a_backup_while_jobs_are_submitted(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start()
    prepare(server, tmp_path / "model.echo")
    submitter = Submitter(server.url)
    submitter.start()
    assert submitter.several.wait(60)
    before = set(submitter.acknowledged)
    saved = tfserve("backup", tmp_path / "saved.tar", "--data-dir", server.data_dir)
    submitter.stopped.set()
    submitter.join(60)
    assert saved.returncode == 0, saved.stderr
    assert len(submitter.acknowledged) > len(before)

    occupied = tfserve("restore", tmp_path / "saved.tar", "--data-dir", server.data_dir)
    assert (occupied.returncode, f"is in use by a running server (pid {server.pid})" in occupied.stderr) == (1, True)
    restored = tfserve("restore", tmp_path / "saved.tar", "--data-dir", tmp_path / "new")
    assert restored.returncode == 0, restored.stderr
    assert f"tfserve serve --data-dir {tmp_path}/new" in restored.stdout
    again = start(data_dir=tmp_path / "new")
    assert before <= ids(again)
    check_restored(again)


def test_no_server_starts_in_a_folder_whose_restore_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / ".restoring").mkdir()
    refused = tfserve("serve", "127.0.0.1:0", "--data-dir", tmp_path)
    assert (refused.returncode, "was interrupted. Empty the folder" in refused.stderr) == (1, True), refused.stderr


@pytest.mark.slow
def test_a_backup_of_a_server_on_postgresql(
    start: Callable[..., Server], postgresql: PostgreSQL, tmp_path: Path
) -> None:
    import psycopg

    server = start(TFSERVE_DATABASE_URL=postgresql.url)
    prepare(server, tmp_path / "model.echo")
    known = ids(server)
    file, url = tmp_path / "saved.tar", postgresql.url
    saved = tfserve("backup", file, "--data-dir", server.data_dir, TFSERVE_DATABASE_URL=url)
    assert saved.returncode == 0, saved.stderr
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE other")
    other = f"{url.rpartition('/')[0]}/other"
    new = ["restore", file, "--data-dir", tmp_path / "new"]
    refused = tfserve(*new)
    assert (refused.returncode, "set TFSERVE_DATABASE_URL" in refused.stderr) == (1, True)
    occupied = tfserve(*new, TFSERVE_DATABASE_URL=url)
    assert (occupied.returncode, "has tables already" in occupied.stderr) == (1, True), occupied.stderr
    restored = tfserve(*new, TFSERVE_DATABASE_URL=other)
    assert restored.returncode == 0, restored.stderr
    assert server.stop() == 0
    again = start(data_dir=tmp_path / "new", TFSERVE_DATABASE_URL=other)
    assert ids(again) == known
    check_restored(again)
    assert again.call("/create_workspace/", name="next") == "next"  # ids continue after the restored ones


@pytest.mark.sqlite
def test_a_data_folder_of_an_earlier_release(start: Callable[..., Server], tmp_path: Path) -> None:
    """Written by version 0.1.0: a workspace file, the output of jobs, and a job that waited when it was killed."""
    with tarfile.open(RELEASE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none
        archive.extractall(tmp_path / "data")
    server = start()
    assert (server.data_dir / "secret_key").read_text() == "a key of a test"
    assert server.call("/get_workspace/") == ["shop"]
    assert server.http.get("/jobs/1/output").text == "to the output\n"
    assert server.wait("shop", 2)["state"] == "succeeded"
    assert server.run("shop", "print(open('made.txt').read())")["stdout"] == "by a script\n"
