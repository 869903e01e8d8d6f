"""The order in which deferred predictions and batches start, with a batch process that the test plays."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from queues import locked, open_journal, until

from tfserve.config import Settings
from tfserve.errors import Conflict, Overloaded
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import (
    BatchJob,
    CancelModelJob,
    DeferredJob,
    JobState,
    JobStatus,
    ModelJobEnded,
    Outcome,
    RunModelJob,
    StopModelJob,
    SubmitModelJob,
)
from tfserve.model_job_files import CHECKPOINT, Checkpoint
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.journal import NotRecorded
from tfserve.supervisor.jobs.model_jobs import ModelJobs
from tfserve.supervisor.jobs.model_run import ModelRun
from tfserve.supervisor.jobs.token_jobs import TokenJobs

DEFERRED = DeferredJob(protocol="v1", path="/v1/models/m:predict")
BATCH = BatchJob(model="m", input="/rows.jsonl", format="jsonl")
DONE = ModelJobEnded(outcome=Outcome(state=JobState.SUCCEEDED, result=b"1"))
CANCELLED = ModelJobEnded(outcome=Outcome(state=JobState.CANCELLED, result=b"null"))


class Process:
    """The batch process: it keeps the jobs that it was sent until the test ends them."""

    def __init__(self) -> None:
        self.running: dict[int, asyncio.Future[ModelJobEnded]] = {}
        self.connection: Connection
        self.lines: list[Connection] = []

    async def start(self, on_ready: Callable[[Connection], None]) -> None:
        ours, theirs = socket.socketpair()
        self.connection = await Connection.open(theirs, self._received)
        self.lines.append(await Connection.open(ours))
        on_ready(self.lines[-1])

    async def _received(self, message: Any) -> Any:
        if isinstance(message, StopModelJob):
            self.running.pop(message.job_id).set_result(CANCELLED)
            return None
        assert isinstance(message, RunModelJob)
        self.running[message.job_id] = asyncio.get_running_loop().create_future()
        return await self.running[message.job_id]

    async def die(self) -> None:
        """Ends as if it was killed: no response arrives."""
        self.connection.close()
        await self.connection.lost
        for response in self.running.values():
            response.set_result(DONE)
        self.running.clear()

    def succeed(self, job_id: int) -> None:
        self.running.pop(job_id).set_result(DONE)

    async def stop(self) -> None:
        if self.lines:
            await self.die()

    def kill(self, because: str) -> None:
        raise AssertionError(because)


class Server:
    """Model jobs on a database of the test's own."""

    def __init__(self, settings: Settings, journal: Any) -> None:
        self.settings = settings
        self.journal = journal
        self.process = Process()
        self.begin: Callable[[Connection], None]
        self.jobs = ModelJobs(
            settings, journal=journal, changed=Signal(), token_jobs=TokenJobs(5), start_process=self._start
        )

    def _start(self, on_ready: Callable[[Connection], None]) -> Process:
        self.begin = on_ready
        return self.process

    async def submit(self, request: Any = DEFERRED, *, model: str = "m", **fields: Any) -> JobStatus:
        folder = f"{model}{len(list(self.folder.glob('*')))}"
        (self.folder / folder).mkdir(parents=True)
        message = SubmitModelJob(model=model, request=request.encode(), folder=folder, **fields)
        status: JobStatus = await self.jobs.handlers[SubmitModelJob](message)
        return status

    @property
    def folder(self) -> Path:
        return self.settings.data_path / "model-jobs"

    async def running(self, *statuses: JobStatus) -> None:
        await until(lambda: set(self.process.running) == {each.id for each in statuses})


@asynccontextmanager
async def open_server(database: Path, **settings: Any) -> AsyncIterator[Server]:
    async with open_journal() as journal:
        server = Server(Settings(data_dir=str(database.parent), **settings), journal)
        await server.jobs.bring_all_back()
        try:
            yield server
        finally:
            await server.jobs.close()


async def test_one_model_gets_half_of_the_places(database: Path) -> None:
    async with open_server(database) as server:
        batches = [await server.submit(BATCH, model=model) for model in ("a", "a", "b", "b")]
        await server.process.start(server.begin)
        await server.running(batches[0], batches[2])
        server.process.succeed(batches[2].id)
        await server.running(batches[0], batches[3])
        assert [each.running for each in server.jobs.counts()] == [0, 2]


