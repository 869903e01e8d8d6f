"""Workspaces and their scripts, in processes and in threads: made, ended, lost, given up, restarted, restored."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from supervised import DEADLINE_S, Start, Supervised, failure, is_running, outcome, until, written

from tfserve.errors import NotFound, TFserveError, TimedOut
from tfserve.ipc.messages import (
    CancelJob,
    ClearJob,
    CreateWorkspace,
    DestroyWorkspace,
    FindWorkspaces,
    GetMetrics,
    GetServer,
    GetVariables,
    IsReady,
    ListWorkspaces,
    Metrics,
    RestartWorkspace,
    SetService,
    UndeployJob,
    WaitChange,
    WaitOutput,
)
from tfserve.supervisor.processes import restarts

DIES = "import os; os._exit(3)"
STUBBORN = "import time\nwhile True:\n  try: time.sleep(1000)\n  except BaseException: pass"


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.01)


def deaths(metrics: Metrics) -> Counter[tuple[str, str]]:
    """By role and workspace, since this process began: other tests have had a workspace of this name."""
    return Counter({(each.role, each.workspace): each.count for each in metrics.deaths})


async def variables(server: Supervised, name: str = "w") -> dict[str, object]:
    found: dict[str, object] = json.loads((await server.line.ask(GetVariables(workspace=name, names=None))).values)
    return found


# --- scripts in a process


async def test_scripts_share_variables_and_a_process_until_a_restart(start: Start) -> None:
    async with start() as server:
        await server.create()
        assert (await server.status())["pid"] is None, "a workspace without scripts needs no process"
        assert outcome(await server.run("x = 1\nprint('printed')")).detail == b'{"stdout":"printed\\n","stderr":""}'
        assert outcome(await server.run("y = x + 1")).variables == b'{"x":1,"y":2}'
        status = await server.status()
        assert (status["state"], status["STATUS"], status["FIN_JOB_NUM"]) == ("ready", "IDLE", 1)
        assert status["memory_bytes"] > 1_000_000
        assert await variables(server) == {"x": 1, "y": 2}
        await server.line.ask(RestartWorkspace(name="w"))
        assert not is_running(status["pid"])
        assert failure(await server.run("x"))["type"] == "NameError"
        assert outcome(await server.run("x = 3")).variables == b'{"x":3}'
        assert outcome(await server.submit(ClearJob())).variables == b"{}"


async def test_a_workspace_is_cleared_without_starting_a_process(start: Start) -> None:
    async with start() as server:
        await server.create()
        assert (await server.submit(ClearJob())).state == "succeeded"
        assert (await server.status())["pid"] is None
        assert not (await server.line.ask(GetVariables(workspace="w", names=None))).complete, (
            "only the database has any"
        )


async def test_a_script_whose_process_dies_is_lost_and_the_next_one_has_a_fresh_process(start: Start) -> None:
    async with start() as server:
        await server.create()
        await server.run("x = 1")
        lost = await server.run(f"print('last words', flush=True)\n{DIES}")
        assert lost.state == "lost"
        detail = failure(lost)["detail"]
        assert (detail["exit_code"], detail["signal"]) == (3, None)
        assert "last words" in detail["last_output"]
        assert (await server.status())["deaths_in_a_row"] == 1
        assert outcome(await server.run("y = 2")).variables == b'{"y":2}'
        assert (await server.status())["deaths_in_a_row"] == 0


async def test_after_five_deaths_in_a_row_a_workspace_is_given_up_until_a_restart(start: Start) -> None:
    async with start() as server:
        await server.create()
        for _ in range(5):
            assert (await server.run(DIES)).state == "lost"
        status = await server.status()
        assert (status["STATUS"], status["state"]) == ("EXCEPT", "failed")
        assert "its worker died 5 times in a row; the last time it exited with code 3" in status["reason"]
        with pytest.raises(TFserveError, match="its worker died 5 times in a row"):
            await server.run("x = 1")
        await server.line.ask(RestartWorkspace(name="w"))
        assert (await server.run("x = 1")).state == "succeeded"


async def test_a_cancelled_script_and_what_it_started_end_also_when_it_refuses(start: Start) -> None:
    async with start() as server:
        await server.create()
        polite = await server.run(
            "import subprocess, time\nchild = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
            "print(child.pid, flush=True)\ntime.sleep(1000)",
            wait_s=0.0,
        )
        assert not await server.line.ask(WaitOutput(job_id=polite.id, offset=0, wait_s=DEADLINE_S))
        pid = (await server.status())["pid"]
        cancelled = await server.line.ask(CancelJob(workspace="w", job=polite.job))
        assert cancelled is not None
        child = int(json.loads(outcome(cancelled).detail or b"")["stdout"])
        assert cancelled.state == "cancelled"
        await until(lambda: not is_running(child))
        assert is_running(pid), "the process, and with it the variables, stays"
        stubborn = await server.start(STUBBORN)
        cancelled = await server.line.ask(CancelJob(workspace="w", job=stubborn.job))
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        assert not is_running(pid)
        assert (await server.run("x = 1")).state == "succeeded"
        assert await server.line.ask(CancelJob(workspace="w", job=polite.job)) is None, "it has ended"


async def test_a_script_is_cancelled_while_its_process_starts(start: Start) -> None:
    async with start() as server:
        await server.create()
        job = await server.run("x = 1", wait_s=0.0)
        assert (await server.status())["STATUS"] == "INITIAL"
        cancelled = await server.line.ask(CancelJob(workspace="w", job=job.job))
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        assert outcome(await server.run("y = 1")).variables == b'{"y":1}'


async def test_while_a_script_runs_its_variables_are_not_read(start: Start) -> None:
    async with start() as server:
        await server.create()
        job = await server.start("import time; time.sleep(1000)")
        assert (await server.status())["running"] == [{"job": job.job, "id": job.id, "kind": "script"}]
        assert not (await server.line.ask(GetVariables(workspace="w", names=None))).complete
        await server.line.ask(CancelJob(workspace="w", job=job.job))
        await server.run("z = 1")
        assert (await server.line.ask(GetVariables(workspace="w", names=["z"]))).values == b'{"z":1}'


# --- scripts in threads


async def test_thread_workspaces_share_a_process_and_not_their_variables(start: Start) -> None:
    async with start() as server:
        for name in ("a", "b"):
            await server.create(name, type_=1)
        first, second = await asyncio.gather(server.run("x = 'a'", "a"), server.run("x = 'b'; print(1)", "b"))
        assert (outcome(first).variables, outcome(second).variables) == (b'{"x":"a"}', b'{"x":"b"}')
        assert json.loads(outcome(second).detail or b"")["stdout"] == "1\n"
        pid = (await server.status("a"))["pid"]
        assert (await server.status("b"))["pid"] == pid
        await server.line.ask(RestartWorkspace(name="a"))
        assert is_running(pid)
        assert failure(await server.run("x", "a"))["type"] == "NameError"
        assert await variables(server, "b") == {"x": "b"}


async def test_a_thread_that_ends_the_process_takes_the_others_with_it_and_all_continue(start: Start) -> None:
    async with start() as server:
        for name in ("a", "b"):
            await server.create(name, type_=1)
        other = asyncio.ensure_future(server.run("print('begun', flush=True)\nimport time; time.sleep(1000)", "b"))
        await server.until_status("b", STATUS="BUSY")
        lost = await server.run(f"print('mine', flush=True)\n{DIES}", "a")
        assert (lost.state, (await other).state) == ("lost", "lost")
        assert failure(lost)["detail"]["exit_code"] == 3
        for name in ("a", "b"):
            assert outcome(await server.run("x = 1", name)).variables == b'{"x":1}'
        assert (await server.status("a"))["pid"] == (await server.status("b"))["pid"]


async def test_a_thread_that_does_not_end_is_not_restarted_until_it_does(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "locked"
    script = f"import ctypes; file = open({str(file)!r}); ctypes.CDLL(None).flock(file.fileno(), {fcntl.LOCK_EX})"
    locks = Path("/proc/locks")
    async with start() as server:
        await server.create("t", type_=1)
        with file.open("w") as ours:
            fcntl.flock(ours, fcntl.LOCK_EX)
            job = await server.start(script, "t")  # it blocks in C, where no interrupt reaches it
            await until(lambda: re.search(rf"-> FLOCK .*:{os.fstat(ours.fileno()).st_ino} ", locks.read_text()))
            with pytest.raises(TimedOut, match="It runs in a thread, which can't be killed"):
                await server.line.ask(CancelJob(workspace="t", job=job.job))
        assert (await server.run("x = 1", "t")).state == "succeeded"


async def test_a_host_that_does_not_answer_is_ended_for_the_sake_of_the_others(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfserve.supervisor.jobs.scripts.HOST_GRACE_S", 0.1)
    async with start() as server:
        await server.create("t", type_=1)
        await server.run("x = 1", "t")
        pid = (await server.status("t"))["pid"]
        os.kill(pid, signal.SIGSTOP)
        await server.line.ask(RestartWorkspace(name="t"))
        assert not is_running(pid)
        assert outcome(await server.run("y = 1", "t")).variables == b'{"y":1}'


# --- all of them


async def test_workspaces_are_made_listed_and_destroyed_with_all_that_is_theirs(start: Start) -> None:
    async with start(max_workspaces=2) as server:
        assert await server.create("a") == "a"
        made = await server.line.ask(CreateWorkspace())
        assert len(made) == 10
        assert set(await server.line.ask(ListWorkspaces())) == {"a", made}
        with pytest.raises(TFserveError, match=r"^Workspace 'a' already exists"):
            await server.create("a")
        await server.line.ask(DestroyWorkspace(name=made))
        job = asyncio.ensure_future(server.run("print('begun')\nimport time; time.sleep(1000)", "a"))
        queued = asyncio.ensure_future(server.run("x = 1", "a"))
        status = await server.until_status("a", STATUS="BUSY", JOB_COUNT=1)
        folder = server.workspaces.get("a").folder
        assert folder.is_dir()
        assert await server.line.ask(DestroyWorkspace(name="a")) is True
        assert ((await job).state, (await queued).state) == ("cancelled", "cancelled")
        assert not is_running(status["pid"])
        assert not folder.parent.exists()
        with pytest.raises(NotFound, match=r"^There is no workspace 'a'"):
            await server.status("a")
        assert await server.line.ask(DestroyWorkspace(name=None)) is False, "there is none left"
        for name in ("b", "c"):
            await server.create(name)
        with pytest.raises(TFserveError, match=r"^There are already 2 workspaces"):
            await server.create("d")


async def test_a_service_that_is_off_has_no_workspaces(start: Start) -> None:
    async with start() as server:
        await server.create()
        await server.run("x = 1")
        assert await server.line.ask(SetService(on=False)) is True
        for refused in (server.create(), server.line.ask(ListWorkspaces()), server.status()):
            with pytest.raises(TFserveError) as off:
                await refused
            assert off.value.kind == "conflict"
        assert await server.line.ask(SetService(on=False)) is False
        assert await server.line.ask(SetService(on=True)) is True
        assert await server.line.ask(ListWorkspaces()) == []


async def test_the_next_server_continues_with_the_jobs_that_wait(start: Start) -> None:
    async with start(drain_s=0.05) as server:
        await server.create("p")
        await server.create("t", type_=1)
        await server.run("x = 1", "t")
        running = asyncio.ensure_future(server.run("print('begun', flush=True)\nimport time; time.sleep(1000)", "p"))
        waiting = asyncio.ensure_future(server.run("after = 1", "p"))
        await server.until_status("p", STATUS="BUSY", JOB_COUNT=1)
    ends = await asyncio.gather(running, waiting, return_exceptions=True)
    assert all(isinstance(each, TFserveError) or each.state == "lost" for each in ends)
    async with start() as server:
        assert set(await server.line.ask(ListWorkspaces())) == {"p", "t"}
        await server.until_status("p", FIN_JOB_NUM=1, STATUS="IDLE")
        assert await variables(server, "p") == {"after": 1}
        assert (await server.run("y = 1", "p")).job == 2, "the numbers go on"
        assert (await server.status("t"))["type"] == 1


async def test_old_jobs_are_forgotten_with_their_output(start: Start) -> None:
    async with start(keep_jobs=1) as server:
        await server.create()
        for number in range(3):
            await server.run(f"print({number})")
        workspace = server.workspaces.get("w")
        await server.workspaces.prune(workspace)
        assert [file.name for file in workspace.job_folder.iterdir()] == ["2.out"]
        assert (await server.run("x = 1")).job == 3


# --- what web may ask of the whole server


async def test_the_state_of_the_server_is_reported_and_every_change_wakes_who_waits_for_one(start: Start) -> None:
    async with start() as server:
        found = await server.line.ask(GetServer())
        assert (found["pid"], found["ready"], found["on"], found["workspaces"]) == (os.getpid(), True, True, [])
        assert found["spare"] is None
        assert await server.line.ask(IsReady())
        waiting = asyncio.ensure_future(server.line.ask(WaitChange(since=found["revision"], wait_s=30)))
        await server.create()
        assert await waiting > found["revision"]
        assert await server.line.ask(WaitChange(since=found["revision"], wait_s=30)) > found["revision"], (
            "it has changed already"
        )
        assert [each["name"] for each in (await server.line.ask(GetServer()))["workspaces"]] == ["w"]


async def test_workspaces_are_found_by_name_and_status_in_pages(start: Start) -> None:
    async with start() as server:
        for name in ("beta", "Alpha", "gamma", "alphabet", "alpha@2"):
            await server.line.ask(CreateWorkspace(name=name))
        running = asyncio.ensure_future(server.run(STUBBORN, name="gamma"))
        await until(lambda: server.workspaces.get("gamma").status == "BUSY")

        async def found(**request: Any) -> tuple[list[str], int]:
            response = await server.line.ask(FindWorkspaces(**request))
            return [each["name"] for each in response.workspaces], response.total

        assert await found() == (["Alpha", "alphabet", "beta", "gamma"], 4), "versions of a model are not listed"
        assert await found(limit=2) == (["Alpha", "alphabet"], 4)
        assert await found(limit=2, offset=2) == await found(limit=2, offset=99) == (["beta", "gamma"], 4)
        assert await found(text="ALPHA") == (["Alpha", "alphabet"], 2)
        assert await found(text="a", status="BUSY") == (["gamma"], 1)
        counts = (await server.line.ask(FindWorkspaces(status="BUSY"))).counts
        assert counts == {"IDLE": 3, "BUSY": 1}, "the other states can still be selected"
        state = await server.line.ask(GetServer(active_limit=10))
        assert [each["name"] for each in state["workspaces"]] == ["gamma"], "only those that something happens in"
        assert state["totals"] == {"workspaces": 5, "running": 1, "waiting": 0}
        await server.line.ask(DestroyWorkspace(name="gamma"))
        await running


async def test_a_full_queue_and_a_server_that_stops_refuse_new_jobs_and_known_keys_are_answered(start: Start) -> None:
    async with start(max_queue=1) as server:
        await server.create()
        first = await server.start("import time; time.sleep(1000)")
        kept = await server.run("x = 1", wait_s=0.0, idempotency_key="once")
        with pytest.raises(
            TFserveError, match=r"^The queue of workspace 'w' is full: 1 jobs are waiting \(max_queue\)"
        ):
            await server.run("y = 1")
        assert (await server.run("x = 1", wait_s=0.0, idempotency_key="once")).id == kept.id
        await server.line.ask(CancelJob(workspace="w", job=kept.job))
        assert (await server.run("x = 1", idempotency_key="once")).state == "cancelled"
        await server.line.ask(CancelJob(workspace="w", job=first.job))
        server.api.stopping = True
        assert not await server.line.ask(IsReady())
        for refused in (server.run("y = 1"), server.create("v"), server.line.ask(RestartWorkspace(name="w"))):
            with pytest.raises(TFserveError, match=r"^The server is shutting down and accepts no new work"):
                await refused
        server.api.stopping = False


async def test_the_output_of_a_job_is_waited_for(start: Start) -> None:
    async with start() as server:
        await server.create()
        job = await server.start("import time; time.sleep(0.1); print('more', flush=True); time.sleep(1000)")
        assert await server.line.ask(WaitOutput(job_id=job.id, offset=len("begun\n"), wait_s=30)) is False
        cancelled = asyncio.ensure_future(server.line.ask(CancelJob(workspace="w", job=job.job)))
        assert await server.line.ask(WaitOutput(job_id=job.id, offset=10**6, wait_s=30)) is True
        await cancelled
        assert await server.line.ask(WaitOutput(job_id=job.id, offset=0, wait_s=30)) is True, "it is over"


async def test_metrics_count_jobs_deaths_predictions_and_processes_and_keep_what_a_dead_web_process_counted(
    start: Start, tmp_path: Path
) -> None:
    async with start() as server:
        await server.create()
        await server.deploy(written(tmp_path / "m.echo"))
        other = await server.new_web()
        other.http_errors = {"v1": {"404": 2}}
        before = deaths(await server.line.ask(GetMetrics()))
        for each in (server.web, other):
            await each.predict("w", 1, 2)
        await server.run(DIES)
        metrics = await server.line.ask(GetMetrics())
        (model,) = metrics.models
        assert (model.counts.requests, model.counts.replicas) == ({"v1": {"ok": 2}}, 1)
        (workspace,) = metrics.workspaces
        assert workspace.jobs == {"deploy": {"succeeded": 1}, "script": {"lost": 1}}
        assert {each.role for each in metrics.processes} == {"supervisor", "model"}
        assert all(each.memory_bytes > 0 for each in metrics.processes)
        assert deaths(metrics)["script", "w"] == before["script", "w"] + 1
        assert deaths(metrics)["model", "w"] == before["model", "w"]
        other.connection.close()
        await until(lambda: len(server.announcements.lines) == 1)
        metrics = await server.line.ask(GetMetrics())
        assert metrics.models[0].counts.requests == {"v1": {"ok": 2}}
        assert metrics.http_errors == {"v1": {"404": 2}}
        await server.submit(UndeployJob())
        assert (await server.line.ask(GetMetrics())).models == []
