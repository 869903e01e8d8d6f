"""Things done to each other at the wrong moment. Each of these once broke the server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.conftest import Server, command
from tests.acceptance.test_models import deploy, deployment, predict
from tests.acceptance.test_start_and_stop import follow_until
from tests.acceptance.test_workspaces import sleep_in_c

pytestmark = pytest.mark.slow

Start = Callable[..., Server]

HOLDS_THE_GIL = "import re\nprint('begun', flush=True)\nre.match('(a+)+$', 'a' * 60 + 'b')"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that does not wait long for anything."""
    options = ("--cancel-grace-s", "0.5", "--drain-s", "0.5")
    running = Server(tmp_path_factory.mktemp("quick") / "data", *options)
    yield running
    running.close()


@pytest.fixture
def name(quick: Server, request: pytest.FixtureRequest) -> str:
    return str(quick.call("/create_workspace/", name=request.node.name[:90].replace("[", "-").replace("]", "")))


# --- threads that hold everything up


def test_a_thread_that_holds_the_interpreter_can_be_destroyed_and_others_continue(quick: Server) -> None:
    for each in ("holds", "other"):
        quick.call("/create_workspace/", name=each, type=1)
    quick.run("other", "x = 1")
    quick.run("holds", HOLDS_THE_GIL, timeout=0)
    follow_until(quick, "holds", 0, "begun")
    assert quick.call("/destroy_workspace/", name="holds") is True
    assert quick.run("other", "y = 2")["result"] is True
    quick.call("/destroy_workspace/", name="other")


def test_a_thread_that_holds_the_interpreter_does_not_keep_the_server_from_stopping(start: Start) -> None:
    server = start("--drain-s", "0.2", "--cancel-grace-s", "0.2")
    server.call("/create_workspace/", name="a", type=1)
    server.run("a", HOLDS_THE_GIL, timeout=0)
    follow_until(server, "a", 0, "begun")
    assert server.stop(timeout=15) == 0


def test_a_restart_that_can_not_end_a_thread_is_reported(quick: Server) -> None:
    quick.call("/create_workspace/", name="sleeps", type=1)
    sleep_in_c(quick, "sleeps")
    status, sentence = quick.refused("/restart_workspace/", name="sleeps")
    assert status == 504
    assert "thread" in sentence
    assert quick.run("sleeps", "x = 1")["result"] is True, "it goes on when the thread has come back"
    quick.call("/destroy_workspace/", name="sleeps")


def test_a_workspace_made_again_under_its_name_has_nothing_of_the_one_before(quick: Server) -> None:
    quick.call("/create_workspace/", name="again", type=1)
    stubborn = "import time\nprint('begun', flush=True)\nend = time.time() + 4\nwhile time.time() < end:\n"
    stubborn += "  try:\n    time.sleep(0.05)\n    print('OLD')\n  except BaseException: pass"
    quick.run("again", stubborn, timeout=0)
    follow_until(quick, "again", 0, "begun")
    quick.call("/destroy_workspace/", name="again")
    quick.call("/create_workspace/", name="again", type=1)
    for _ in range(3):
        job = quick.run("again", "import time; time.sleep(0.3); print('new')")
        assert (job["state"], job["stdout"]) == ("succeeded", "new\n")
    quick.call("/destroy_workspace/", name="again")


