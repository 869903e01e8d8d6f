"""`python server.py start | stop | restart | status`, as people know it from daemons."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.conftest import REPOSITORY
from tfserve.cli import main
from tfserve.supervisor.lock import DataFolderLock


class Daemon:
    """Calls of server.py in a folder of their own, always for the same ports and data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.training_port = free_port(), free_port()
        self.lock = folder / "data" / "server.lock"

    def __call__(self, action: str, *options: str) -> subprocess.CompletedProcess[str]:
        ports = (f"127.0.0.1:{self.port}", "--port", str(self.training_port))
        return subprocess.run(
            [
                sys.executable,
                str(REPOSITORY / "server.py"),
                action,
                *ports,
                "--data-dir",
                "data",
                *options,
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def pid(self) -> int:
        return int(self.lock.read_text().split()[0])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path)
    yield running
    running("stop")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_start_returns_when_both_ports_answer_and_stop_when_it_is_gone(daemon: Daemon) -> None:
    started = daemon("start")
    assert started.returncode == 0, started.stderr
    for port in (daemon.port, daemon.training_port):
        assert httpx.post(f"http://127.0.0.1:{port}/get_workspace/").json()["result"] == []
    assert (daemon.folder / "log" / "tfserve.log").exists()
    assert str(daemon.pid) in daemon("status").stdout
    pid = daemon.pid
    assert os.getsid(pid) != os.getsid(0), "it has left the terminal's session"
    stopped = daemon("stop")
    assert (stopped.returncode, "has stopped" in stopped.stdout) == (0, True)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_start_when_started_and_stop_when_stopped_say_so_and_change_nothing(daemon: Daemon) -> None:
    assert daemon("stop").returncode == 0
    assert "not running" in daemon("stop").stdout
    assert daemon("status").returncode == 3
    daemon("start")
    pid = daemon.pid
    again = daemon("start")
    assert (again.returncode, daemon.pid) == (0, pid)
    assert f"already running, pid {pid}" in again.stdout
    assert daemon("status").returncode == 0


def test_restart_gives_another_process_and_keeps_what_was(daemon: Daemon) -> None:
    daemon("start")
    pid, url = daemon.pid, f"http://127.0.0.1:{daemon.port}"
    httpx.post(f"{url}/create_workspace/", json={"name": "kept"})
    assert daemon("restart").returncode == 0
    assert daemon.pid != pid
    assert httpx.post(f"{url}/get_workspace/").json()["result"] == ["kept"]


def test_a_pid_file_of_a_killed_server_is_reported_and_started_over(daemon: Daemon) -> None:
    daemon("start")
    pid = daemon.pid
    os.kill(pid, signal.SIGKILL)
    wait_until_dead(pid)
    assert daemon("status").returncode == 1
    stopped = daemon("stop")
    assert (stopped.returncode, "not running" in stopped.stdout) == (0, True)
    started = daemon("start")
    assert started.returncode == 0
    assert "did not stop cleanly" in started.stdout


def test_a_pid_that_belongs_to_another_program_is_never_sent_a_signal(daemon: Daemon) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        daemon.lock.parent.mkdir(parents=True)
        daemon.lock.write_text(f"{other.pid}\nhttp://127.0.0.1:1\n")
        for action in ("stop", "status", "restart"):
            told = daemon(action)
            assert "now used by another program, 'sleep'" in told.stdout, action
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_server_that_can_not_start_is_reported_with_the_reason(daemon: Daemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", daemon.port))
        taken.listen()
        refused = daemon("start")
    assert refused.returncode == 1
    assert "can't listen on" in refused.stderr
    assert daemon("status").returncode == 3, "there is no pid of a server that never was"


def test_wrong_words_are_reported_with_exit_code_2(daemon: Daemon) -> None:
    assert daemon("begin").returncode == 2
    assert daemon("start", "--nonsense").returncode == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "a port from 1 to 65535"),
        (["--port", "-1"], "a port from 1 to 65535"),
        (["--port", "0"], "a port from 1 to 65535"),
        (["--v1-port", "70000"], "v1_port must be from 0 to 65535"),
        (["--callback-url", "localhost:80/hook"], "callback_url must be a URL"),
        (["--callback-url", "http://[::1/hook"], "callback_url must be a URL"),
    ],
)
def test_settings_that_can_not_be_are_refused_in_a_sentence(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main.daemon(["start", "--data-dir", str(daemon.folder / "data"), *options]) == 2
    assert words in capsys.readouterr().err


def test_a_lock_file_of_rubbish_and_a_log_that_can_not_be_written_are_reported(daemon: Daemon) -> None:
    daemon.lock.parent.mkdir(parents=True)
    daemon.lock.write_bytes(b"\xff\xfe" * 5000)
    for action, code in (("status", 3), ("stop", 0)):
        told = daemon(action)
        assert (told.returncode, "not running" in told.stdout, told.stderr) == (code, True, "")
    (daemon.folder / "log").touch()
    refused = daemon("start")
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert f"cannot write the log {daemon.folder / 'log' / 'tfserve.log'}" in refused.stderr


def test_whoever_asks_for_the_status_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "server.lock").touch()
    with (tmp_path / "server.lock").open() as asking:
        fcntl.flock(asking, fcntl.LOCK_EX)
        threading.Timer(0.05, fcntl.flock, (asking, fcntl.LOCK_UN)).start()
        DataFolderLock(tmp_path).release()


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)
