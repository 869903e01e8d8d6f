"""What web asks about jobs: limits, idempotency keys, cancelling, following, and what a restart makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from job_server import open_server
from queues import DEADLINE_S, locked, read

from tfserve.db.models import Job as JobRow
from tfserve.errors import DatabaseUnavailable, IdempotencyKeyReused, QueueFull, Stopping, WorkspaceGivenUp
from tfserve.ipc.messages import CancelJob, ClearJob, JobState, JobStatus, PredictJob, ScriptJob, WaitOutput
from tfserve.supervisor.jobs.token_jobs import TooManyJobs


def failure(row: JobRow) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(row.outcome.error)
    return found


# --- limits


async def test_a_queue_with_as_many_waiting_jobs_as_it_takes_refuses_more_but_knows_those_that_it_has(
    database: Path, tmp_path: Path
) -> None:
    async with open_server(database, max_queue=2) as server:
        await server.create()
        await server.begin_waiting(tmp_path / "go")
        kept = await server.submit(idempotency_key="k")
        await server.submit()
        with pytest.raises(QueueFull, match="max_queue"):
            await server.submit()
        again = await server.submit(idempotency_key="k")
        assert (again.id, again.job) == (kept.id, 1)
        (tmp_path / "go").touch()
        assert await server.all_ended() == ["succeeded"] * 3
        assert (await server.submit()).job == 3, "what was refused has taken no number"


async def test_jobs_that_come_at_once_are_counted_before_they_are_recorded(database: Path, tmp_path: Path) -> None:
    async with open_server(database, max_queue=3) as server:
        await server.create()
        await server.begin_waiting(tmp_path / "go")
        answers = await asyncio.gather(*(server.submit() for _ in range(10)), return_exceptions=True)
        assert [type(each) for each in answers] == [JobStatus] * 3 + [QueueFull] * 7
        (tmp_path / "go").touch()
        assert await server.all_ended() == ["succeeded"] * 4


async def test_jobs_of_a_token_that_come_at_once_are_counted_before_they_are_recorded(
    database: Path, tmp_path: Path
) -> None:
    async with open_server(database, token_jobs=3) as server:
        await server.create()
        await server.begin_waiting(tmp_path / "go")
        answers = await asyncio.gather(*(server.submit(owner="token:1") for _ in range(10)), return_exceptions=True)
        assert [type(each) for each in answers] == [JobStatus] * 3 + [TooManyJobs] * 7
        (tmp_path / "go").touch()
        assert await server.all_ended() == ["succeeded"] * 4
        assert (await server.submit(owner="token:1")).job == 4


async def test_a_queue_with_large_requests_refuses_more(database: Path, tmp_path: Path) -> None:
    async with open_server(database, max_queue_bytes=1000) as server:
        await server.create()
        await server.begin_waiting(tmp_path / "go")
        await server.submit("# " + "x" * 1000)
        with pytest.raises(QueueFull, match="max_queue_bytes"):
            await server.submit()
        (tmp_path / "go").touch()
        await server.all_ended()


async def test_a_workspace_that_was_given_up_or_a_server_that_stops_takes_no_jobs_but_knows_those_that_it_has(
    database: Path,
) -> None:
    async with open_server(database) as server:
        await server.create()
        known = await server.submit(idempotency_key="k", wait_s=DEADLINE_S)
        dispatcher = server.workspaces.get("w").dispatcher
        dispatcher.give_up("its worker died 5 times in a row")
        with pytest.raises(WorkspaceGivenUp, match="its worker died 5 times in a row"):
            await server.submit()
        assert (await server.submit(idempotency_key="k")).id == known.id
        dispatcher.resume()
        server.api.stopping = True
        with pytest.raises(Stopping):
            await server.submit()
        assert await server.job_states() == ["succeeded"]


# --- idempotency keys


async def test_calls_at_once_with_one_key_are_one_job_that_runs_once(database: Path, tmp_path: Path) -> None:
    script = f"with open({str(tmp_path / 'ran')!r}, 'a') as file: print('once', file=file)"
    async with open_server(database) as server:
        await server.create()
        calls = [server.submit(script, idempotency_key="k", wait_s=DEADLINE_S) for _ in range(5)]
        answers = await asyncio.gather(*calls)
        assert {(each.id, each.job, each.state) for each in answers} == {(answers[0].id, 0, JobState.SUCCEEDED)}
        later = await server.submit(script, idempotency_key="k", wait_s=DEADLINE_S)
        assert (later.id, later.state) == (answers[0].id, JobState.SUCCEEDED)
        with pytest.raises(IdempotencyKeyReused, match=r"\(job 0\)"):
            await server.submit("another", idempotency_key="k")
        assert await server.job_states() == ["succeeded"]
    assert (tmp_path / "ran").read_text() == "once\n"


async def test_a_key_is_known_after_a_restart(database: Path) -> None:
    async with open_server(database) as server:
        await server.create()
        first = await server.submit(idempotency_key="k", wait_s=DEADLINE_S)
    async with open_server(database) as server:
        assert (await server.submit(idempotency_key="k")).id == first.id


# --- cancelling and following


async def test_jobs_are_cancelled_while_they_wait_and_while_they_run(database: Path, tmp_path: Path) -> None:
    async with open_server(database) as server:
        await server.create()
        await server.begin_waiting(tmp_path / "go")
        await server.submit()
        for number in (1, 0):
            answer = await server.ask(CancelJob(workspace="w", job=number))
            assert answer is not None
            assert (answer.job, answer.state) == (number, JobState.CANCELLED)
        assert await server.ask(CancelJob(workspace="w", job=0)) is None
        assert await server.job_states() == ["cancelled"] * 2


async def test_a_job_over_its_time_limit_is_ended_with_its_worker_and_the_next_one_runs(
    database: Path, tmp_path: Path
) -> None:
    async with open_server(database) as server:
        await server.create()
        await server.begin_waiting(tmp_path / "go", time_limit_s=1.0)
        await server.submit()
        assert await server.all_ended() == ["failed", "succeeded"]
        assert failure((await server.job_rows())[0])["code"] == "timed_out"


async def test_the_output_of_a_job_can_be_followed_until_it_has_ended(database: Path, tmp_path: Path) -> None:
    async with open_server(database) as server:
        await server.create()
        job = await server.begin_waiting(tmp_path / "go")
        assert await server.ask(WaitOutput(job_id=job.id, offset=0, wait_s=DEADLINE_S)) is False
        waiting = asyncio.ensure_future(server.ask(WaitOutput(job_id=job.id, offset=6, wait_s=DEADLINE_S)))
        await asyncio.sleep(0)
        (tmp_path / "go").touch()
        assert await waiting is True
        assert await server.ask(WaitOutput(job_id=job.id, offset=6, wait_s=DEADLINE_S)) is True


# --- a database that fails


async def test_a_job_that_can_not_be_recorded_is_refused_and_never_runs(database: Path, tmp_path: Path) -> None:
    script = f"Path({str(tmp_path / 'ran')!r}).touch()"
    async with open_server(database) as server:
        await server.create()
        async with locked(database, server.journal):
            with pytest.raises(DatabaseUnavailable, match="locked"):
                await server.submit(script)
        answer = await server.submit(wait_s=DEADLINE_S)
        assert (answer.job, answer.state) == (0, JobState.SUCCEEDED)
        assert not await asyncio.to_thread((tmp_path / "ran").exists)


# --- restarts of the server


async def test_jobs_that_waited_run_in_their_order_after_a_restart_and_a_script_that_ran_is_lost(
    database: Path, tmp_path: Path
) -> None:
    async with open_server(database) as server:
        await server.create()
        await server.begin_waiting(tmp_path / "go")
        for name in "abc":
            await server.submit(f"with open({str(tmp_path / 'ran')!r}, 'a') as file: file.write({name!r})")
    async with open_server(database) as server:
        assert await server.all_ended() == ["lost", *["succeeded"] * 3]
        lost = (await server.job_rows())[0]
        assert "The server was stopped before the job had ended" in failure(lost)["message"]
        dispatcher = server.workspaces.get("w").dispatcher
        assert (dispatcher.last_started, dispatcher.last_finished, dispatcher.finished_count) == (3, 3, 4)
        assert (await server.submit(wait_s=DEADLINE_S)).job == 4
    assert (tmp_path / "ran").read_text() == "abc"


async def test_after_a_kill_of_the_server_scripts_that_ran_are_lost_with_what_they_printed(database: Path) -> None:
    async with open_server(database) as server:
        await server.create()
        await server.submit("print('the last words', flush=True)", wait_s=DEADLINE_S)
    await as_if_killed([("script", "running", 1)])
    async with open_server(database) as server:
        (row,) = await server.job_rows()
        assert row.state == "lost"
        assert (failure(row)["code"], failure(row)["detail"]["last_output"]) == ("lost", "the last words\n")
        assert json.loads(row.outcome.detail) == {"stdout": "the last words\n", "stderr": ""}
        assert row.outcome.result == "false"
        assert (await server.submit(wait_s=DEADLINE_S)).job == 1


async def test_after_a_kill_of_the_server_what_does_no_harm_runs_again_before_all_that_waits_but_only_once(
    database: Path,
) -> None:
    async with open_server(database) as server:
        await server.create()
        for request in (PredictJob(fetches=["x"]), ClearJob(), ScriptJob(clear=False, text="")):
            await server.submit(request=request, wait_s=DEADLINE_S)
    await as_if_killed([("predict", "running", 2), ("clear", "running", 1), ("script", "queued", 0)])
    async with open_server(database) as server:
        assert await server.all_ended() == ["lost", "succeeded", "succeeded"]
        rows = await server.job_rows()
        assert [row.attempts for row in rows] == [2, 2, 1]
        assert rows[0].outcome.result == "null"
        assert rows[1].finished_at <= rows[2].started_at


async def as_if_killed(jobs: list[tuple[str, str, int]]) -> None:
    """Records the jobs as a server leaves them that is killed: kind, state and attempts of each, by their numbers."""

    def write() -> None:
        for number, (kind, state, attempts) in enumerate(jobs):
            row = JobRow.objects.get(number=number)
            row.outcome.delete()
            JobRow.objects.filter(pk=row.pk).update(
                kind=kind, state=state, attempts=attempts, finished_at=None, finished_running_s=None
            )

    await read(write)
