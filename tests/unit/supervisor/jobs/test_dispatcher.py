"""The queue of one workspace: what is run when, what is recorded of it, and what those who wait are answered."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest
from queues import (
    GRACE_S,
    SUCCEEDED,
    HeldRunner,
    PromptRunner,
    Queue,
    ended,
    error,
    locked,
    open_queue,
    outcome,
    read,
    until,
)

from tfserve.db.models import Outcome as OutcomeRow
from tfserve.db.models import Snapshot
from tfserve.errors import Invalid, TimedOut, Unavailable
from tfserve.ipc.messages import JobKind, JobState, Outcome
from tfserve.supervisor.jobs import dispatcher, journal
from tfserve.supervisor.jobs.job import DESTROYED, RESTARTED, STOPPED, Job, RunsAfterRestart
from tfserve.supervisor.jobs.journal import NotRecorded

PREDICT, SCRIPT = JobKind.PREDICT, JobKind.SCRIPT
FAILED = Outcome(state=JobState.FAILED, result=b"false", error=b'{"code":"script_error","message":"no"}')

pytestmark = pytest.mark.usefixtures("database")


async def submit(queue: Queue, count: int, kind: JobKind = SCRIPT, request: bytes = b"{}") -> list[Job]:
    return [await queue.submit(kind, request) for _ in range(count)]


# --- order and numbers


async def test_jobs_run_one_at_a_time_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 4)
        for number in range(4):
            call = await runner.next()
            assert call.numbers == [number]
            assert not runner.is_asked
            call.succeed()
        assert await ended(*jobs) == ["succeeded"] * 4
        assert [row.number for row in await queue.rows()] == [0, 1, 2, 3]


async def test_many_jobs_at_once_are_numbered_without_gaps_and_run_in_the_order_of_their_numbers(
    tmp_path: Path,
) -> None:
    runner = PromptRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await asyncio.gather(*(queue.submit(is_idle=False) for _ in range(50)))
        assert await ended(*jobs) == ["succeeded"] * 50
        assert [(await runner.next()).numbers for _ in jobs] == [[number] for number in range(50)]
        assert await read(lambda: [row.result for row in OutcomeRow.objects.order_by("job__number")]) == [
            str(number) for number in range(50)
        ]


async def test_a_job_ends_for_its_caller_and_on_the_disk_before_the_next_one_begins(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        first, second = await submit(queue, 2)
        call = await runner.next()
        assert await queue.states() == ["running", "queued"]
        assert (first.state, second.state) == ("running", "queued")
        call.succeed()
        await runner.next()
        assert first.state == "succeeded"
        assert await queue.states() == ["succeeded", "running"]
        rows = await queue.rows()
        assert rows[0].finished_at is not None
        assert rows[1].started_at is not None


async def test_a_job_that_comes_while_nothing_runs_is_running_as_soon_as_it_is_recorded(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        assert queue.dispatcher.idle
        (job,) = await submit(queue, 1)
        assert await queue.states() == ["running"]
        assert not queue.dispatcher.idle
        (await runner.next()).succeed()
        await ended(job)
        assert (await queue.rows())[0].attempts == 1


async def test_the_queue_knows_what_ran_last_how_much_waits_and_how_jobs_ended(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        taken = queue.dispatcher
        assert (taken.last_started, taken.last_finished) == (-1, -1)
        jobs = [await queue.submit(SCRIPT, b'{"n":1}'), await queue.submit(JobKind.CLEAR, b"{}")]
        call = await runner.next()
        assert (taken.last_started, taken.last_finished, len(taken.waiting)) == (0, -1, 1)
        assert taken.waiting_bytes == len(b'{"n":1}') + len(b"{}")
        call.end(FAILED)
        (await runner.next()).succeed()
        await ended(*jobs)
        assert (taken.last_started, taken.last_finished, taken.finished_count, taken.waiting_bytes) == (1, 1, 2, 0)
        assert taken.outcomes == {(SCRIPT, JobState.FAILED): 1, (JobKind.CLEAR, JobState.SUCCEEDED): 1}


async def test_every_step_is_a_change_for_those_who_watch(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        job = await queue.submit()
        call = await runner.next()
        seen = queue.changed.number
        call.succeed()
        await ended(job)
        assert queue.changed.number > seen


# --- predictions together


async def test_predictions_in_a_row_run_together_and_scripts_keep_their_place_between_them(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        first = await queue.submit()
        jobs = [first, *await submit(queue, 3, PREDICT), *await submit(queue, 1), *await submit(queue, 2, PREDICT)]
        for numbers in ([0], [1, 2, 3], [4], [5, 6]):
            call = await runner.next()
            assert call.numbers == numbers
            states = await queue.states()
            assert [number for number, state in enumerate(states) if state == "running"] == numbers
            call.succeed()
        assert await ended(*jobs) == ["succeeded"] * 7


async def test_a_prediction_with_a_time_limit_or_of_a_dangerous_kind_runs_alone(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 1)
        jobs += [await queue.submit(PREDICT), await queue.submit(PREDICT, time_limit_s=9.0)]
        jobs += [await queue.submit(PREDICT, b'{"alone":1}'), *await submit(queue, 2, PREDICT)]
        for numbers in ([0], [1], [2], [3], [4, 5]):
            call = await runner.next()
            assert call.numbers == numbers
            call.succeed()
        await ended(*jobs)


async def test_predictions_together_are_bounded_in_number_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "MAX_BATCH_JOBS", 3)
    monkeypatch.setattr(dispatcher, "MAX_BATCH_BYTES", 100)
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = [*await submit(queue, 1), *await submit(queue, 4, PREDICT), *await submit(queue, 3, PREDICT, b"x" * 60)]
        for numbers in ([0], [1, 2, 3], [4, 5], [6], [7]):
            call = await runner.next()
            assert call.numbers == numbers
            call.succeed()
        await ended(*jobs)


async def test_predictions_that_their_runner_left_over_run_next_before_all_others(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = [*await submit(queue, 1), *await submit(queue, 4, PREDICT), *await submit(queue, 1)]
        (await runner.next()).succeed()
        call = await runner.next()
        call.end(SUCCEEDED, FAILED)
        for number in (3, 4, 5):
            call = await runner.next()
            assert call.numbers == [number]
            call.succeed()
        assert await ended(*jobs) == ["succeeded", "succeeded", "failed", *["succeeded"] * 3]


# --- what is recorded of an outcome


async def test_what_a_script_printed_and_its_variables_are_recorded_with_its_end(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        job = await queue.submit()
        call = await runner.next()
        job.output.write(1, b"out\n")
        job.output.write(2, b"err\n")
        call.end(Outcome(state=JobState.FAILED, result=b"false", error=FAILED.error, variables=b'{"x":1}'))
        found = await outcome(job)
        assert found.detail == b'{"stdout":"out\\n","stderr":"err\\n"}'
        status = job.status(waited_s=0.5)
        assert (status.job, status.id, status.kind, status.state) == (0, job.id, SCRIPT, JobState.FAILED)
        assert status.waited_s == 0.5
        assert status.outcome is not None
        assert (status.outcome.result, status.outcome.variables) == (b"false", b'{"x":1}')
        row = await read(lambda: OutcomeRow.objects.get(job=job.id))
        assert (row.result, row.detail, row.error) == ("false", found.detail.decode(), FAILED.error.decode())
        assert await read(lambda: Snapshot.objects.get(workspace=queue.id).variables) == '{"x":1}'


async def test_a_prediction_is_recorded_without_its_request_which_may_be_large(tmp_path: Path) -> None:
    runner = PromptRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = [await queue.submit(kind, b'{"a":1}') for kind in (SCRIPT, PREDICT)]
        await ended(*jobs)
        assert [row.request for row in await queue.rows()] == ['{"a":1}', None]


# --- errors of a runner


async def test_what_a_runner_refuses_is_the_error_of_the_job_and_the_next_one_continues(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        script, prediction, following = [await queue.submit(kind) for kind in (SCRIPT, PREDICT, SCRIPT)]
        for _ in range(2):
            (await runner.next()).fail(Invalid("x: a number was expected"))
        (await runner.next()).succeed()
        assert await ended(script, prediction, following) == ["failed", "failed", "succeeded"]
        found = await outcome(script)
        assert error(found) == {"code": "invalid", "message": "x: a number was expected"}
        assert (found.result, (await outcome(prediction)).result) == (b"false", b"null")


async def test_a_fault_in_a_runner_fails_its_jobs_is_logged_and_the_next_one_continues(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 2)
        (await runner.next()).fail(ZeroDivisionError("a fault"))
        (await runner.next()).succeed()
        assert await ended(*jobs) == ["failed", "succeeded"]
        assert error(await outcome(jobs[0]))["code"] == "internal"
        assert await queue.states() == ["failed", "succeeded"]
    assert "ZeroDivisionError: a fault" in caplog.text


# --- deaths


async def test_a_script_whose_worker_dies_is_lost_with_the_truth_about_it_and_the_next_one_continues(
    tmp_path: Path,
) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 2)
        (await runner.next()).die(signal.SIGSEGV, last_lines="Fatal Python error")
        (await runner.next()).succeed()
        assert await ended(*jobs) == ["lost", "succeeded"]
        failure = error(await outcome(jobs[0]))
        assert failure["code"] == "lost"
        assert "SIGSEGV" in failure["message"]
        assert failure["detail"] == {
            "signal": "SIGSEGV", "exit_code": None, "peak_memory_bytes": 2**20, "last_output": "Fatal Python error",
        }  # fmt: skip
        assert (await outcome(jobs[0])).result == b"false"


async def test_a_job_that_does_no_harm_is_run_a_second_time_after_a_death_but_not_a_third(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = [await queue.submit(JobKind.DEPLOY), await queue.submit()]
        for _ in range(2):
            call = await runner.next()
            assert call.numbers == [0]
            call.die()
        (await runner.next()).succeed()
        assert await ended(*jobs) == ["lost", "succeeded"]
        assert [row.attempts for row in await queue.rows()] == [2, 1]


async def test_predictions_in_a_death_run_again_one_by_one_so_that_the_guilty_one_is_found(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = [*await submit(queue, 1), *await submit(queue, 3, PREDICT)]
        (await runner.next()).succeed()
        call = await runner.next()
        assert call.numbers == [1, 2, 3]
        call.die()
        for number in (1, 2, 3):
            call = await runner.next()
            assert call.numbers == [number]
            call.die() if number == 2 else call.succeed()
        assert await ended(*jobs) == ["succeeded", "succeeded", "lost", "succeeded"]


async def test_a_workspace_whose_worker_dies_too_often_is_given_up_until_it_is_resumed(tmp_path: Path) -> None:
    runner = HeldRunner(max_deaths=2)
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 3)
        for _ in range(2):
            (await runner.next()).die(signal.SIGABRT)
        assert await ended(*jobs[:2]) == ["lost", "lost"]
        reason = queue.dispatcher.given_up_reason
        assert reason is not None
        assert reason.startswith("its worker died too often; the last time it was killed by SIGABRT")
        jobs.append(await queue.submit())
        assert not queue.dispatcher.idle
        await read(lambda: None)  # time in which it might begin something
        assert not runner.is_asked
        assert await queue.states() == ["lost", "lost", "queued", "queued"]
        queue.dispatcher.resume()
        for _ in range(2):
            (await runner.next()).succeed()
        assert await ended(*jobs[2:]) == ["succeeded"] * 2
        assert queue.dispatcher.given_up_reason is None


async def test_a_job_that_ends_well_breaks_the_row_of_deaths(tmp_path: Path) -> None:
    runner = HeldRunner(max_deaths=2)
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 4)
        for dies in (True, False, True, False):
            call = await runner.next()
            call.die() if dies else call.succeed()
        assert await ended(*jobs) == ["lost", "succeeded", "lost", "succeeded"]


# --- cancelling


async def test_a_job_that_waits_is_cancelled_without_being_run(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 3)
        call = await runner.next()
        assert await queue.dispatcher.end(1) is jobs[1]
        assert jobs[1].state == "cancelled"
        assert await queue.states() == ["running", "cancelled", "queued"]
        call.succeed()
        call = await runner.next()
        assert call.numbers == [2]
        call.succeed()
        assert await ended(*jobs) == ["succeeded", "cancelled", "succeeded"]
        assert (await queue.rows())[1].attempts == 0
        assert error(await outcome(jobs[1])) == {"code": "cancelled", "message": "The job was cancelled."}
        assert (await outcome(jobs[1])).detail is None, "it has printed nothing"


async def test_a_running_job_that_obeys_is_cancelled_and_its_worker_lives_on(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        (job,) = await submit(queue, 1)
        await runner.next()
        assert await queue.dispatcher.end(0) is job
        assert (runner.interrupted, runner.killed) == ([0], [])
        assert await queue.states() == ["cancelled"]
        assert error(await outcome(job))["message"] == "The job was cancelled."


async def test_a_running_job_that_does_not_obey_ends_with_its_worker_after_the_grace_time(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 2)
        await runner.next()
        assert await queue.dispatcher.end(0) is jobs[0]
        assert runner.killed == ["The job was cancelled."]
        (await runner.next()).succeed()
        assert await ended(*jobs) == ["cancelled", "succeeded"]
        assert runner.deaths == 0, "a death that was asked for does not count"


async def test_a_job_that_ends_well_although_it_is_being_cancelled_has_succeeded(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path, grace_s=30) as queue:
        (job,) = await submit(queue, 1)
        call = await runner.next()
        cancelling = asyncio.ensure_future(queue.dispatcher.end(0))
        await until(lambda: runner.interrupted)
        call.succeed()
        assert await cancelling is job
        assert (await outcome(job)).state == "succeeded"


async def test_a_thread_that_does_not_end_is_reported_of_and_its_job_is_cancelled_when_it_does(tmp_path: Path) -> None:
    runner = HeldRunner(can_kill=False, obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 2)
        call = await runner.next()
        with pytest.raises(TimedOut, match=f"not ended within {GRACE_S:g} seconds"):
            await queue.dispatcher.end(0)
        assert jobs[0].state == "running"
        assert not runner.killed
        call.end(FAILED)
        assert await ended(jobs[0]) == ["cancelled"]
        (await runner.next()).succeed()
        assert await ended(jobs[1]) == ["succeeded"]


async def test_a_job_that_has_ended_or_never_was_is_nothing_to_cancel(tmp_path: Path) -> None:
    async with open_queue(PromptRunner(), tmp_path) as queue:
        await ended(*await submit(queue, 1))
        assert await queue.dispatcher.end(0) is None
        assert await queue.dispatcher.end(7) is None


async def test_predictions_that_shared_the_process_of_a_cancelled_one_run_again(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    runner.is_harmless = lambda _: False
    async with open_queue(runner, tmp_path) as queue:
        jobs = [*await submit(queue, 1), *await submit(queue, 3, PREDICT)]
        (await runner.next()).succeed()
        await runner.next()
        assert await queue.dispatcher.end(2) is jobs[2]
        for number in (1, 3):
            call = await runner.next()
            assert call.numbers == [number]
            call.succeed()
        assert await ended(*jobs) == ["succeeded", "succeeded", "cancelled", "succeeded"]


# --- time limits


async def test_a_job_that_runs_longer_than_its_limit_fails_and_the_next_one_continues(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = [await queue.submit(time_limit_s=0.02), await queue.submit()]
        await runner.next()
        (await runner.next()).succeed()
        assert await ended(*jobs) == ["failed", "succeeded"]
        found = error(await outcome(jobs[0]))
        assert found == {"code": "timed_out", "message": "The job ran longer than its time limit of 0.02 seconds."}
        assert (runner.interrupted, runner.killed) == ([0], [])


async def test_a_job_that_does_not_obey_its_limit_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        job = await queue.submit(time_limit_s=0.02)
        assert await ended(job) == ["failed"]
        assert error(await outcome(job))["code"] == "timed_out"
        assert len(runner.killed) == 1


async def test_the_time_that_a_job_waits_does_not_count_against_its_limit(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        first, limited = await queue.submit(), await queue.submit(time_limit_s=0.2)
        call = await runner.next()
        limit_ended = asyncio.get_running_loop().time() + 0.2
        await until(lambda: asyncio.get_running_loop().time() > limit_ended)
        call.succeed()
        (await runner.next()).succeed()
        assert await ended(first, limited) == ["succeeded"] * 2
        assert not runner.interrupted


# --- holding, restarting, ending the workspace


async def test_a_held_queue_takes_jobs_but_starts_none(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        queue.dispatcher.hold()
        jobs = await submit(queue, 2)
        await read(lambda: None)  # time in which it might begin something
        assert not runner.is_asked
        assert await queue.states() == ["queued"] * 2
        queue.dispatcher.resume()
        for _ in jobs:
            (await runner.next()).succeed()
        assert await ended(*jobs) == ["succeeded"] * 2


async def test_a_restart_ends_all_that_runs_and_leaves_what_waits(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        jobs = [*await submit(queue, 1), *await submit(queue, 2, PREDICT), *await submit(queue, 1)]
        (await runner.next()).succeed()
        await runner.next()
        queue.dispatcher.hold()
        await queue.dispatcher.end_running(RESTARTED)
        assert await ended(*jobs[1:3]) == ["cancelled"] * 2
        assert error(await outcome(jobs[1]))["message"] == "The workspace was restarted."
        assert await queue.states() == ["succeeded", "cancelled", "cancelled", "queued"]
        queue.dispatcher.resume()
        call = await runner.next()
        assert call.numbers == [3]
        call.succeed()


async def test_what_ends_by_itself_within_the_grace_time_of_a_restart_is_left_alone(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        (job,) = await submit(queue, 1)
        call = await runner.next()
        queue.dispatcher.hold()
        ending = asyncio.ensure_future(queue.dispatcher.end_running(RESTARTED, grace_s=20))
        await asyncio.sleep(0)
        call.succeed()
        await ending
        assert (await ended(job), runner.interrupted) == (["succeeded"], [])


async def test_a_thread_that_holds_up_a_restart_is_reported_of(tmp_path: Path) -> None:
    runner = HeldRunner(can_kill=False, obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        await submit(queue, 1)
        call = await runner.next()
        queue.dispatcher.hold()
        with pytest.raises(TimedOut, match="It runs in a thread, which can't be killed"):
            await queue.dispatcher.end_running(RESTARTED)
        call.succeed()


async def test_the_end_of_a_workspace_ends_what_runs_and_starts_nothing_more(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 2)
        await runner.next()
        await queue.dispatcher.close(DESTROYED)
        assert await ended(jobs[0]) == ["cancelled"]
        assert error(await outcome(jobs[0]))["message"] == "The workspace was destroyed."
        assert not jobs[1].ended.done()
        assert not runner.is_asked


# --- the server stops


async def test_when_the_server_stops_what_runs_may_end_and_what_waits_is_reported_when_it_will_run(
    tmp_path: Path,
) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        running, waiting = await submit(queue, 2)
        call = await runner.next()
        hearing = asyncio.ensure_future(waiting.wait(20))
        closing = asyncio.ensure_future(queue.dispatcher.close(STOPPED, grace_s=20))
        with pytest.raises(RunsAfterRestart, match=rf"Job 1 of workspace 'w' \(id {waiting.id}\)"):
            await hearing
        call.succeed()
        await closing
        assert await ended(running) == ["succeeded"]
        assert await queue.states() == ["succeeded", "queued"]
        late = await queue.submit(is_idle=False)
        with pytest.raises(RunsAfterRestart):
            await late.wait(20)
        assert not runner.is_asked


async def test_a_script_that_does_not_end_before_the_server_does_is_lost(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        (job,) = await submit(queue, 1)
        await runner.next()
        await queue.dispatcher.close(STOPPED, grace_s=0.02)
        assert await ended(job) == ["lost"]
        assert "The server was stopped before the job had ended" in error(await outcome(job))["message"]


async def test_what_does_no_harm_twice_runs_again_after_the_restart_when_the_server_ends_before_it(
    tmp_path: Path,
) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        job = await queue.submit(JobKind.DEPLOY)
        await runner.next()
        waiting = asyncio.ensure_future(job.wait(20))
        await queue.dispatcher.close(STOPPED, grace_s=0.02)
        with pytest.raises(RunsAfterRestart):
            await waiting
        assert await queue.states() == ["queued"]


async def test_a_deployment_that_the_end_of_the_server_interrupts_while_it_loads_runs_again(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        job = await queue.submit(JobKind.DEPLOY)
        call = await runner.next()
        closing = asyncio.ensure_future(queue.dispatcher.close(STOPPED, grace_s=0.02))
        await until(lambda: job.ending is STOPPED)
        call.fail(Unavailable("It was ended before the model was ready."))
        await closing
        assert await queue.states() == ["queued"]


async def test_a_prediction_that_only_shared_a_run_with_a_cancelled_one_runs_again(tmp_path: Path) -> None:
    runner = HeldRunner(obeys=False)
    async with open_queue(runner, tmp_path) as queue:
        queue.dispatcher.hold()
        first, second = [await queue.submit(PREDICT, is_idle=False) for _ in range(2)]
        queue.dispatcher.resume()
        call = await runner.next()
        assert call.numbers == [0, 1]
        cancelling = asyncio.ensure_future(queue.dispatcher.end(0))
        await until(lambda: first.ending is not None)
        call.fail(Unavailable("It was ended before the model was ready."))
        again = await runner.next()
        assert again.numbers == [1]
        again.succeed()
        await cancelling
        assert await ended(first, second) == ["cancelled", "succeeded"]


async def test_a_job_that_was_recorded_as_started_but_never_ran_waits_again_when_the_server_stops(
    tmp_path: Path,
) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        queue.dispatcher.hold()
        await queue.submit(is_idle=True)
        assert await queue.states() == ["running"]
        await queue.dispatcher.close(STOPPED)
        assert await queue.states() == ["queued"]


# --- waiting for a job


async def test_a_wait_ends_with_its_time_while_the_job_continues(tmp_path: Path) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        (job,) = await submit(queue, 1)
        call = await runner.next()
        await job.wait(0.01)
        status = job.status(waited_s=0.01)
        assert (status.state, status.outcome) == (JobState.RUNNING, None)
        call.succeed(result=b"7")
        await job.wait(20)
        ended = job.status().outcome
        assert ended is not None
        assert ended.result == b"7"


# --- a database that fails


async def test_an_end_that_can_not_be_recorded_is_reported_to_nobody_until_it_is_and_nothing_is_lost(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal, "RECORD_AGAIN_S", 0.01)
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 2)
        call = await runner.next()
        async with locked(database, queue.journal):
            call.succeed()
            await until(lambda: "workspace w: job 0, 1 waits until it can be recorded" in caplog.text)
            assert not jobs[0].ended.done()
            assert not runner.is_asked
            assert await queue.states() == ["running", "queued"]
        (await runner.next()).succeed()
        assert await ended(*jobs) == ["succeeded"] * 2
        assert await queue.states() == ["succeeded"] * 2


async def test_a_server_that_stops_while_the_database_fails_reports_those_who_wait(
    tmp_path: Path, database: Path
) -> None:
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        running, waiting = await submit(queue, 2)
        call = await runner.next()
        async with locked(database, queue.journal):
            call.succeed()
            queue.journal.give_up_after(0.02)
            with pytest.raises(NotRecorded, match=r"workspace w: job 0, 1 could not be recorded before the server"):
                await running.wait(20)
            await queue.dispatcher.close(STOPPED, grace_s=20)
            with pytest.raises(RunsAfterRestart):
                await waiting.wait(20)
        assert await queue.states() == ["running", "queued"], "the next server sees what to do about them"


async def test_a_cancellation_waits_for_the_database(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "RECORD_AGAIN_S", 0.01)
    runner = HeldRunner()
    async with open_queue(runner, tmp_path) as queue:
        jobs = await submit(queue, 2)
        await runner.next()
        async with locked(database, queue.journal):
            cancelling = asyncio.ensure_future(queue.dispatcher.end(1))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(cancelling), 0.05)
            assert not cancelling.done()
        assert await cancelling is jobs[1]
        assert await queue.states() == ["running", "cancelled"]
