"""Workspaces: what they are called, what they hold, what they cost, and that they come back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import Server
from tests.acceptance.test_jobs import in_parallel
from tests.acceptance.test_start_and_stop import follow_until
from tests.ray_cluster import nodes

Start = Callable[..., Server]


@pytest.mark.parametrize(
    "name", ["a", "Work Space-1_2.x", "größe", "工作区", "मेरा काम", "a" * 100, "١٢٣", "...x"[3:], "a-b", "a..b", "x."]
)
def test_names_of_any_script_are_taken(server: Server, name: str) -> None:
    assert server.call("/create_workspace/", name=name) == name
    assert server.run(name, "x = 1")["result"] is True
    assert server.call("/destroy_workspace/", name=name) is True


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../a",
        "a\\b",
        "a\0",
        "a\n",
        "a:b",
        "<b>",
        "a" * 101,
        " ",
        "☃",
        "%2e",
        "a\u202eb",
    ],
)
def test_other_names_are_refused_everywhere(server: Server, name: str) -> None:
    for path in ("/create_workspace/", "/get_status/", "/destroy_workspace/", "/get_job/", "/get_result/"):
        assert server.refused(path, name=name)[0] == 400
    assert server.refused("/push_job/", name=name, job="x", type=1)[0] == 400


def test_one_name_in_two_spellings_of_unicode_is_one_workspace(server: Server) -> None:
    server.call("/create_workspace/", name="caf\u00e9")
    assert server.refused("/create_workspace/", name="cafe\u0301")[0] == 409
    assert server.call("/destroy_workspace/", name="cafe\u0301") is True


def test_a_name_is_made_up_when_none_is_given(server: Server) -> None:
    name = server.call("/create_workspace/")
    assert len(name) == 10
    assert name.isascii()
    assert name.isalnum()
    assert name in server.call("/get_workspace/")
    server.call("/destroy_workspace/", name=name)


def test_an_unknown_workspace_is_404_with_the_nearest_name(server: Server, workspace: str) -> None:
    status, sentence = server.refused("/get_status/", name=workspace + "x")
    assert status == 404
    assert f"did you mean {workspace!r}" in sentence
    for path in (
        "/clear/",
        "/undeploy/",
        "/get_job/",
        "/get_finish/",
        "/get_variable/",
        "/get_result/",
        "/restart_workspace/",
        "/destroy_workspace/",
    ):
        assert server.refused(path, name="nobody")[0] == 404


def test_a_workspace_costs_no_process_until_its_first_job(server: Server, workspace: str) -> None:
    status = server.call("/get_status/", name=workspace)
    assert status == status | {
        "STATUS": "IDLE",
        "CUR_JOB_NUM": -1,
        "FIN_JOB_NUM": -1,
        "JOB_COUNT": 0,
        "pid": None,
        "state": "idle",
    }
    server.run(workspace, "x = 1")
    status = server.call("/get_status/", name=workspace)
    assert status == status | {"STATUS": "IDLE", "CUR_JOB_NUM": 0, "FIN_JOB_NUM": 0, "JOB_COUNT": 0, "state": "ready"}
    assert psutil.pid_exists(status["pid"])
    while not server.call("/get_status/", name=workspace)["memory_bytes"] > 2**20:
        """A node reports it once a second."""


def test_destroying_ends_the_process_and_takes_the_files_along(server: Server, workspace: str) -> None:
    server.run(workspace, "open('file', 'w').write('x')\nprint(1)")
    status = server.call("/get_status/", name=workspace)
    process = psutil.Process(status["pid"])
    assert (Path(status["folder"]) / "file").exists()
    assert server.call("/destroy_workspace/", name=workspace) is True
    assert not process.is_running()
    assert not Path(status["folder"]).parent.exists()
    assert server.refused("/get_result/", name=workspace)[0] == 404


def test_destroying_a_busy_workspace_ends_what_runs_and_reports_who_waits(server: Server, workspace: str) -> None:
    answers: list[dict[str, object]] = []
    server.run(workspace, "print('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(server, workspace, 0, "begun")

    def wait() -> None:
        answers.append(server.call("/push_job/", name=workspace, job="x = 1", type=1, timeout=60))

    def destroy() -> None:
        while server.call("/get_job/", name=workspace) < 1:
            time.sleep(0.01)
        assert server.call("/destroy_workspace/", name=workspace) is True

    works = iter([wait, destroy])
    in_parallel(lambda: next(works)(), 2)
    assert answers[0]["state"] == "cancelled"


def test_the_service_can_be_turned_off_and_on(start: Start) -> None:
    server = start()
    assert server.call("/create/") is False
    server.call("/create_workspace/", name="a")
    server.run("a", "x = 1")
    assert server.call("/destroy/") is True
    assert server.call("/destroy/") is False
    for path in ("/get_workspace/", "/create_workspace/", "/destroy_workspace/"):
        assert server.refused(path)[0] == 409
    for path in ("/get_status/", "/get_result/", "/get_job/", "/clear/"):
        status, sentence = server.refused(path, name="a")
        assert status == 409
        assert "/create/" in sentence
    assert server.call("/create/") is True
    assert server.call("/get_workspace/") == []
    assert server.http.get("/v2/health/ready").status_code == 200


def test_destroying_all(start: Start) -> None:
    server = start()
    assert server.call("/destroy_workspace/") is False
    for name in ("a", "b"):
        server.call("/create_workspace/", name=name)
    assert server.call("/destroy_workspace/") is True
    assert server.call("/get_workspace/") == []


def test_more_workspaces_than_allowed_are_429_and_leave_nothing_behind(start: Start) -> None:
    server = start("--max-workspaces", "3")
    for number in range(3):
        server.call("/create_workspace/", name=str(number))
    answer = server.http.post("/create_workspace/", json={"name": "x"})
    assert answer.status_code == 429
    assert "max_workspaces" in answer.json()["result"]
    assert server.call("/get_workspace/") == ["0", "1", "2"]
    assert len(os.listdir(server.data_dir / "workspaces")) == 3
    server.call("/destroy_workspace/", name="1")
    assert server.call("/create_workspace/", name="x") == "x"


@pytest.mark.slow
def test_two_hundred_workspaces_work_side_by_side(start: Start) -> None:
    server = start()
    names, before = [f"w{number}" for number in range(200)], len(server.processes())
    for name in names:
        server.call("/create_workspace/", name=name, type=1)
    for name in names:
        server.call("/push_job/", name=name, job=f"x = {name!r}", type=1, timeout=0)
    assert {server.wait(name, 0)["state"] for name in names} == {"succeeded"}
    assert server.call("/get_variable/", name="w77") == {"x": "w77"}
    assert server.refused("/create_workspace/")[0] == 429
    assert len(server.processes()) < before + 6


def test_many_clients_creating_one_name_have_one_winner(server: Server) -> None:
    statuses: list[int] = []
    in_parallel(lambda: statuses.append(server.http.post("/create_workspace/", json={"name": "race"}).status_code), 8)
    assert sorted(statuses) == [200] + [409] * 7
    server.call("/destroy_workspace/", name="race")


def test_everything_returns_after_a_restart(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    server.call("/create_workspace/", name="t", type=1)
    server.run("a", "x = [1, 2]\nprint('kept')")
    server.run("a", "1 / 0")
    folder = server.call("/get_status/", name="a")["folder"]
    server.stop()

    again = start()
    assert again.call("/get_workspace/") == ["a", "t"]
    status = again.call("/get_status/", name="a")
    assert status == status | {"CUR_JOB_NUM": 1, "FIN_JOB_NUM": 1, "folder": folder, "STATUS": "IDLE", "pid": None}
    assert again.call("/get_status/", name="t")["type"] == 1
    assert again.call("/get_result/", name="a") == [True, False]
    assert again.call("/get_variable/", name="a") == {"x": [1, 2]}
    assert again.http.get("/jobs/1/output").text == "kept\n"
    job = again.run("a", "y = 1")
    assert job["job"] == 2
    assert job["variable"] == {"y": 1}


# --- variables


def test_clear_forgets_all_variables(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    job = server.call("/clear/", name=workspace, timeout=30)
    assert (job["job"], job["finish"], job["result"]) == (1, True, True)
    assert server.call("/get_variable/", name=workspace) == {}
    server.run(workspace, "y = 1")
    assert server.run(workspace, "z = 1", clear=True)["variable"] == {"z": 1}
    assert server.run(workspace, "print('z' in globals())", clear=True)["stdout"] == "False\n"


def test_values_become_json_as_promised(server: Server, workspace: str) -> None:
    job = server.run(
        workspace,
        "import math\nimport numpy as np\n"
        "nan = float('nan'); inf = [math.inf]; text = 'ü'; raw = b'\\xff'; t = (1, {2}); n = None; b = True\n"
        "array = np.array([[1.5, np.nan]]); scalar = np.int64(7)\ndef f(): pass\n"
        "loop = []; loop.append(loop)\nclass Bad:\n  def __repr__(self): raise ValueError('no')\nbad = Bad()\ndel Bad\n"
        "exact = 2 ** 53 + 1\nd = {1: 'a'}",
    )
    variable = job["variable"]
    assert variable["nan"] is None
    assert variable["inf"] == [None]
    assert (variable["text"], variable["raw"], variable["t"], variable["n"], variable["b"]) == (
        "ü",
        {"b64": "/w=="},
        [1, [2]],
        None,
        True,
    )
    assert variable["array"] == [[1.5, None]]
    assert variable["scalar"] == 7
    assert variable["f"].startswith("<function f at")
    assert "module 'math'" in variable["math"]
    assert "ValueError" in variable["bad"]
    assert variable["exact"] == 2**53 + 1
    assert variable["d"] == {"1": "a"}
    assert isinstance(variable["loop"], list)
    assert not [name for name in variable if name.startswith("__")]


def test_a_large_variable_is_summarised_in_the_snapshot_and_whole_while_the_worker_is_idle(
    server: Server, workspace: str
) -> None:
    job = server.run(workspace, "import numpy as np\nbig = np.arange(500_000)\nsmall = 1\ndel np")
    assert job["variable"]["small"] == 1
    assert job["variable"]["big"]["shape"] == [500_000]
    assert len(server.call("/get_variable/", name=workspace, variable="big")["big"]) == 500_000
    assert server.call("/get_variable/", name=workspace, variable=["small", "nothing"]) == {"small": 1, "nothing": None}


def test_a_variable_over_the_response_limit_is_413(server: Server, workspace: str) -> None:
    server.run(workspace, "import numpy as np\nhuge = np.ones((5000, 5000))")
    status, sentence = server.refused("/get_variable/", name=workspace, variable="huge")
    assert status == 413
    assert "huge" in sentence


def test_variables_can_be_read_while_a_job_runs_and_after_the_worker_has_died(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    server.run(workspace, "x = 2\nprint('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(server, workspace, 1, "begun")
    assert server.call("/get_variable/", name=workspace) == {"x": 1}
    psutil.Process(server.call("/get_status/", name=workspace)["pid"]).kill()
    server.wait(workspace, 1)
    assert server.call("/get_variable/", name=workspace, variable="x") == {"x": 1}


# --- threads


@pytest.fixture
def threads(server: Server) -> Callable[[str], str]:
    def create(name: str) -> str:
        return server.call("/create_workspace/", name=name, type=1)

    return create


def test_thread_workspaces_share_a_process_and_no_variables(server: Server, threads: Callable[[str], str]) -> None:
    for name in ("t1", "t2"):
        threads(name)
        assert server.run(name, f"x = {name!r}; print(x)")["stdout"] == f"{name}\n"
    assert server.call("/get_variable/", name="t1") == {"x": "t1"}
    pids = {server.call("/get_status/", name=name)["pid"] for name in ("t1", "t2")}
    assert len(pids) == 1
    printed = [server.run(name, "import os; print(os.getcwd())")["stdout"].strip() for name in ("t1", "t2")]
    folders = [server.call("/get_status/", name=name)["folder"] for name in ("t1", "t2")]
    assert all(map(nodes.is_folder, printed, folders))
    assert len(set(printed)) == 2
    assert server.run("t1", "import time\ndef f(): 1/0\nf()")["error"]["traceback"].count("line") == 2
    for name in ("t1", "t2"):
        server.call("/destroy_workspace/", name=name)


def test_a_thread_job_is_cancelled_by_an_exception(server: Server, threads: Callable[[str], str]) -> None:
    threads("t3")
    server.run("t3", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(server, "t3", 0, "begun")
    answer = server.call("/cancel_job/", name="t3", job=0)
    assert answer["state"] == "cancelled"
    assert server.run("t3", "x = 1")["variable"] == {"x": 1}
    server.call("/destroy_workspace/", name="t3")


def test_when_the_host_dies_every_running_thread_job_is_lost_and_the_next_ones_run(start: Start) -> None:
    server = start()
    for name in ("a", "b"):
        server.call("/create_workspace/", name=name, type=1)
    server.run("a", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(server, "a", 0, "begun")
    assert server.run("b", "import os; os._exit(3)")["state"] == "lost"
    assert server.wait("a", 0)["state"] == "lost"
    assert server.run("a", "x = 1")["result"] is True
    assert server.run("b", "x = 1")["result"] is True


@pytest.mark.slow
def test_a_thread_that_can_not_be_interrupted_is_reported_and_others_work_on(start: Start) -> None:
    server = start("--cancel-grace-s", "0.3", "--drain-s", "0.3")
    for name in ("a", "b"):
        server.call("/create_workspace/", name=name, type=1)
    sleep_in_c(server, "a")
    status, sentence = server.refused("/cancel_job/", name="a", job=0)
    assert status == 504
    assert "thread" in sentence
    assert server.run("b", "x = 1")["result"] is True
    assert server.wait("a", 0)["state"] == "cancelled"


def sleep_in_c(server: Server, name: str) -> None:
    """Returns when the workspace's thread has been asleep for a while, in a call that no exception reaches."""
    gate = server.roots / f"gate-{name}"
    os.mkfifo(gate)
    tell = f"threading.Timer(0.5, lambda: open({str(gate)!r}, 'w').close()).start()"
    server.run(name, f"import threading, time\n{tell}\ntime.sleep(4)\nx = 1", timeout=0)
    gate.read_text()
