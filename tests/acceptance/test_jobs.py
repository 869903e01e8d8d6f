"""Jobs: durable, numbered, in order, told truthfully."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.conftest import Server, command
from tests.acceptance.test_start_and_stop import follow_until
from tests.ray_cluster import nodes

Start = Callable[..., Server]


def test_jobs_are_numbered_from_0_and_run_in_order(server: Server, workspace: str) -> None:
    for number in range(5):
        job = server.call(
            "/push_job/", name=workspace, job=f"order = globals().get('order', []) + [{number}]", type=1, timeout=0
        )
        assert (job["job"], job["finish"], job["result"]) == (number, False, None)
    assert server.wait(workspace, 4)["state"] == "succeeded"
    assert server.call("/get_variable/", name=workspace, variable="order") == {"order": [0, 1, 2, 3, 4]}
    assert server.call("/get_result/", name=workspace) == [True] * 5


def test_a_call_that_waits_returns_as_soon_as_its_job_has_finished(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    job = server.run(workspace, "x = 2", timeout=30, time_interval=30)
    assert job["finish"] is True
    assert job["time"] < 5


def test_a_call_whose_timeout_passes_is_reported_so_and_the_job_continues(
    server: Server, workspace: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = server.run(workspace, f"print('a', flush=True)\nx = open({str(gate)!r}).read()", timeout=0.1)
    assert (job["finish"], job["result"], job["variable"]) == (False, None, {})
    assert job["time"] >= 0.1
    assert server.call("/get_finish/", name=workspace) is False
    assert server.call("/get_result/", name=workspace, job=0) is None
    assert server.call("/get_status/", name=workspace)["STATUS"] in ("BUSY", "INITIAL")
    gate.write_text("b")
    server.wait(workspace, 0)
    assert server.call("/get_finish/", name=workspace) is True
    assert server.call("/get_finish/", name=workspace, job=0) is True
    assert server.call("/get_result/", name=workspace, job=0) is True
    assert server.call("/get_variable/", name=workspace) == {"x": "b"}


def test_an_unknown_job_is_404_with_how_many_there_are(server: Server, workspace: str) -> None:
    assert server.refused("/get_result/", name=workspace, job=0)[0] == 404
    assert server.refused("/get_finish/", name=workspace)[0] == 404
    server.run(workspace, "x = 1")
    status, sentence = server.refused("/get_result/", name=workspace, job=7)
    assert status == 404
    assert "1 have been submitted" in sentence
    assert server.http.get("/jobs/999999999").status_code == 404


def test_a_failed_script_reports_type_message_and_its_own_line_numbers(server: Server, workspace: str) -> None:
    job = server.run(workspace, "def f():\n    raise KeyError('k')\n\nf()")
    assert (job["finish"], job["result"]) == (True, False)
    assert job["error"]["type"] == "KeyError"
    assert job["error"]["message"] == "'k'"
    assert "line 4, in <module>" in job["error"]["traceback"]
    assert "line 2, in f" in job["error"]["traceback"]
    assert "tfserve" not in job["error"]["traceback"]
    assert server.run(workspace, "x = 1")["result"] is True


def test_a_file_runs_as_python_would_run_it(
    server: Server, workspace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = server.data_dir / "programs"
    folder.mkdir(mode=0o700, exist_ok=True)  # other tests look at who may read what is in the data folder
    (folder / "neighbour.py").write_text("value = 17")
    program = folder / "program.py"
    program.write_text(
        "import os, sys, threading\nimport neighbour\n"
        "seen = [__name__, __file__, sys.path[0], sys.argv, neighbour.value]\ncwd = os.getcwd()\n"
        "main = threading.current_thread() is threading.main_thread()\n"
    )
    job = server.call("/push_job/", name=workspace, job=str(program), timeout=30)
    assert job["result"] is True, job
    assert job["variable"]["seen"] == ["__main__", str(program), str(folder), [str(program)], 17]
    assert job["variable"]["main"] is True
    assert job["variable"]["cwd"] == server.call("/get_status/", name=workspace)["folder"]


def test_a_missing_file_is_a_failure_of_the_job(server: Server, workspace: str) -> None:
    job = server.call("/push_job/", name=workspace, job=str(server.data_dir / "missing.py"), timeout=30)
    assert (job["finish"], job["result"]) == (True, False)
    assert "missing.py" in job["error"]["message"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
                                  "..\\..\\..\\..\\etc\\passwd", "a\0b", "", "/proc/self/environ"])  # fmt: skip
def test_a_path_outside_of_the_roots_is_refused_and_no_job_is_made(server: Server, workspace: str, path: str) -> None:
    for call, field in (("/push_job/", "job"), ("/deploy/", "path"), ("/update/", "path")):
        status, _ = server.refused(call, name=workspace, **{field: path})
        assert status == 400
    assert server.call("/get_result/", name=workspace) == []


def test_a_symbolic_link_out_of_the_roots_is_refused(server: Server, workspace: str) -> None:
    link = server.data_dir / "link"
    link.unlink(missing_ok=True)
    link.symlink_to("/etc")
    status, sentence = server.refused("/push_job/", name=workspace, job=str(link / "passwd"))
    assert status == 400
    assert "TFSERVE_ROOTS" in sentence


def test_the_same_idempotency_key_is_the_same_job_and_runs_once(server: Server, workspace: str) -> None:
    script = "n = globals().get('n', 0) + 1"
    fields = {"name": workspace, "job": script, "type": 1, "timeout": 30}
    headers = {"Idempotency-Key": "key 1"}
    first = server.http.post("/push_job/", json=fields, headers=headers).json()["result"]
    again = server.http.post("/push_job/", json=fields, headers=headers).json()["result"]
    assert again["id"] == first["id"]
    assert again["result"] is True
    assert again["variable"] == {"n": 1}
    other = server.http.post("/push_job/", json=fields | {"job": "other"}, headers=headers)
    assert other.status_code == 409
    assert server.http.post("/push_job/", json=fields, headers={"Idempotency-Key": "x" * 201}).status_code == 400


def test_many_clients_with_one_key_at_once_make_one_job(server: Server, workspace: str) -> None:
    fields = {"name": workspace, "job": "n = globals().get('n', 0) + 1", "type": 1, "timeout": 30}
    answers: list[dict[str, object]] = []

    def send() -> None:
        answer = httpx.post(f"{server.url}/push_job/", json=fields, headers={"Idempotency-Key": "k"}, timeout=60)
        answers.append(answer.json()["result"])

    in_parallel(send, 16)
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}
    assert all(answer["variable"] == {"n": 1} for answer in answers)


def test_nothing_is_lost_or_mixed_with_many_clients_on_one_workspace(server: Server, workspace: str) -> None:
    seen: list[tuple[int, int]] = []
    counter = iter(range(10_000))

    def send() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            for _ in range(20):
                mine = next(counter)
                job = http.post(
                    "/push_job/", json={"name": workspace, "job": f"print({mine})", "type": 1, "timeout": 60}
                ).json()["result"]
                assert job["stdout"] == f"{mine}\n"
                seen.append((job["job"], mine))

    in_parallel(send, 16)
    assert sorted(number for number, _ in seen) == list(range(320))
    assert server.call("/get_result/", name=workspace) == [True] * 320


# --- output


def test_output_can_be_read_from_any_offset_while_it_runs_and_after(
    server: Server, workspace: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = server.run(workspace, f"print('grüße', flush=True)\nopen({str(gate)!r}).read()\nprint('end')", timeout=0)
    follow_until(server, workspace, 0, "gr")
    path = f"/jobs/{job['id']}/output"
    during = server.http.get(path)
    assert (during.text, during.headers["X-Job-State"]) == ("grüße\n", "running")
    offset = during.headers["X-Next-Offset"]
    assert server.http.get(path, params={"offset": offset}).text == ""
    gate.write_text("")
    server.wait(workspace, 0)
    after = server.http.get(path, params={"offset": offset})
    assert (after.text, after.headers["X-Job-State"]) == ("end\n", "succeeded")
    assert server.http.get(path, params={"offset": 10**12}).text == ""
    assert server.http.get(path, params={"offset": "-1"}).status_code == 400


def test_output_is_followed_live_and_continues_after_a_disconnect(
    server: Server, workspace: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = server.run(workspace, f"print('one ☃', flush=True)\nopen({str(gate)!r}).read()\nprint('two')", timeout=0)
    path, headers = f"/jobs/{job['id']}/output", {"Accept": "text/event-stream"}
    last_id = ""
    with server.http.stream("GET", path, headers=headers) as events:
        for line in events.iter_lines():
            last_id = line.removeprefix("id: ") if line.startswith("id: ") else last_id
            if line.startswith("data: "):
                assert json.loads(line.removeprefix("data: "))["text"] == "one ☃\n"
                break
    gate.write_text("")
    rest = server.http.get(path, headers={**headers, "Last-Event-ID": last_id}).text
    texts = [json.loads(line[6:]) for line in rest.splitlines() if line.startswith("data: ")]
    assert "".join(each.get("text", "") for each in texts) == "two\n"
    assert texts[-1] == {"state": "succeeded"}


def test_what_programs_and_c_code_print_is_output_too(server: Server, workspace: str) -> None:
    job = server.run(
        workspace,
        "import ctypes, os, subprocess, sys\nsubprocess.run(['echo', 'child'])\nctypes.CDLL(None).puts(b'from c')\n"
        "os.write(2, b'raw\\n')\nprint('err', file=sys.stderr)",
    )
    assert "child\n" in job["stdout"]
    assert "from c\n" in job["stdout"]
    assert job["stderr"] == "raw\nerr\n"


@pytest.mark.slow
def test_a_job_that_prints_a_gigabyte_of_binary_is_capped_and_memory_is_flat(start: Start) -> None:
    server = start("--max-output-bytes", str(2**20))
    server.call("/create_workspace/", name="a")
    server.run("a", "x = 1")
    supervisor = psutil.Process(server.pid)
    before = supervisor.memory_info().rss
    job = server.run(
        "a", "import os\nblock = os.urandom(2**20)\nfor _ in range(1024): os.write(1, block)\nprint('end')", timeout=60
    )
    assert job["result"] is True
    assert supervisor.memory_info().rss - before < 50 * 2**20
    assert job["stdout"].endswith("end\n")
    output = server.http.get(f"/jobs/{job['id']}/output")
    assert 2**20 < len(output.content) < 2**20 + 200
    assert output.content.endswith(b"the rest is not kept]\n")
    assert server.http.get(f"/jobs/{job['id']}/output?offset={2**20 - 5}").content.startswith(
        output.content[2**20 - 5 :][:5]
    )


# --- ending jobs


def test_a_waiting_job_is_cancelled_without_ever_running(server: Server, workspace: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    server.run(workspace, f"open({str(gate)!r}).read()", timeout=0)
    server.run(workspace, "ran = True", timeout=0)
    answer = server.call("/cancel_job/", name=workspace, job=1)
    assert (answer["state"], answer["cancelled"]) == ("cancelled", True)
    gate.write_text("")
    server.run(workspace, "last = 1")
    assert server.call("/get_variable/", name=workspace) == {"last": 1}
    assert server.call("/get_result/", name=workspace) == [True, False, True]


CANCELLABLE = {
    "python": "while True: pass",
    "sleeping": "import time\ntime.sleep(1000)",
    "ignoring_interrupts": "import time\nwhile True:\n  try: time.sleep(1000)\n  except KeyboardInterrupt: pass",
    "in_c": "import ctypes\nlibc = ctypes.PyDLL(None)\nlibc.sleep(1000)",
    "forking": "import os, time\nif os.fork() == 0:\n  while True: time.sleep(1)\ntime.sleep(1000)",
    "child_processes": "import subprocess\nsubprocess.run(['sh', '-c', 'sleep 1000 & sleep 1000'])",
    "ignoring_signals": "import signal, time\nfor n in (15, 2): signal.signal(n, signal.SIG_IGN)\ntime.sleep(1000)",
    "new_session": "from subprocess import *\nPopen('sleep 99', shell=True, start_new_session=1)\nrun(['sleep', '9'])",
}  # fmt: skip


@pytest.fixture(scope="module")
def graceless(tmp_path_factory: pytest.TempPathFactory):
    running = Server(tmp_path_factory.mktemp("graceless") / "data", "--cancel-grace-s", "1")
    yield running
    running.close()


@pytest.mark.parametrize("kind", CANCELLABLE)
def test_a_running_job_is_cancelled_within_the_grace_time_with_all_it_started(graceless: Server, kind: str) -> None:
    server = graceless
    server.call("/create_workspace/", name=kind)
    server.run(kind, "print('begun', flush=True)\n" + CANCELLABLE[kind], timeout=0)
    server.run(kind, "after = 1", timeout=0)
    follow_until(server, kind, 0, "begun")
    worker = psutil.Process(server.call("/get_status/", name=kind)["pid"])
    wait_for_children(worker, kind)
    started_at = time.monotonic()
    answer = server.call("/cancel_job/", name=kind, job=0)
    assert time.monotonic() - started_at < 4
    assert (answer["state"], answer["cancelled"]) == ("cancelled", True)
    assert server.wait(kind, 1)["state"] == "succeeded"
    assert server.call("/get_variable/", name=kind) == {"after": 1} or kind not in ("ignoring_interrupts", "in_c")
    below = psutil.Process(server.pid).children(recursive=True)
    assert not [p for p in below if command(p).startswith(("sleep", "sh"))], "a zombie has no command line any more"
    error = server.http.get("/jobs/", params={"name": kind, "state": "cancelled"}).json()["result"]["jobs"][0]["error"]
    assert error["code"] == "cancelled"
    server.call("/destroy_workspace/", name=kind)


def test_cancelling_a_job_that_has_ended_changes_nothing(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    answer = server.call("/cancel_job/", name=workspace, job=0)
    assert (answer["state"], answer["cancelled"]) == ("succeeded", False)
    assert server.refused("/cancel_job/", name=workspace, job=5)[0] == 404


def test_a_cancelled_script_keeps_its_worker_and_variables(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    server.run(workspace, "y = 2\nprint('begun', flush=True)\nimport time\ntime.sleep(1000)", timeout=0)
    follow_until(server, workspace, 1, "begun")
    pid = server.call("/get_status/", name=workspace)["pid"]
    server.call("/cancel_job/", name=workspace, job=1)
    job = server.run(workspace, "z = x + y")
    assert job["variable"]["z"] == 3
    assert server.call("/get_status/", name=workspace)["pid"] == pid


def test_a_job_over_its_time_limit_is_ended_as_failed(server: Server, workspace: str) -> None:
    job = server.run(workspace, "while True: pass", time_limit=0.3)
    assert (job["state"], job["result"]) == ("failed", False)
    assert "time limit of 0.3 seconds" in job["error"]["message"]
    assert server.refused("/push_job/", name=workspace, job="x", type=1, time_limit=0)[0] == 400


# --- the truth about death


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os\nprint('last words', flush=True)\nos.kill(os.getpid(), 9)", ("SIGKILL", "last words")),
        ("import ctypes\nctypes.string_at(0)", ("SIGSEGV", "Segmentation fault")),
        ("import os\nos._exit(7)", ("code 7",)),
        ("import os\nos.abort()", ("SIGABRT",)),
    ],
)
def test_a_dead_worker_is_reported_within_a_second_and_the_queue_continues(
    server: Server, workspace: str, script: str, words: tuple[str, ...]
) -> None:
    server.run(workspace, "x = 1")
    job = server.run(workspace, script)
    assert job["state"] == "lost"
    assert job["result"] is False
    assert job["error"]["code"] == "lost"
    assert job["error"]["detail"]["peak_memory_bytes"] > 2**20
    told = job["error"]["message"] + job["error"]["detail"]["last_output"]
    for word in words:
        assert word in told
    assert server.call("/get_variable/", name=workspace) == {"x": 1}, "the snapshot outlives the worker"
    assert server.run(workspace, "y = 2")["variable"] == {"y": 2}


def test_a_kill_from_outside_is_reported_within_a_second(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    pid = server.call("/get_status/", name=workspace)["pid"]
    job = server.run(workspace, "print('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(server, workspace, 1, "begun")
    psutil.Process(pid).kill()
    killed_at = time.monotonic()
    server.http.get(f"/jobs/{job['id']}/output", headers={"Accept": "text/event-stream"})
    assert time.monotonic() - killed_at < 1.5
    assert server.wait(workspace, 1)["error"]["detail"]["signal"] == "SIGKILL"


def test_after_five_deaths_in_a_row_the_workspace_is_given_up_until_it_is_restarted(
    server: Server, workspace: str
) -> None:
    for _ in range(5):
        assert server.run(workspace, "import os; os._exit(3)")["state"] == "lost"
    status = server.call("/get_status/", name=workspace)
    assert status["STATUS"] == "EXCEPT"
    assert "5 times in a row" in status["reason"]
    code, sentence = server.refused("/push_job/", name=workspace, job="x = 1", type=1)
    assert code == 503
    assert "/restart_workspace/" in sentence
    assert server.call("/restart_workspace/", name=workspace) is True
    assert server.run(workspace, "x = 1")["result"] is True
    assert server.call("/get_status/", name=workspace)["STATUS"] == "IDLE"


def test_restart_gives_a_fresh_process_and_no_variables(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    pid = server.call("/get_status/", name=workspace)["pid"]
    server.run(workspace, "while True: pass", timeout=0)
    server.run(workspace, "y = 2", timeout=0)
    server.call("/restart_workspace/", name=workspace)
    assert server.wait(workspace, 2)["state"] == "succeeded"
    assert server.call("/get_result/", name=workspace) == [True, False, True]
    assert server.call("/get_variable/", name=workspace) == {"y": 2}
    assert server.call("/get_status/", name=workspace)["pid"] != pid


# --- what scripts may do to their process, and not to others


def test_what_a_script_does_to_its_process_stays_in_its_workspace(server: Server, workspace: str) -> None:
    folder = server.call("/get_status/", name=workspace)["folder"]
    assert server.run(workspace, "import sys; sys.exit()")["state"] == "succeeded"
    job = server.run(workspace, "import sys; sys.exit(3)")
    assert (job["state"], job["error"]["type"]) == ("failed", "SystemExit")
    assert server.run(workspace, "import os, sys; sys.stdout.close(); os.close(1); os.chdir('/')")["result"] is True
    job = server.run(workspace, "import os; print(os.getcwd())")
    assert nodes.is_folder(job["stdout"].strip(), folder)
    job = server.run(workspace, "import os\npid = os.fork()\nprint('child' if pid == 0 else 'parent')")
    assert job["state"] == "succeeded"
    assert server.run(workspace, "print('still one')")["stdout"] == "still one\n"


@pytest.mark.parametrize(
    ("script", "type_", "line"),
    [("x = 1\nif True\n", "SyntaxError", "line 2"), ("\nimport not_there", "ModuleNotFoundError", "line 2"),
     ("def f(): f()\nf()", "RecursionError", "line 1")],
)  # fmt: skip
def test_broken_scripts_fail_with_type_and_line(
    server: Server, workspace: str, script: str, type_: str, line: str
) -> None:
    job = server.run(workspace, script)
    assert job["state"] == "failed"
    assert job["error"]["type"] == type_
    assert line in job["error"]["traceback"]


# --- lists


def test_jobs_are_listed_newest_first_by_name_state_and_kind(server: Server, workspace: str) -> None:
    server.run(workspace, "x = 1")
    server.run(workspace, "1 / 0")
    server.call("/clear/", name=workspace, timeout=30)

    def listed(**query: object) -> list[int]:
        answer = server.http.get("/jobs/", params={"name": workspace, **query}).json()["result"]
        return [job["job"] for job in answer["jobs"]]

    assert listed() == [2, 1, 0]
    assert listed(state="failed") == [1]
    assert listed(kind="clear") == [2]
    assert listed(limit=1, offset=1) == [1]
    assert server.http.get("/jobs/", params={"name": workspace, "limit": 1}).json()["result"]["total"] == 3
    for query in (
        {"state": "faild"},
        {"kind": "x"},
        {"limit": "-1"},
        {"limit": "1001"},
        {"offset": "a"},
        {"name": ".."},
    ):
        assert server.http.get("/jobs/", params=query).status_code == 400
    assert "did you mean 'failed'" in server.http.get("/jobs/", params={"state": "faild"}).json()["result"]
    assert server.http.get("/jobs/", params={"name": "nobody"}).status_code == 404


def test_old_jobs_are_forgotten_and_reported_so(start: Start) -> None:
    server = start("--keep-jobs", "5")
    server.call("/create_workspace/", name="a")
    for _ in range(120):
        job = server.run("a", "print(1)")
    folder = Path(server.call("/get_status/", name="a")["folder"]).parent / "jobs"
    deadline = time.monotonic() + 10
    while len(os.listdir(folder)) > 20:
        assert time.monotonic() < deadline
    status, sentence = server.refused("/get_result/", name="a", job=0)
    assert status == 404
    assert "no longer kept" in sentence
    assert server.call("/get_result/", name="a", job=119) is True
    assert server.run("a", "x = 1")["job"] == 120
    assert job["job"] == 119


def test_a_full_queue_is_503_with_retry_after(start: Start, tmp_path: Path) -> None:
    server = start("--max-queue", "3")
    server.call("/create_workspace/", name="a")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    server.run("a", f"open({str(gate)!r}).read()", timeout=0)
    for _ in range(3):
        server.run("a", "x = 1", timeout=0)
    answer = server.http.post("/push_job/", json={"name": "a", "job": "x", "type": 1})
    assert answer.status_code == 503
    assert "max_queue" in answer.json()["result"]
    assert "Retry-After" in answer.headers
    gate.write_text("")
    assert server.wait("a", 3)["state"] == "succeeded"


# --- parts


def in_parallel(work: Callable[[], None], threads: int) -> None:
    problems: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not problems, problems[0]


def wait_for_children(worker: psutil.Process, kind: str) -> None:
    wanted = {"forking": 1, "child_processes": 2, "new_session": 2}.get(kind, 0)
    deadline = time.monotonic() + 5
    while len(worker.children(recursive=True)) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_script_sent_as_a_file_or_a_file_as_a_script_is_refused_with_the_type_to_send(
    server: Server, workspace: str
) -> None:
    status, message = server.refused("/push_job/", name=workspace, job="import os\nprint(os.getcwd())")
    assert (status, "looks like a script. Send type 1" in message) == (400, True)
    status, message = server.refused("/push_job/", name=workspace, job="train.py", type=1)
    assert (status, "looks like a file path. Send type 0" in message) == (400, True)
    assert server.call("/get_status/", name=workspace)["CUR_JOB_NUM"] == -1


def test_a_misspelt_field_is_no_error_but_a_warning_beside_the_result(server: Server, workspace: str) -> None:
    request = {"name": workspace, "job": "x = 1", "type": 1, "time_out": 30}
    answer = server.http.post("/push_job/", json=request).json()
    assert answer["warnings"] == ["unknown field 'time_out'; did you mean 'timeout'?"]
    assert answer["request_result"] is True
    answer = server.http.post("/get_status/", json={"nmae": workspace}).json()
    assert answer["warnings"] == ["unknown field 'nmae'; did you mean 'name'?"]
    assert answer["error"]["code"] == "invalid"
    answer = server.http.get("/jobs/", params={"nmae": workspace}).json()
    assert answer["warnings"] == ["unknown field 'nmae'; did you mean 'name'?"]
    assert "warnings" not in server.http.post("/get_status/", json={"name": workspace}).json()
