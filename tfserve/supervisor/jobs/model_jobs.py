"""Deferred predictions and batches: recorded at once, then run by the batch process, a limited number at a time.

They are jobs outside the queue of a workspace, because a batch may take hours, and an update of its model must not wait
for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tfserve.config import Settings
from tfserve.db import model_jobs, writes
from tfserve.db.models import ModelJob as Row
from tfserve.errors import Conflict, DatabaseUnavailable, Failure, Overloaded, TFserveError, Unavailable
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import (
    MODEL_KINDS,
    BatchProgress,
    CancelModelJob,
    EncodedRequest,
    JobKind,
    JobState,
    JobStatus,
    Message,
    Outcome,
    RunModelJob,
    StopModelJob,
    SubmitModelJob,
)
from tfserve.ipc.metrics import ModelJobCounts
from tfserve.model_job_files import FOLDER, KEPT_REQUEST_BYTES, REQUEST, read_checkpoint
from tfserve.supervisor.background import BackgroundTasks
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.job import CANCELLED, Job, RunsAfterRestart
from tfserve.supervisor.jobs.journal import Journal, NotRecorded
from tfserve.supervisor.jobs.model_run import (
    ModelRun,
    StartProcess,
    TooManyDeferred,
    TooManyDeferredBytes,
)
from tfserve.supervisor.jobs.token_jobs import TokenJobs
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.web_processes import WebProcess

log = logging.getLogger(__name__)

MAX_DEFERRED_RUNNING = 64
MAX_FRUITLESS = 3
"""Maximum interruptions of a job in a row without a further row. A prediction has none."""
PRUNE_EVERY_S = 3600.0
LOST = Failure(
    code="lost",
    message=f"The job was interrupted {MAX_FRUITLESS} times in a row without progress: the batch process or the server"
    " ended while it ran. See the server's log.",
)


class ModelJobs:
    """All deferred predictions and batches that have not ended."""

    def __init__(
        self, settings: Settings, *, journal: Journal, changed: Signal, token_jobs: TokenJobs,
        start_process: StartProcess,
    ) -> None:  # fmt: skip
        self.jobs: dict[int, Job] = {}
        self._settings = settings
        self._journal = journal
        self._changed = changed
        self._token_jobs = token_jobs
        self._start_process = start_process
        self._folder = settings.data_path / FOLDER
        self._waiting: dict[JobKind, deque[ModelRun]] = {kind: deque() for kind in MODEL_KINDS}
        self._running: dict[int, ModelRun] = {}
        self._limits = {JobKind.DEFERRED: MAX_DEFERRED_RUNNING, JobKind.BATCH: settings.batch_workers}
        self._submitting: Counter[str] = Counter()
        #: jobs that have ended since the server began
        self._outcomes: dict[JobKind, Counter[str]] = {kind: Counter() for kind in MODEL_KINDS}
        self._bytes = 0
        self._process: WebProcess | None = None
        self._line: Connection | None = None
        self._tasks = BackgroundTasks()
        self._stopping = False

    @property
    def handlers(self) -> Mapping[type[Message], Callable[[Any], Coroutine[Any, Any, Any]]]:
        """The handlers of the requests of web and the messages of the batch process."""
        return {SubmitModelJob: self._submit, CancelModelJob: self._cancel, BatchProgress: self._on_progress}

    def counts(self) -> list[ModelJobCounts]:
        """How many of each kind wait, run and have ended."""
        running = Counter(run.job.kind for run in self._running.values())
        return [
            ModelJobCounts(kind, len(waiting), running[kind], dict(self._outcomes[kind]))
            for kind, waiting in self._waiting.items()
        ]

    # --- what web may ask

    async def _submit(self, request: SubmitModelJob) -> JobStatus:
        received_at = time.monotonic()
        recorded = await self._accept(request)
        job = self.jobs.get(recorded.id)
        if job is None:  # its key is known and it has ended: web finds the outcome in the database
            return JobStatus(job=recorded.id, id=recorded.id, kind=request.request.kind, state=recorded.state)
        if request.wait_s > 0:
            await job.wait(request.wait_s)
        return job.status(waited_s=time.monotonic() - received_at)

    async def _accept(self, request: SubmitModelJob) -> writes.Recorded:
        """Records a job, once. The folder of one that is refused, or known already, is removed."""
        try:
            recorded = await self._record_new(request)
        except (Conflict, Unavailable, Overloaded) as error:
            if not isinstance(error, DatabaseUnavailable):  # then it may have been recorded
                await self._remove(request.folder)
            raise
        if recorded.is_new:
            folder = self._folder / request.folder
            self._put(ModelRun(self._new_job(recorded, request), request.model, folder, request.size))
        else:
            await self._remove(request.folder)
        return recorded

    async def _record_new(self, request: SubmitModelJob) -> writes.Recorded:
        try:
            await self._journal.check(partial(self._refuse, request))
        except (Unavailable, Overloaded):  # but a job that was accepted before is still accepted
            found = await self._journal.change(partial(model_jobs.known, request))
            if found is None:
                raise
            return found
        self._submitting[request.folder] = request.size
        try:
            with self._token_jobs.submitting(request.owner):
                return await self._journal.change(partial(model_jobs.submit, request))
        finally:
            del self._submitting[request.folder]

    def _refuse(self, request: SubmitModelJob) -> None:
        if self._stopping:
            raise Unavailable("The server is shutting down and accepts no new work.")
        count = len(self.jobs) + len(self._submitting)
        if count >= self._settings.max_deferred:
            raise TooManyDeferred(count=count)
        size = self._bytes + self._submitting.total()
        if size and size + request.size > self._settings.max_deferred_bytes:
            raise TooManyDeferredBytes(limit=self._settings.max_deferred_bytes)
        self._token_jobs.refuse_when_full(request.owner)

    def _new_job(self, recorded: writes.Recorded, request: SubmitModelJob) -> Job:
        job = self._job(recorded.id, request.request, attempts=0)
        self._token_jobs.add(request.owner, job)
        return job

    async def _cancel(self, request: CancelModelJob) -> JobState | None:
        job = self.jobs.get(request.job_id)
        if job is None:
            return None
        for waiting in self._waiting.values():
            for run in waiting:
                if run.job is job:
                    waiting.remove(run)
                    await self._finish(run, job.ended_by(CANCELLED))
                    return job.state
        job.ending = job.ending or CANCELLED
        if self._line is not None:
            self._line.notify(StopModelJob(job_id=job.id))
        if self._process is not None:
            loop = asyncio.get_running_loop()
            kill = loop.call_later(self._settings.cancel_grace_s, self._process.kill, "a job did not end in time")
            job.ended.add_done_callback(lambda _: kill.cancel())
        await job.wait(None)
        return job.state

    async def _on_progress(self, message: BatchProgress) -> None:
        """Writes the newest progress as often as the disk allows, without a queue of old ones."""
        run = self._running.get(message.job_id)
        if run is None:
            return
        run.unsaved = {
            "done": message.done, "errors": message.errors, "total": message.total,
            "output_bytes": message.output_bytes, "rows_per_s": message.rows_per_s,
        }  # fmt: skip
        run.job.output.grew.fire()
        if run.saving is None:
            run.saving = asyncio.get_running_loop().create_task(self._save(run))

    async def _save(self, run: ModelRun) -> None:
        while run.unsaved is not None:
            progress, run.unsaved = run.unsaved, None
            with contextlib.suppress(TFserveError):  # the next progress makes up for it
                await self._journal.change(partial(model_jobs.save_progress, run.job.id, progress))
            self._changed.fire()
        run.saving = None

    # --- the start and the end of the server

    async def bring_all_back(self) -> None:
        """Queues all jobs that had not ended when the server stopped, and removes folders without a job."""
        for row in await self._journal.change(model_jobs.unfinished):
            run = self._run_of(row)
            if row.job.state == JobState.RUNNING:
                await self._after_death(run)
            else:
                self._put(run)
        known = await self._journal.change(model_jobs.folders)
        await asyncio.to_thread(_remove_unknown, self._folder, known)

    async def prune_regularly(self) -> None:
        """Deletes old jobs and their files once an hour."""
        while True:
            settings = self._settings
            prune = partial(model_jobs.prune, keep_jobs=settings.keep_jobs, keep_days=settings.keep_days)
            with contextlib.suppress(TFserveError):  # the next run does it
                for folder in await self._journal.change(prune):
                    await self._remove(folder)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def close(self) -> None:
        """Ends what runs. It stays recorded as waiting: the next start continues from the last checkpoints."""
        self._stopping = True
        for job in self.jobs.values():
            job.postpone(RunsAfterRestart(job=job.number, id=job.id, name="of models"))
        if self._process is not None:
            await self._process.stop()
        await self._tasks.wait()

    # --- the queue

    def _put(self, run: ModelRun, *, first: bool = False) -> None:
        job = run.job
        if job.id not in self.jobs:
            self.jobs[job.id] = job
            self._bytes += run.size
            job.ended.add_done_callback(lambda _: self._forget(run))
        queue = self._waiting[job.kind]
        queue.insert(0, run) if first else queue.append(run)
        if self._process is None:
            self._process = self._start_process(self._on_ready)
        self._start_next()

    def _on_ready(self, line: Connection) -> None:
        self._line = line
        self._start_next()

    def _start_next(self) -> None:
        if self._stopping or self._line is None:
            return
        for kind, waiting in self._waiting.items():
            for run in self._startable(kind):
                waiting.remove(run)
                self._running[run.job.id] = run
                self._tasks.start(self._run(run, self._line))

    def _startable(self, kind: JobKind) -> list[ModelRun]:
        """Those that may start now. One model gets half of the places, so that one that is loading leaves the rest."""
        limit = self._limits[kind]
        of_model = max(1, limit // 2)
        running = Counter(run.model for run in self._running.values() if run.job.kind == kind)
        found = []
        for run in self._waiting[kind]:
            if running.total() >= limit:
                break
            if running[run.model] < of_model:
                running[run.model] += 1
                found.append(run)
        return found

    async def _run(self, run: ModelRun, line: Connection) -> None:
        job = run.job
        try:
            outcome = await self._outcome(run, line)
            if outcome is None and self._stopping:
                await self._record(run, run.job.step(put_aside=True))
            elif outcome is None:
                await self._after_death(run)
            else:
                await self._finish(run, outcome)
        except NotRecorded as error:  # the server stops: the next start continues the job
            job.postpone(error)
        except Exception:
            log.exception("while running job %s", job.id)
        finally:
            self._start_next()
            self._changed.fire()

    async def _outcome(self, run: ModelRun, line: Connection) -> Outcome | None:
        """How the job ended; None if the batch process died under it."""
        job = run.job
        try:
            await self._record(run, run.job.step(started=True))
            job.started, job.attempts = True, job.attempts + 1
            if job.ending is not None:
                return job.ended_by(job.ending)
            return (await line.ask(RunModelJob(job_id=job.id, request=job.request, folder=str(run.folder)))).outcome
        except ConnectionLost:
            if self._line is line:
                self._line = None
            return None if job.ending is None else job.ended_by(job.ending)
        except NotRecorded:  # the server stops: the next start continues the job
            raise
        except TFserveError as error:
            return Outcome.failed(error.to_failure(), result=job.no_result)
        finally:
            if run.saving is not None:  # the last progress belongs to the outcome
                await run.saving
            del self._running[job.id]

    async def _after_death(self, run: ModelRun) -> None:
        """Queues the job again, unless it has been interrupted too often without progress."""
        rows = (await asyncio.to_thread(read_checkpoint, run.folder)).rows
        note = partial(model_jobs.interrupted, run.job.id, rows)
        if await self._journal.insist(note, f"job {run.job.id}") >= MAX_FRUITLESS:
            await self._finish(run, Outcome.failed(LOST, state=JobState.LOST, result=run.job.no_result))
            return
        await self._record(run, run.job.step(requeued=True))
        run.job.started = False
        self._put(run, first=True)

    async def _finish(self, run: ModelRun, outcome: Outcome) -> None:
        await self._record(run, run.job.step(outcome=outcome))
        if not run.job.ended.done():
            run.job.ended.set_result(outcome)
        run.job.output.grew.fire()
        self._outcomes[run.job.kind][outcome.state] += 1
        self._changed.fire()
        if run.size > KEPT_REQUEST_BYTES:
            with contextlib.suppress(OSError):
                await asyncio.to_thread((run.folder / REQUEST).unlink, missing_ok=True)

    async def _record(self, run: ModelRun, step: writes.QueueStep) -> None:
        """Returns when it is on disk."""
        await self._journal.insist(step, f"job {run.job.id}")

    # --- parts

    def _run_of(self, row: Row) -> ModelRun:
        request = EncodedRequest(JobKind(row.job.kind), (row.job.request or "{}").encode())
        job = self._job(row.job.pk, request, row.job.attempts)
        return ModelRun(job, row.model, self._folder / row.folder, row.size)

    def _job(self, job_id: int, request: EncodedRequest, attempts: int) -> Job:
        output = JobOutput(self._folder / "no-output", 0)  # only its signal is used
        return Job(id=job_id, number=job_id, request=request, attempts=attempts, output=output)

    def _forget(self, run: ModelRun) -> None:
        self.jobs.pop(run.job.id, None)
        self._bytes -= run.size

    async def _remove(self, folder: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / folder, ignore_errors=True)


def _remove_unknown(parent: Path, known: set[str]) -> None:
    """Folders of requests that were never recorded."""
    if parent.is_dir():
        for folder in parent.iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
