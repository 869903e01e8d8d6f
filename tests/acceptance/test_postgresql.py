"""The same code on PostgreSQL: a real server of its own, started here."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.test_start_and_stop import follow_until

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def database_url() -> Iterator[str]:
    """The address of a fresh PostgreSQL; the test is skipped where its programs are not installed."""
    config = shutil.which("pg_config")
    programs = Path(subprocess.check_output([config, "--bindir"], text=True).strip()) if config else Path("/none")
    if not (programs / "initdb").exists():
        pytest.skip("PostgreSQL's server programs are not installed")
    as_user = {"user": _unprivileged()} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="tfserve-pg-") as name:
        folder = Path(name)
        if as_user:
            shutil.chown(folder, as_user["user"])
        data, port = folder / "data", _free_port()
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **as_user}
        subprocess.run([programs / "initdb", "-D", data, "-U", "tester", "-A", "trust"], **quiet)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start"], **quiet)
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)


def test_jobs_variables_and_restarts_work_on_postgresql(start: Start, database_url: str) -> None:
    server = start("--no-warm-spare", TFSERVE_DATABASE_URL=database_url)
    server.call("/create_workspace/", name="größe")
    for number in range(30):
        job = server.run("größe", f"x = {number}; print('nul \\0 ☃')")
        assert (job["job"], job["variable"], job["stdout"]) == (number, {"x": number}, "nul \0 ☃\n")
    assert "TFSERVE_DATABASE_URL" not in server.run("größe", "import os\nkeys = sorted(os.environ)")["variable"]["keys"]
    server.run("größe", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    server.run("größe", "y = 1", timeout=0)
    follow_until(server, "größe", 31, "begun")
    for process in server.processes():
        process.kill()
    server.process.wait(10)

    again = start("--no-warm-spare", TFSERVE_DATABASE_URL=database_url)
    assert again.wait("größe", 32)["state"] == "succeeded"
    assert again.call("/get_result/", name="größe") == [True] * 31 + [False, True]
    assert again.http.get("/jobs/", params={"state": "lost"}).json()["result"]["total"] == 1
    assert again.call("/destroy_workspace/") is True


def test_a_database_that_went_away_refuses_and_comes_back(start: Start, database_url: str) -> None:
    server = start("--no-warm-spare", TFSERVE_DATABASE_URL=database_url)
    server.call("/create_workspace/", name="a")
    _end_connections(database_url)
    assert server.http.get("/jobs/").status_code == 200
    statuses = [
        server.http.post("/push_job/", json={"name": "a", "job": "x = 1", "type": 1}).status_code for _ in range(3)
    ]
    assert statuses[-1] == 200
    assert server.call("/destroy_workspace/") is True


def _end_connections(database_url: str) -> None:
    import psycopg

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


def _unprivileged() -> str:
    """PostgreSQL refuses to run as root."""
    names = [entry.pw_name for entry in pwd.getpwall()]
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
