"""Starting, stopping, and being told not to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.conftest import REPOSITORY, RUNSERVER, Server, command

pytestmark = pytest.mark.slow

Start = Callable[..., Server]


def run_server(*options: str, command: tuple[str, ...] = ("manage.py", "runserver"), **environment: str):
    return subprocess.run(
        [sys.executable, *command, *options],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_says_where_pages_and_api_are_and_stops_with_exit_code_0(start: Start) -> None:
    server = start()
    assert f"pages  {server.url}/" in server.log
    assert f"curl -X POST {server.url}/" in server.log
    assert server.stop(signal.SIGTERM) == 0
    assert "stopped" in server.log


def test_ctrl_c_stops_it_with_exit_code_0_while_the_spare_is_starting(start: Start) -> None:
    server = start()
    assert server.stop(signal.SIGINT) == 0


def test_both_commands_have_the_same_options() -> None:
    texts = [
        run_server("--help", command=command).stdout.partition("Options:")[2]
        for command in (("manage.py", "runserver"), ("-m", "tfserve.cli", "serve"))
    ]
    assert "--max-queue" in texts[0]
    assert texts[0] == texts[1]


def test_nothing_is_left_when_it_has_stopped(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    server.run("a", "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)")
    processes = server.processes()
    assert any(process.name() == "sleep" for process in processes)
    assert server.stop() == 0
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def test_stopping_waits_for_a_running_job_and_keeps_the_queue(start: Start, tmp_path: Path) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    go = tmp_path / "go"
    os.mkfifo(go)
    server.call(
        "/push_job/", name="a", job=f"print('begun', flush=True)\nopen({str(go)!r}).read()\nx = 1", type=1, timeout=0
    )
    server.call("/push_job/", name="a", job="y = 2", type=1, timeout=0)
    follow_until(server, "a", 0, "begun")
    server.process.send_signal(signal.SIGTERM)
    while "tfserve: waiting for running jobs to end" not in server.log:
        time.sleep(0.01)
    code, sentence = server.refused("/push_job/", name="a", job="z = 3", type=1)
    assert code == 503
    assert sentence.startswith("The server is shutting down and accepts no new work.")
    assert server.http.get("/v2/health/ready").status_code == 503
    go.write_text("")
    assert server.process.wait(30) == 0

    again = start()
    assert again.call("/get_result/", name="a", job=0) is True
    assert again.wait("a", 1)["state"] == "succeeded"
    assert again.call("/get_variable/", name="a", variable="y") == {"y": 2}


def test_a_job_that_does_not_end_while_the_server_drains_is_lost_with_the_reason(start: Start) -> None:
    server = start("--drain-s", "0.2")
    server.call("/create_workspace/", name="a")
    server.call(
        "/push_job/", name="a", job="print('begun', flush=True)\nimport time\ntime.sleep(1000)", type=1, timeout=0
    )
    follow_until(server, "a", 0, "begun")
    assert server.stop() == 0
    again = start()
    job = again.wait("a", 0)
    assert job["state"] == "lost"
    assert "server was stopped" in job["error"]["message"]


def test_the_end_of_its_terminal_stops_it_unless_nohup_started_it(start: Start, tmp_path: Path) -> None:
    server = start()
    assert server.stop(signal.SIGHUP) == 0
    kept = Server(tmp_path / "kept", command=("nohup", *RUNSERVER))
    try:
        kept.process.send_signal(signal.SIGHUP)
        assert kept.call("/create_workspace/", name="a")
        assert kept.stop(signal.SIGTERM) == 0
    finally:
        kept.close()


def test_a_second_signal_stops_at_once(start: Start) -> None:
    server = start("--drain-s", "60")
    server.call("/create_workspace/", name="a")
    server.call(
        "/push_job/", name="a", job="import time\nprint('begun', flush=True)\ntime.sleep(1000)", type=1, timeout=0
    )
    follow_until(server, "a", 0, "begun")
    processes = server.processes()
    server.process.send_signal(signal.SIGINT)
    while "tfserve: waiting for running jobs to end" not in server.log:
        time.sleep(0.01)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(5) == 1
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def test_a_second_server_on_the_same_folder_refuses_and_names_the_first(start: Start) -> None:
    server = start()
    second = run_server("127.0.0.1:0", "--data-dir", str(server.data_dir))
    assert second.returncode == 1
    assert f"pid {server.pid}" in second.stderr
    assert server.http.get("/v2/health/live").status_code == 200


def test_a_port_that_is_taken_is_reported_in_a_sentence(start: Start, tmp_path: Path) -> None:
    server = start()
    address = server.url.removeprefix("http://")
    second = run_server(address, "--data-dir", str(tmp_path / "other"))
    assert second.returncode == 1
    assert f"can't listen on {address}" in second.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_an_address_that_others_can_reach_is_refused_without_authentication(address: str, tmp_path: Path) -> None:
    refused = run_server(address, "--data-dir", str(tmp_path / "data"), "--auth", "off")
    assert refused.returncode == 1
    assert "TFSERVE_ALLOW_UNAUTHENTICATED=1" in refused.stderr


@pytest.mark.parametrize("options", [("nonsense",), ("--max-queue", "many"), ("127.0.0.1:99999",)])
def test_a_wrong_command_line_is_reported_and_exits_with_2(options: tuple[str, ...]) -> None:
    refused = run_server(*options)
    assert refused.returncode == 2
    assert options[-1] in refused.stderr


def test_a_wrong_value_in_the_environment_is_reported() -> None:
    refused = run_server(TFSERVE_MAX_QUEUE="many")
    assert refused.returncode == 2
    assert "TFSERVE_MAX_QUEUE" in refused.stderr


def test_killing_the_supervisor_leaves_no_process_behind(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    server.call("/create_workspace/", name="t", type=1)
    escape = "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)"
    server.run("a", escape)
    server.run("t", escape)
    processes = server.processes()
    assert sum(process.name() == "sleep" for process in processes) == 2
    server.process.kill()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def test_killing_the_whole_tree_at_once_loses_nothing_that_was_acknowledged(start: Start, tmp_path: Path) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    log = tmp_path / "ran"
    append = f"open({str(log)!r}, 'a').write('{{}} ')"
    server.run("a", append.format(0))
    server.call(
        "/push_job/",
        name="a",
        job=append.format(1) + "\nprint('begun', flush=True)\nwhile True: pass",
        type=1,
        timeout=0,
    )
    for number in range(2, 6):
        server.call("/push_job/", name="a", job=append.format(number), type=1, timeout=0)
    server.call("/clear/", name="a", timeout=0)
    follow_until(server, "a", 1, "begun")
    for process in server.processes():
        process.kill()
    server.process.wait(10)

    again = start()
    assert again.wait("a", 6)["state"] == "succeeded"
    states = {job["job"]: job["state"] for job in again.http.get("/jobs/?name=a").json()["result"]["jobs"]}
    assert states == {0: "succeeded", 1: "lost"} | dict.fromkeys(range(2, 7), "succeeded")
    assert log.read_text().split() == ["0", "1", "2", "3", "4", "5"]
    error = again.http.get("/jobs/?name=a&state=lost").json()["result"]["jobs"][0]["error"]
    assert error["code"] == "lost"
    assert error["detail"]["last_output"] == "begun\n"


def test_leftovers_of_a_killed_server_are_ended_by_the_next_one(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    server.run("a", "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)")
    processes = server.processes()
    sleeper = next(process for process in processes if process.name() == "sleep")
    guardian = next(process for process in processes if "guardian.py" in command(process))
    for process in processes:  # nobody gets to clean up
        if process not in (sleeper, guardian):
            process.suspend()
    guardian.kill()
    server.process.kill()
    server.process.wait(10)
    assert sleeper.is_running()
    start()
    _, alive = psutil.wait_procs([sleeper], timeout=5)
    assert not alive


DETACH = """
import os, subprocess, sys
program = (
    "import os, sys\\n"
    "os.setsid()\\n"
    "if os.fork(): os._exit(0)\\n"
    "open(sys.argv[1], 'w').write(str(os.getpid()))\\n"
    "os.execve('/bin/sleep', ['sleep', '1000'], {})"
)
subprocess.run([sys.executable, '-c', program, %r], env={}, check=True)
"""


def detached_sleeper(server: Server, name: str, file: Path) -> psutil.Process:
    """A process that a script has started with an empty environment, a session of its own and no living parent."""
    assert server.run(name, DETACH % str(file))["state"] == "succeeded"
    while not file.exists() or not file.read_text():
        time.sleep(0.01)
    return psutil.Process(int(file.read_text()))


@pytest.mark.parametrize("kind", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_detached_process_without_environment_does_not_outlive_a_killed_supervisor(
    start: Start, tmp_path: Path, kind: int
) -> None:
    server = start()
    server.call("/create_workspace/", name="a", type=kind)
    sleeper = detached_sleeper(server, "a", tmp_path / "pid")
    server.process.kill()
    server.process.wait(10)
    _, alive = psutil.wait_procs([sleeper], timeout=10)
    assert not alive


def test_a_detached_process_of_a_server_that_was_killed_with_its_guardian_is_ended_by_the_next_one(
    start: Start, tmp_path: Path
) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    sleeper = detached_sleeper(server, "a", tmp_path / "pid")
    folder = server.data_dir / "processes"
    while not any(str(sleeper.pid) in each.read_text().split() for each in folder.iterdir()):
        time.sleep(0.05)
    (record,) = folder.iterdir()
    processes = [process for process in server.processes() if process.pid != sleeper.pid]
    for process in processes:  # nobody gets to clean up
        process.suspend()
    for process in processes:
        process.kill()
    server.process.wait(10)
    assert sleeper.is_running()
    record.write_text(record.read_text() + f"{os.getpid()} 1\n")  # a pid that is somebody else's by now
    start()
    _, alive = psutil.wait_procs([sleeper], timeout=5)
    assert not alive


def test_a_dead_web_process_is_replaced(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    web = next(process for process in server.processes() if "tfserve.web.app" in command(process))
    web.kill()
    web.wait(5)
    assert httpx.post(f"{server.url}/get_workspace/", timeout=20).json()["result"] == ["a"]


def test_two_web_processes_share_the_work(start: Start) -> None:
    server = start("--web-processes", "2")
    server.call("/create_workspace/", name="a")
    for number in range(20):
        assert (
            httpx.post(f"{server.url}/push_job/", json={"name": "a", "job": "x = 1", "type": 1, "timeout": 30}).json()[
                "result"
            ]["job"]
            == number
        )
    connections = [socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) for _ in range(60)]
    try:
        for connection in connections:  # until a response has come, the connection may not be accepted yet
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        web = [process for process in server.processes() if "tfserve.web.app" in command(process)]
        shares = [len([each for each in process.net_connections() if each.status == "ESTABLISHED"]) for process in web]
        assert len(shares) == 2
        assert min(shares) >= 10, shares
    finally:
        for connection in connections:
            connection.close()


def follow_until(server: Server, name: str, job: int, word: str) -> None:
    """Returns when the job has printed the word."""
    jobs = server.http.get("/jobs/", params={"name": name}).json()["result"]["jobs"]
    job_id = next(each["id"] for each in jobs if each["job"] == job)
    with server.http.stream("GET", f"/jobs/{job_id}/output", headers={"Accept": "text/event-stream"}) as events:
        for line in events.iter_lines():
            if line.startswith("data:") and word in line:
                return
    raise AssertionError(f"{word} was not printed")