async def test_what_was_running_when_the_process_died_runs_again_first_and_three_times_at_most(database: Path) -> None:
    async with open_server(database) as server:
        first, second = [await server.submit() for _ in range(2)]
        for _ in range(3):
            await server.process.start(server.begin)
            await server.running(first, second)
            await server.process.die()
            await until(lambda: server.jobs.counts()[0].waiting == 2 or not server.jobs.jobs)
        assert server.jobs.counts()[0].ended == {"lost": 2}
        assert server.jobs.jobs == {}


async def test_a_batch_that_gets_further_is_interrupted_any_number_of_times(database: Path) -> None:
    async with open_server(database) as server:
        batch = await server.submit(BATCH)
        for rows in range(1, 6):
            await server.process.start(server.begin)
            await server.running(batch)
            (server.folder / "m0" / CHECKPOINT).write_bytes(msgspec.json.encode(Checkpoint(rows=rows)))
            await server.process.die()
            await until(lambda: server.jobs.counts()[1].waiting == 1)
        assert server.jobs.counts()[1].ended == {}


async def test_jobs_continue_with_the_next_server_and_folders_without_a_job_are_removed(database: Path) -> None:
    async with open_server(database) as server:
        jobs = [await server.submit() for _ in range(2)]
        await server.process.start(server.begin)
        await server.running(*jobs)
    (server.folder / "stranger").mkdir()
    async with open_server(database) as server:
        assert not (server.folder / "stranger").exists()
        await server.process.start(server.begin)
        await server.running(*jobs)
        for job in jobs:
            server.process.succeed(job.id)
        await until(lambda: not server.jobs.jobs)


async def test_a_job_whose_start_is_not_recorded_before_the_server_stops_continues_with_the_next_one(
    database: Path,
) -> None:
    async with open_server(database) as server, locked(database, server.journal):
        server.journal.give_up_after(0.05)
        job = server.jobs._job(1, DEFERRED.encode(), attempts=0)
        run = ModelRun(job, "m", server.folder / "m0", 0)
        server.jobs._running[1] = run
        ours, theirs = socket.socketpair()
        with pytest.raises(NotRecorded):
            await server.jobs._outcome(run, await Connection.open(ours))
        theirs.close()


async def test_waiting_and_running_jobs_can_be_cancelled(database: Path) -> None:
    async with open_server(database) as server:
        running, waiting = [await server.submit(BATCH) for _ in range(2)]
        await server.process.start(server.begin)
        await server.running(running)
        cancel = server.jobs.handlers[CancelModelJob]
        assert await cancel(CancelModelJob(job_id=waiting.id)) == "cancelled"
        assert await cancel(CancelModelJob(job_id=running.id)) == "cancelled"
        assert await cancel(CancelModelJob(job_id=running.id)) is None
        assert await cancel(CancelModelJob(job_id=99)) is None


async def test_limits_of_the_server_and_of_a_token_leave_no_folder(database: Path) -> None:
    async with open_server(database, max_deferred=3, max_deferred_bytes=100) as server:
        await server.submit(size=90)
        with pytest.raises(Overloaded, match="max_deferred_bytes"):
            await server.submit(size=20)
        known = await server.submit(owner="token:1", idempotency_key="k")
        await server.submit(owner="token:1")
        with pytest.raises(Overloaded, match=r"max_deferred\)"):
            await server.submit()
        again = await server.submit(owner="token:1", idempotency_key="k")
        assert again.id == known.id
        assert len(list(server.folder.iterdir())) == 3


async def test_a_key_belongs_to_its_owner_and_its_request(database: Path) -> None:
    async with open_server(database) as server:
        first = await server.submit(owner="a", idempotency_key="k", content_digest="1")
        other = await server.submit(owner="b", idempotency_key="k", content_digest="2")
        assert first.id != other.id
        with pytest.raises(Conflict, match="already used"):
            await server.submit(owner="a", idempotency_key="k", content_digest="2")
        assert len(list(server.folder.iterdir())) == 2
