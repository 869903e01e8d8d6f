"""A workspace's queue on a real database, whose jobs are run by the test itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from django.db import connection

from tfserve.db import writes
from tfserve.db.database import Database
from tfserve.db.models import Job as JobRow
from tfserve.db.models import Workspace as WorkspaceRow
from tfserve.ipc.messages import EncodedRequest, JobKind, JobState, Outcome, SubmitJob
from tfserve.supervisor.events import Revision
from tfserve.supervisor.jobs.dispatcher import Dispatcher
from tfserve.supervisor.jobs.job import DESTROYED, Job
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.runner import Runner
from tfserve.supervisor.processes.child import Exit
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.processes.worker import WorkerDied

DEADLINE_S = 20.0
GRACE_S = 0.1
SUCCEEDED = Outcome(state=JobState.SUCCEEDED, result=b"true")

T = TypeVar("T")


async def until(condition: Callable[[], Any]) -> None:
    """Returns when the condition holds."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at, "it has not happened in time"
        await asyncio.sleep(0.005)


class Call:
    """One call of `Runner.run`, which ends as the test says."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self._outcomes: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()

    @property
    def numbers(self) -> list[int]:
        return [job.number for job in self.jobs]

    def succeed(self, **fields: Any) -> None:
        """All jobs succeed."""
        self.end(*[Outcome(state=JobState.SUCCEEDED, **{"result": b"true", **fields})] * len(self.jobs))

    def end(self, *outcomes: Outcome) -> None:
        if not self._outcomes.done():
            self._outcomes.set_result(outcomes)

    def fail(self, error: Exception) -> None:
        if not self._outcomes.done():
            self._outcomes.set_exception(error)

    def die(self, number: int = signal.SIGSEGV, *, because: str | None = None, last_lines: str = "") -> None:
        """The worker that runs the jobs ends."""
        exit_ = Exit(code=None, signal=number, peak_memory_bytes=2**20, lived_s=1.0, killed_because=because)
        self.fail(WorkerDied(exit_, last_lines))

    async def outcomes(self) -> Sequence[Outcome]:
        return await self._outcomes


class HeldRunner:
    """Runs jobs as the test says, call by call. `obeys` says whether a job ends when it is asked to."""

    def __init__(self, *, can_kill: bool = True, obeys: bool = True, max_deaths: int | None = None) -> None:
        self.can_kill = can_kill
        self.interrupted: list[int] = []
        self.killed: list[str] = []
        self.deaths = 0
        self.is_harmless: Callable[[Job], bool] = lambda job: job.may_be_repeated
        self._obeys = obeys
        self._max_deaths = max_deaths
        self._call: Call | None = None
        self._calls: asyncio.Queue[Call] = asyncio.Queue()

    async def next(self) -> Call:
        """The next jobs that are run."""
        return await asyncio.wait_for(self._calls.get(), DEADLINE_S)

    @property
    def is_asked(self) -> bool:
        """Whether jobs are run of which the test has not heard yet."""
        return not self._calls.empty()

    # --- what the dispatcher asks for

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        self._call = Call(jobs)
        self._calls.put_nowait(self._call)
        return await self._call.outcomes()

    def may_repeat(self, job: Job) -> bool:
        return self.is_harmless(job)

    def may_share(self, job: Job) -> bool:
        return b"alone" not in job.request.json

    def worked(self) -> None:
        self.deaths = 0

    def died(self, jobs: Sequence[Job], exit_: Exit) -> str | None:
        self.deaths += 1
        return "its worker died too often" if self.deaths == self._max_deaths else None

    def interrupt(self, job: Job) -> None:
        self.interrupted.append(job.number)
        if self._obeys and self._call is not None:
            self._call.end(*[Outcome(state=JobState.CANCELLED, result=job.no_result)] * len(self._call.jobs))

    def kill(self, because: str) -> None:
        self.killed.append(because)
        if self._call is not None:
            self._call.die(signal.SIGKILL, because=because)


class PromptRunner(HeldRunner):
    """All jobs succeed at once, with their number as result."""

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        self._calls.put_nowait(Call(jobs))
        return [Outcome(state=JobState.SUCCEEDED, result=str(job.number).encode()) for job in jobs]


class Queue:
    """One workspace: it is submitted to as web does, through the journal."""

    def __init__(self, journal: Journal, row: WorkspaceRow, runner: Runner, folder: Path, grace_s: float) -> None:
        self.id, self.name = row.pk, row.name
        self.changed = Revision()
        self.journal = journal
        self.dispatcher = Dispatcher(
            row.pk, name=row.name, journal=journal, runners=dict.fromkeys(JobKind, runner), changed=self.changed,
            grace_s=grace_s,
        )  # fmt: skip
        self._folder = folder

    async def submit(
        self, kind: JobKind = JobKind.SCRIPT, request: bytes = b"{}", *, is_idle: bool | None = None, **fields: Any
    ) -> Job:
        """`is_idle` says what the queue seems to be when the job comes."""
        submission = writes.Submission(
            self.id, SubmitJob(workspace=self.name, request=EncodedRequest(kind, request), **fields),
            started=self.dispatcher.idle if is_idle is None else is_idle,
        )  # fmt: skip
        return self.put(submission, await self.journal.submit(submission))

    def put(self, submission: writes.Submission, recorded: writes.Recorded) -> Job:
        job = Job(
            id=recorded.id, number=recorded.number, request=submission.job.request,
            attempts=int(recorded.is_started), time_limit_s=submission.job.time_limit_s, started=recorded.is_started,
            output=JobOutput(self._folder / f"{recorded.number}.out", 10_000),
        )  # fmt: skip
        self.dispatcher.put(job)
        return job

    async def rows(self) -> list[JobRow]:
        """The jobs as they are recorded."""
        return await read(lambda: list(JobRow.objects.filter(workspace=self.id).order_by("number")))

    async def states(self) -> list[str]:
        return [row.state for row in await self.rows()]


async def ended(*jobs: Job) -> list[JobState]:
    """The states in which the jobs ended."""
    return [(await outcome(job)).state for job in jobs]


async def outcome(job: Job) -> Outcome:
    return await asyncio.wait_for(asyncio.shield(job.ended), DEADLINE_S)


def error(outcome: Outcome) -> Mapping[str, Any]:
    """The failure of an outcome that has one."""
    assert outcome.error is not None
    found: Mapping[str, Any] = json.loads(outcome.error)
    return found


async def read(query: Callable[[], T]) -> T:
    """What another connection reads: it sees what is committed."""

    def work() -> T:
        try:
            return query()
        finally:
            connection.close()

    return await asyncio.to_thread(work)


@contextlib.asynccontextmanager
async def open_journal() -> AsyncIterator[Journal]:
    """The journal of a server on the test's database."""
    journal = Journal(await asyncio.to_thread(Database, "test-of-jobs"))
    try:
        yield journal
    finally:
        journal.give_up_after(0)
        await journal.close()


