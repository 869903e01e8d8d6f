"""The one writer: what it acknowledges is on the disk, writes share a commit, and a failing database comes back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from queues import full, locked, open_journal, read, sql, until

from tfserve.db import writes as records
from tfserve.db.database import DatabaseLost
from tfserve.db.models import Job as JobRow
from tfserve.db.models import Workspace
from tfserve.errors import DatabaseUnavailable, IdempotencyKeyReused, Internal, Invalid, NoSuchWorkspace, OutOfSpace
from tfserve.ipc.messages import EncodedRequest, JobKind, JobState, Outcome, SubmitJob
from tfserve.supervisor.jobs import journal as journal_module
from tfserve.supervisor.jobs.journal import Journal, NotRecorded
from tfserve.supervisor.jobs.training_run import TooManyTasks

pytestmark = pytest.mark.usefixtures("database")


@contextlib.asynccontextmanager
async def held(journal: Journal) -> AsyncIterator[None]:
    """Within, the journal is busy with one write: whatever else is asked for waits."""
    busy, release = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        release.wait(20)

    writing = asyncio.ensure_future(journal.change(work))
    assert await asyncio.to_thread(busy.wait, 20)
    try:
        yield
    finally:
        release.set()
        await writing


def put_aside(database: Path, aside: Path, *, is_replaced: bool) -> None:
    database.rename(aside)
    if is_replaced:
        database.write_bytes(b"")


async def create_workspace(journal: Journal, name: str = "w") -> int:
    return int((await journal.change(partial(records.create_workspace, name, 0))).pk)


def submission(
    workspace_id: int, request: bytes = b"{}", *, started: bool = False, **fields: Any
) -> records.Submission:
    job = SubmitJob(workspace="w", request=EncodedRequest(JobKind.SCRIPT, request), **fields)
    return records.Submission(workspace_id, job, started)


async def numbers(workspace_id: int) -> list[int]:
    found = await read(lambda: list(JobRow.objects.filter(workspace=workspace_id).order_by("pk")))
    return [row.number for row in found]


def trace(journal: Journal, statements: list[str]) -> Callable[[], Any]:
    return lambda: connection.connection.set_trace_callback(statements.append)


# --- what is acknowledged


async def test_what_a_write_returns_returns_when_others_can_read_it() -> None:
    async with open_journal() as journal:
        row = await journal.change(partial(records.create_workspace, "w", 1))
        assert await read(lambda: Workspace.objects.get(pk=row.pk).type) == 1


async def test_a_submission_is_recorded_as_it_came() -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        recorded = await journal.submit(submission(workspace, b'{"text":"x"}', time_limit_s=7.5, started=True))
        assert (recorded.number, recorded.state, recorded.is_new) == (0, JobState.RUNNING, True)
        (row,) = await read(lambda: list(JobRow.objects.filter(pk=recorded.id)))
        assert (row.workspace_id, row.kind, row.state, row.attempts) == (workspace, "script", "running", 1)
        assert (row.request, row.time_limit_s) == ('{"text":"x"}', 7.5)


async def test_all_that_was_requested_is_written_before_the_journal_is_closed() -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        async with held(journal):
            writes = [asyncio.ensure_future(journal.submit(submission(workspace))) for _ in range(20)]
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(journal.close())
        await closing
        assert await numbers(workspace) == list(range(20))
        assert [(await write).number for write in writes] == list(range(20))


# --- numbers


async def test_each_workspace_numbers_its_own_jobs_from_0_in_the_order_in_which_they_came() -> None:
    async with open_journal() as journal:
        first, second = await create_workspace(journal, "a"), await create_workspace(journal, "b")
        async with held(journal):
            recorded = [
                asyncio.ensure_future(journal.submit(submission(workspace)))
                for workspace in (first, second, second, first, second)
            ]
            await asyncio.sleep(0)
        assert [(await each).number for each in recorded] == [0, 0, 1, 1, 2]
        assert (await journal.submit(submission(first))).number == 2


async def test_what_is_refused_takes_no_number() -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        async with held(journal):
            asked = [
                submission(workspace, idempotency_key="k"),
                submission(workspace, b'{"other":1}', idempotency_key="k"),
                submission(workspace + 1),
                submission(workspace),
            ]
            writes = [asyncio.ensure_future(journal.submit(each)) for each in asked]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(each) for each in answers[1:3]] == [IdempotencyKeyReused, NoSuchWorkspace]
        assert isinstance(answers[3], records.Recorded)
        assert answers[3].number == 1
        assert await numbers(workspace) == [0, 1]


async def test_numbers_continue_after_all_jobs_were_forgotten_and_after_a_restart() -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        for _ in range(2):
            recorded = await journal.submit(submission(workspace))
            ended = records.Ended(recorded.id, JobKind.SCRIPT, Outcome(state=JobState.SUCCEEDED))
            await journal.record_step(records.QueueStep(workspace_id=workspace, ended=[ended]))
        assert await journal.change(partial(records.prune, workspace, keep_jobs=0, keep_days=1)) == [0, 1]
        assert (await journal.submit(submission(workspace))).number == 2
    async with open_journal() as journal:
        assert (await journal.submit(submission(workspace))).number == 3


# --- idempotency keys


async def test_a_known_key_with_the_same_request_is_the_same_job_in_one_commit_and_in_another() -> None:
    async with open_journal() as journal:
        workspace, other = await create_workspace(journal), await create_workspace(journal, "other")
        async with held(journal):
            writes = [
                asyncio.ensure_future(journal.submit(submission(workspace, idempotency_key="k"))) for _ in range(3)
            ]
            await asyncio.sleep(0)
        first, *again = [await write for write in writes]
        again.append(await journal.submit(submission(workspace, idempotency_key="k")))
        assert (first.is_new, [each.is_new for each in again]) == (True, [False] * 3)
        assert {each.id for each in again} == {first.id}
        assert (await journal.submit(submission(other, idempotency_key="k"))).is_new, "keys belong to a workspace"
        assert (await journal.change(partial(records.known, submission(workspace, idempotency_key="k")))) == again[-1]
        assert await journal.change(partial(records.known, submission(workspace, idempotency_key="new"))) is None
        assert await journal.change(partial(records.known, submission(workspace))) is None


async def test_a_known_key_with_another_request_is_refused_with_the_job_that_has_it() -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        await journal.submit(submission(workspace))
        await journal.submit(submission(workspace, idempotency_key="k"))
        other = submission(workspace, b'{"a":1}', idempotency_key="k")
        for write in (journal.submit(other), journal.change(partial(records.known, other))):
            with pytest.raises(IdempotencyKeyReused, match=r"'k' was already used in workspace 'w' for a different"):
                await write


async def test_a_known_key_reports_the_state_that_its_job_has_by_now() -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        recorded = await journal.submit(submission(workspace, idempotency_key="k"))
        ended = records.Ended(recorded.id, JobKind.SCRIPT, Outcome(state=JobState.FAILED))
        await journal.record_step(records.QueueStep(workspace_id=workspace, ended=[ended]))
        again = await journal.submit(submission(workspace, idempotency_key="k"))
        assert (again.id, again.state, again.is_new) == (recorded.id, JobState.FAILED, False)


# --- group commit


async def test_what_comes_while_a_commit_is_under_way_shares_the_next_one() -> None:
    statements: list[str] = []
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        await journal.change(trace(journal, statements))
        async with held(journal):
            statements.clear()
            writes = [asyncio.ensure_future(journal.submit(submission(workspace))) for _ in range(100)]
            await asyncio.sleep(0)
        recorded = [await write for write in writes]
        await journal.change(lambda: connection.connection.set_trace_callback(None))
        assert [each.number for each in recorded] == list(range(100))
        commits = [each for each in statements if each == "COMMIT"]
        assert len(commits) == 2, "that of the write that held it up, and one for the hundred"


async def test_a_commit_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "MAX_GROUP", 10)
    statements: list[str] = []
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        await journal.change(trace(journal, statements))
        async with held(journal):
            statements.clear()
            writes = [asyncio.ensure_future(journal.submit(submission(workspace))) for _ in range(25)]
            await asyncio.sleep(0)
        assert [(await write).number for write in writes] == list(range(25))
        assert len([each for each in statements if each == "COMMIT"]) == 4
        await journal.change(lambda: connection.connection.set_trace_callback(None))


async def test_a_write_that_fails_leaves_the_others_in_its_commit_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fault() -> None:
        records.create_workspace("half", 0)
        raise ZeroDivisionError("a fault")

    def refused() -> None:
        raise Invalid("no")

    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        async with held(journal):
            writes: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(journal.submit(submission(workspace))),
                asyncio.ensure_future(journal.change(fault)),
                asyncio.ensure_future(journal.change(refused)),
                asyncio.ensure_future(journal.submit(submission(workspace))),
                asyncio.ensure_future(journal.change(partial(records.create_workspace, "w", 0))),
            ]
            await asyncio.sleep(0)
        answers = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(each) for each in answers] == [records.Recorded, Internal, Invalid, records.Recorded, Internal]
        assert await numbers(workspace) == [0, 1]
        names = await read(lambda: list(Workspace.objects.values_list("name", flat=True)))
        assert names == ["w"], "half a write is not written"
    assert "ZeroDivisionError: a fault" in caplog.text


# --- a queue's steps


async def test_the_steps_of_several_queues_are_recorded_together() -> None:
    async with open_journal() as journal:
        workspaces = [await create_workspace(journal, name) for name in "abc"]
        jobs = [await journal.submit(submission(each, started=True)) for each in workspaces]
        following = [await journal.submit(submission(each)) for each in workspaces]
        ended = [records.Ended(each.id, JobKind.SCRIPT, Outcome(state=JobState.SUCCEEDED)) for each in jobs]
        steps = [
            records.QueueStep(
                workspace_id=workspaces[0],
                ended=[ended[0]],
                started=[following[0].id],
                variables=(b'{"a":1}', b'{"a":{"type":"int"}}'),
            ),
            records.QueueStep(workspace_id=workspaces[1], requeued=[jobs[1].id]),
            records.QueueStep(workspace_id=workspaces[2], put_aside=[jobs[2].id]),
        ]
        await asyncio.gather(*(journal.record_step(step) for step in steps))
        rows = await read(lambda: list(JobRow.objects.order_by("workspace", "number")))
        assert [(row.state, row.attempts, row.started_at is not None) for row in rows] == [
            ("succeeded", 1, True), ("running", 1, True),
            ("queued", 1, False), ("queued", 0, False),
            ("queued", 0, False), ("queued", 0, False),
        ]  # fmt: skip


# --- a database that fails


async def test_a_locked_database_refuses_writes_and_takes_them_again_when_it_is_free(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        assert await journal.is_ready()
        async with locked(database, journal):
            for _ in range(2):
                with pytest.raises(DatabaseUnavailable, match="locked"):
                    await journal.submit(submission(workspace))
            assert not await journal.is_ready()
        assert (await journal.submit(submission(workspace))).number == 0
        assert await journal.is_ready()
    trouble = [record.getMessage() for record in caplog.records if record.name == "tfserve.supervisor.jobs.journal"]
    assert len(trouble) == 2, "one line when it begins and one when it is over"
    assert trouble[1] == "the database can be used again"


async def test_the_question_whether_it_is_ready_notices_an_outage_and_its_end_by_itself(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "PROBED_S", 0.0)
    async with open_journal() as journal:
        assert await journal.is_ready()
        async with locked(database, journal):
            assert not await journal.is_ready()
        assert await journal.is_ready()


async def test_a_database_that_does_not_answer_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PROBE_S", 0.02)
    async with open_journal() as journal, held(journal):
        assert not await journal.is_ready()


async def test_a_full_disk_refuses_what_does_not_fit_and_says_so_for_a_while(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(journal_module, "TROUBLE_S", 0.2)
    large = b'{"text":"' + b"x" * 200_000 + b'"}'
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        async with full(journal):
            async with held(journal):
                writes = [asyncio.ensure_future(journal.submit(submission(workspace, each))) for each in (large, b"{}")]
                await asyncio.sleep(0)
            answers = await asyncio.gather(*writes, return_exceptions=True)
            assert isinstance(answers[0], OutOfSpace)
            assert "database or disk is full" in answers[0].message
            assert isinstance(answers[1], records.Recorded)
            assert answers[1].number == 0, "what fits is taken"
            assert not await journal.is_ready()
        assert (await journal.submit(submission(workspace, large))).number == 1
        trouble_ends = time.monotonic() + 0.2
        await until(lambda: time.monotonic() > trouble_ends)
        assert await journal.is_ready()


@pytest.mark.parametrize("what", ["deleted", "replaced"])
async def test_nothing_is_acknowledged_while_the_database_is_another_file(database: Path, what: str) -> None:
    aside = database.with_name("aside")
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        put_aside(database, aside, is_replaced=what == "replaced")
        with pytest.raises(DatabaseLost, match=f"was {what} while the server was running"):
            await journal.submit(submission(workspace))
        assert not await journal.is_ready()
        aside.rename(database)
        await journal.submit(submission(workspace))
        assert await journal.is_ready()


@pytest.mark.parametrize("is_start", [True, False])
async def test_a_step_that_was_written_before_it_was_acknowledged_is_written_once(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_start: bool
) -> None:
    monkeypatch.setattr(journal_module, "RECORD_AGAIN_S", 0.01)
    aside = database.with_name("aside")
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        job_id = (await journal.submit(submission(workspace, started=not is_start))).id
        ended = records.Ended(job_id, JobKind.SCRIPT, Outcome(state=JobState.SUCCEEDED, result=b"7"))
        step = records.QueueStep(workspace_id=workspace, started=[job_id] * is_start, ended=[] if is_start else [ended])
        put_aside(database, aside, is_replaced=False)
        insisting = asyncio.ensure_future(journal.insist(step, "the job"))
        await until(lambda: "the job waits until it can be recorded" in caplog.text)
        aside.rename(database)
        async with asyncio.timeout(5):
            await insisting
        row = await read(lambda: JobRow.objects.get(pk=job_id))
        assert (row.state, row.attempts) == ("running" if is_start else "succeeded", 1)
        if not is_start:
            assert (await read(lambda: JobRow.objects.select_related("outcome").get(pk=job_id).outcome.result)) == "7"


async def test_a_wrong_statement_is_a_fault_of_ours_and_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    async with open_journal() as journal:
        workspace = await create_workspace(journal)
        ended = records.Ended(99, JobKind.SCRIPT, Outcome(state=JobState.SUCCEEDED))
        with pytest.raises(Internal):
            await journal.record_step(records.QueueStep(workspace_id=workspace, ended=[ended]))
        assert await journal.is_ready()
    assert "a write to the database failed" in caplog.text


# --- what must be recorded before anything goes on


async def test_what_insists_is_written_when_the_database_is_back(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "RECORD_AGAIN_S", 0.01)
    async with open_journal() as journal:
        async with locked(database, journal):
            insisting = asyncio.ensure_future(
                journal.insist(partial(records.create_workspace, "w", 0), "the workspace")
            )
            await until(lambda: "the workspace waits until it can be recorded" in caplog.text)
            assert not insisting.done()
        await insisting
        assert await read(Workspace.objects.count) == 1
    assert caplog.text.count("waits until it can be recorded") == 1


async def test_what_insists_gives_up_when_the_server_has_waited_long_enough(database: Path) -> None:
    async with open_journal() as journal:
        async with locked(database, journal):
            journal.give_up_after(0.05)
            with pytest.raises(NotRecorded, match="the workspace could not be recorded before the server stopped"):
                await journal.insist(partial(records.create_workspace, "w", 0), "the workspace")
        assert await journal.change(lambda: sql("SELECT count(*) FROM control_workspace")) == 0


async def test_whoever_gives_up_waiting_for_a_write_disturbs_nobody() -> None:
    async with open_journal() as journal:
        async with held(journal):
            writing = asyncio.ensure_future(journal.change(partial(records.create_workspace, "w", 0)))
            await asyncio.sleep(0)
            writing.cancel()
        assert await create_workspace(journal, "v")
        assert await read(Workspace.objects.count) == 2


async def test_a_limit_counts_only_once_all_written_ends_are_known() -> None:
    async with open_journal() as journal:
        running = ["a", "b"]
        ended = asyncio.get_running_loop().create_future()
        ended.add_done_callback(lambda _: running.remove("a"))

        def refuse(limit: int) -> None:
            if len(running) >= limit:
                raise TooManyTasks(limit=limit)

        async def end() -> None:
            await journal.change(lambda: None)
            ended.set_result(None)

        async with held(journal):
            ending = asyncio.ensure_future(end())
            checks = [asyncio.ensure_future(journal.check(partial(refuse, limit))) for limit in (2, 1)]
            await until(lambda: not journal._entries.empty())
        passed, refused = await asyncio.gather(*checks, return_exceptions=True)
        assert passed is None
        assert isinstance(refused, TooManyTasks)
        await ending