def test_a_thread_job_is_cancelled_while_its_host_starts(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a", type=1)
    server.run("a", "import time; time.sleep(20)", timeout=0)
    started_at = time.monotonic()
    assert server.call("/cancel_job/", name="a", job=0)["state"] == "cancelled"
    assert time.monotonic() - started_at < 4
    assert server.run("a", "x = 1")["result"] is True


# --- predictions that run together


@pytest.mark.parametrize("end", ["/restart_workspace/", pytest.param("/destroy_workspace/", marks=pytest.mark.slow)])
def test_a_batch_of_predictions_is_ended_as_a_whole(server: Server, workspace: str, models: Path, end: str) -> None:
    deploy(server, workspace, models / "loop")
    server.run(workspace, "import time; time.sleep(0.5)", timeout=0)
    for _ in range(4):
        server.call("/predict/", name=workspace, fetches="y", feed_dict={"x": [[1000.0, 0.0]]}, timeout=0)
    server.until_predicting(workspace, 4)
    started_at = time.monotonic()
    assert server.call(end, name=workspace) is True
    assert time.monotonic() - started_at < 20
    if end == "/restart_workspace/":
        assert server.call("/get_result/", name=workspace) == [True, True, None, None, None, None]


@pytest.mark.slow
def test_predictions_that_run_when_the_server_stops_are_run_again_by_the_next_one(start: Start, models: Path) -> None:
    server = start("--drain-s", "0.2", TFSERVE_ROOTS=str(models))
    server.call("/create_workspace/", name="a")
    deploy(server, "a", models / "loop")
    for _ in range(3):
        server.call("/predict/", name="a", fetches="y", feed_dict={"x": [[1000.0, 0.0]]}, timeout=0, time_limit=0.5)
    server.until_predicting("a", 1)
    assert server.stop(timeout=30) == 0
    again = start("--cancel-grace-s", "0.2", TFSERVE_ROOTS=str(models))
    assert "time limit" in again.wait("a", 3)["error"]["message"]
    assert predict(again, "a")["result"] == [[[1.0, 2.0]]]


# --- models between two states


def test_a_deploy_that_waits_for_a_worker_is_cancelled_and_what_serves_is_left_alone(quick: Server, name: str) -> None:
    model = quick.roots / "one.echo"
    model.write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    deploy(quick, name, model)
    pid = deployment(quick, name)["pid"]
    quick.call("/deploy/", name=name, path=str(model), timeout=0)
    answer = quick.call("/cancel_job/", name=name, job=1)
    assert answer["state"] == "cancelled"
    assert deployment(quick, name)["pid"] == pid
    assert psutil.pid_exists(pid)
    assert len([p for p in quick.processes() if "tfserve.worker" in command(p)]) <= 2


def test_undeploying_while_the_model_returns_leaves_no_process(start: Start) -> None:
    server = start()
    model = server.roots / "one.echo"
    model.write_text('{"x": {"dtype": "float32", "shape": [-1, 2]}}')
    server.call("/create_workspace/", name="a")
    for _ in range(3):
        deploy(server, "a", model)
        psutil.Process(deployment(server, "a")["pid"]).kill()
        server.call("/undeploy/", name="a", timeout=60)
    deadline = time.monotonic() + 15
    while any("tfserve.worker" in command(p) for p in server.processes()):
        assert time.monotonic() < deadline, "a worker is left over"
        time.sleep(0.05)


# --- deaths of all kinds


def test_a_death_by_a_signal_without_a_name_is_reported(quick: Server, name: str) -> None:
    job = quick.run(name, "import os; os.kill(os.getpid(), 40)")
    assert job["state"] == "lost"
    assert job["error"]["detail"]["signal"] == "signal 40"


def test_a_script_that_closes_all_files_is_lost_and_the_next_one_runs(quick: Server, name: str) -> None:
    assert quick.run(name, "import os; os.closerange(3, 4000)")["state"] == "lost"
    assert quick.run(name, "x = 1")["result"] is True


def test_the_last_words_of_a_thread_job_are_its_own(quick: Server) -> None:
    quick.call("/create_workspace/", name="words", type=1)
    job = quick.run("words", "print('my last words', flush=True)\nimport os\nos._exit(3)")
    assert job["error"]["detail"]["last_output"] == "my last words\n"
    quick.call("/destroy_workspace/", name="words")


@pytest.mark.parametrize("type_", [0, 1])
def test_an_exception_that_can_not_be_shown_is_a_failure_like_any_other(quick: Server, type_: int) -> None:
    quick.call("/create_workspace/", name=f"odd{type_}", type=type_)
    quick.run(f"odd{type_}", "kept = 1")
    for script in (
        "class E(Exception):\n  def __str__(self): raise KeyboardInterrupt\nraise E()",
        "class E(Exception):\n  def __str__(self): raise SystemExit\nraise E()",
        "e = SyntaxError('x'); e.text = 5; e.lineno = 1; raise e",
    ):
        job = quick.run(f"odd{type_}", script)
        assert job["state"] == "failed"
        assert job["error"]["message"]
    assert quick.run(f"odd{type_}", "x = kept")["result"] is True
    quick.call("/destroy_workspace/", name=f"odd{type_}")


def test_a_server_whose_web_process_has_just_died_stops_cleanly(start: Start) -> None:
    server = start()
    for _ in range(4):
        web = next((p for p in server.processes() if "tfserve.web.app" in command(p)), None)
        if web is not None:
            web.kill()
            web.wait(5)
    assert server.stop(timeout=15) == 0


# --- making and destroying


def test_a_workspace_that_could_not_be_made_leaves_nothing_behind(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="first")
    folder = server.data_dir / "workspaces"
    moved = folder.rename(folder.with_name("moved"))
    folder.write_text("not a folder")
    assert server.refused("/create_workspace/", name="half")[0] == 507
    folder.unlink()
    moved.rename(folder)
    assert server.call("/create_workspace/", name="half") == "half"


def test_a_name_is_free_again_only_when_its_workspace_is_gone(quick: Server) -> None:
    quick.call("/create_workspace/", name="slow")
    quick.run("slow", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(quick, "slow", 0, "begun")
    results: list[int] = []

    def destroy() -> None:
        results.append(httpx.post(f"{quick.url}/destroy_workspace/", json={"name": "slow"}, timeout=30).status_code)

    thread = threading.Thread(target=destroy)
    thread.start()
    status = 0
    while status != 200:
        status = quick.http.post("/create_workspace/", json={"name": "slow"}).status_code
        assert status in (200, 409)
    thread.join()
    assert results == [200]
    quick.call("/destroy_workspace/", name="slow")


def test_no_workspace_slips_in_while_the_service_is_turned_off(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    server.run("a", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(server, "a", 0, "begun")
    thread = threading.Thread(target=lambda: httpx.post(f"{server.url}/destroy/", timeout=30))
    thread.start()
    while server.http.post("/create_workspace/", json={"name": "late"}).status_code == 200:
        server.http.post("/destroy_workspace/", json={"name": "late"})
    thread.join()
    server.call("/create/")
    assert server.call("/get_workspace/") == []


# --- many and large


@pytest.mark.slow
def test_clients_that_went_away_give_their_place_back_and_health_is_always_answered(start: Start) -> None:
    server = start("--max-requests", "5")
    server.call("/create_workspace/", name="a")
    server.run("a", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    follow_until(server, "a", 0, "begun")
    fields = {"name": "a", "job": "x = 1", "type": 1, "timeout": 1000}
    for _ in range(12):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/push_job/", json=fields, timeout=0.1)
        assert server.http.get("/v2/health/live").status_code == 200
    assert server.call("/get_status/", name="a")["JOB_COUNT"] == 12


def test_more_requests_at_once_than_allowed_are_refused_in_json(start: Start) -> None:
    server = start("--max-requests", "2")
    server.call("/create_workspace/", name="a")
    answers: list[httpx.Response] = []

    def wait() -> None:
        fields = {"name": "a", "job": "import time; time.sleep(1.5)", "type": 1, "timeout": 30}
        answers.append(httpx.post(f"{server.url}/push_job/", json=fields, timeout=60))

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert "max_requests" in refused.json()["result"]


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000_000, b"[" + b"[[]]," * 60 + b'"' + b"\\\\" * 29_000_000 + b'"]', b"[" * 60 + b'"",' * 20_000_000],
    ids=["brackets", "backslashes", "texts"],
)  # fmt: skip
def test_a_large_body_of_rubbish_is_refused_soon_and_memory_is_bounded(server: Server, body: bytes) -> None:
    web = next(p for p in server.processes() if "tfserve.web.app" in command(p))
    before = web.memory_info().rss
    started_at = time.monotonic()
    assert server.http.post("/get_status/", content=body).status_code in (400, 413)
    assert time.monotonic() - started_at < 5
    assert web.memory_info().rss - before < 400 * 2**20


def test_an_accepted_job_sent_again_to_a_full_queue_is_the_same_job(start: Start, tmp_path: Path) -> None:
    server = start("--max-queue", "1")
    server.call("/create_workspace/", name="a")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    server.run("a", f"open({str(gate)!r}).read()", timeout=0)
    fields: dict[str, Any] = {"name": "a", "job": "x = 1", "type": 1, "timeout": 0}
    headers = {"Idempotency-Key": "mine"}
    first = server.http.post("/push_job/", json=fields, headers=headers)
    assert server.http.post("/push_job/", json=fields).status_code == 503
    again = server.http.post("/push_job/", json=fields, headers=headers)
    assert again.json()["result"]["id"] == first.json()["result"]["id"]
    gate.write_text("")


def test_output_that_ends_inside_of_a_character_is_followed_to_its_end(quick: Server, name: str) -> None:
    job = quick.run(name, "import os; os.write(1, b'abc\\xe2\\x82')")
    events = quick.http.get(f"/jobs/{job['id']}/output", headers={"Accept": "text/event-stream"}).text
    assert "abc" in events
    assert "\ufffd" in events


@pytest.mark.slow
def test_reading_variables_that_never_end_is_given_up(start: Start) -> None:
    server = start()
    server.call("/create_workspace/", name="a")
    script = (
        "import time\nclass Slow:\n  n = 0\n  def __str__(self):\n    Slow.n += 1\n    if Slow.n == 2: time.sleep(60)\n"
    )
    server.run("a", script + "    return 'x'\nslow = Slow()")
    status, _ = server.refused("/get_variable/", name="a")
    assert status == 504
    assert server.run("a", "y = 2", timeout=20)["state"] == "succeeded"


def test_two_restarts_at_once_end_what_runs_once(quick: Server, name: str) -> None:
    quick.run(name, "print('begun', flush=True)\nwhile True: pass", timeout=0)
    quick.run(name, "x = 1", timeout=0)
    follow_until(quick, name, 0, "begun")
    threads = [
        threading.Thread(target=lambda: httpx.post(f"{quick.url}/restart_workspace/", json={"name": name}, timeout=30))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = {
        job["job"]: job["state"] for job in quick.http.get("/jobs/", params={"name": name}).json()["result"]["jobs"]
    }
    assert states[0] == "cancelled"
    assert quick.wait(name, 1)["state"] in ("succeeded", "cancelled")


def test_a_server_that_is_killed_while_it_stops_loses_nothing(start: Start) -> None:
    server = start("--drain-s", "30")
    server.call("/create_workspace/", name="a")
    server.run("a", "print('begun', flush=True)\nwhile True: pass", timeout=0)
    server.run("a", "x = 1", timeout=0)
    follow_until(server, "a", 0, "begun")
    server.process.send_signal(signal.SIGTERM)
    while "tfserve: waiting for running jobs to end" not in server.log:
        time.sleep(0.01)
    server.process.kill()
    server.process.wait(10)
    again = start()
    assert again.wait("a", 1)["state"] == "succeeded"
    assert again.call("/get_result/", name="a") == [False, True]