async def new_queue(
    journal: Journal, runner: Runner, folder: Path, *, name: str = "w", grace_s: float = GRACE_S
) -> Queue:
    row = await journal.change(lambda: writes.create_workspace(name, 0))
    return Queue(journal, row, runner, folder, grace_s)


@contextlib.asynccontextmanager
async def open_queue(runner: Runner, folder: Path, *, grace_s: float = GRACE_S) -> AsyncIterator[Queue]:
    """A queue on the test's database. At the end nothing of it goes on."""
    async with open_journal() as journal:
        queue = await new_queue(journal, runner, folder, grace_s=grace_s)
        try:
            yield queue
        finally:
            await queue.dispatcher.close(DESTROYED)


@contextlib.asynccontextmanager
async def locked(database: Path, journal: Journal) -> AsyncIterator[None]:
    """Within, the journal can't write, because somebody else holds SQLite's lock."""
    await journal.change(lambda: sql("PRAGMA busy_timeout = 10"))
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def sql(statement: str) -> Any:
    """The first value that a statement gives, in the calling thread's connection."""
    with connection.cursor() as cursor:
        row = cursor.execute(statement).fetchone()
        return None if row is None else row[0]


@contextlib.asynccontextmanager
async def full(journal: Journal) -> AsyncIterator[None]:
    """Within, the database can't grow."""
    pages = await journal.change(lambda: sql("PRAGMA page_count"))
    await journal.change(lambda: sql(f"PRAGMA max_page_count = {pages}"))
    try:
        yield
    finally:
        await journal.change(lambda: sql("PRAGMA max_page_count = 1000000"))
