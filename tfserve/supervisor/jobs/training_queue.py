"""Training tasks: checked at once, then run in order, a limited number at a time, each by its own worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from tfserve.config import Settings
from tfserve.db import training_tasks
from tfserve.db.models import TrainingTask as Row
from tfserve.db.task_json import task_json
from tfserve.errors import Failure, TFserveError, Unavailable
from tfserve.ipc.messages import (
    FeedbackKept,
    Interrupt,
    JobState,
    KeepFeedback,
    Outcome,
    StartTraining,
    TrainingEnded,
)
from tfserve.supervisor.background import BackgroundTasks
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.dataset_checks import Examinations
from tfserve.supervisor.jobs.deaths import lost
from tfserve.supervisor.jobs.job import CANCELLED, STOPPED, EndedEarly, Ending, Job
from tfserve.supervisor.jobs.journal import Journal, NotRecorded
from tfserve.supervisor.jobs.training_callbacks import Callbacks
from tfserve.supervisor.jobs.training_journal import TrainingJournal
from tfserve.supervisor.jobs.training_run import (
    FINDINGS,
    SERVER_ENDED,
    WORK,
    FolderInUse,
    FolderReserved,
    NotTraining,
    TooManyTasks,
    TrainingRun,
    done_message,
    make_private,
    new_row,
    result_folder,
    run_of,
    to_train,
    with_kept_weights,
)  # fmt: skip
from tfserve.supervisor.processes.launchers import Spare
from tfserve.supervisor.processes.worker import WorkerDied
from tfserve.training.atomic_files import aside_of
from tfserve.training.dataset import dataset_index, feedback
from tfserve.training.dataset.project_folders import results_folder
from tfserve.training.fit.checkpoint_files import newest_epoch

log = logging.getLogger(__name__)

MAX_FRUITLESS = 3
"""Maximum deaths of a run in a row without a new checkpoint."""
TIMINGS = "training-times.json"
ENDED_BADLY = "ended with an error"
MESSAGES = {JobState.FAILED: ENDED_BADLY, JobState.LOST: ENDED_BADLY, JobState.CANCELLED: "cancelled"}

T = TypeVar("T")


class TrainingQueue:
    """All tasks that wait or run."""

    def __init__(
        self,
        settings: Settings,
        *,
        journal: Journal,
        spare: Spare,
        changed: Signal,
        deploy: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self.jobs: dict[int, Job] = {}
        #: runs that have ended since the server began
        self.outcomes: Counter[JobState] = Counter()
        self._settings = settings
        self._journal = journal
        self._spare = spare
        self._changed = changed
        self._deploy = deploy
        self._records = TrainingJournal(journal, changed)
        self._examinations = Examinations(spare, settings.root_paths)
        self._callbacks = Callbacks(settings.callback_url, self._delivered)
        self._waiting: deque[TrainingRun] = deque()
        self._running: dict[str, TrainingRun] = {}
        #: folders for which a run is being made
        self._reserved: set[str] = set()
        self._tasks = BackgroundTasks()
        self._stopping = False

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> list[TrainingRun]:
        return list(self._running.values())

    # --- what web may ask

    async def start(self, request: StartTraining) -> str:
        """The id of the new task. Raises `Invalid` with every problem of the project, `FolderInUse`, `TooManyTasks`."""
        folder = str(Path(request.project_dir))
        await self._journal.check(partial(self._refuse, folder))
        task_id = secrets.token_hex(8)
        with self._reserve(folder):
            make_private(self._folder(task_id))
            try:
                if request.weights is not None:
                    request = await asyncio.to_thread(with_kept_weights, request, self._folder(task_id))
                found = await self._examinations.examine(request, self._folder(task_id) / FINDINGS)
                row = new_row(task_id, request, found, reported="" if self._settings.callback_url else None)
                create = partial(training_tasks.create, row, request.callback)
                self._put(self._run_of(await self._journal.change(create)))
            except TFserveError:
                shutil.rmtree(self._folder(task_id), ignore_errors=True)
                raise
        return task_id

    async def cancel(self, task_id: str) -> None:
        """Returns when the task has ended. Its last checkpoint is kept."""
        run = self._find(task_id)
        if run is not None:
            await self._end(run, CANCELLED)
        else:
            await self._journal.change(partial(training_tasks.find, task_id))  # refuses an unknown task

    def finish(self, task_id: str) -> None:
        """The training delivers its best model soon. Raises `NotTraining`."""
        if (run := self._find(task_id)) is None:
            raise NotTraining(id=task_id)
        run.finish_early()

    async def resume(self, task_id: str) -> None:
        """Raises `NoSuchTask`, `NotResumable`, `FolderInUse`, `FolderReserved`, `TooManyTasks`."""
        row = await self._journal.change(partial(training_tasks.find, task_id))
        await self._journal.check(partial(self._refuse_unended, task_id))
        await self._journal.check(partial(self._refuse, row.project_dir))
        with self._reserve(row.project_dir):
            self._put(self._run_of(await self._journal.change(partial(training_tasks.resume, task_id))))

    async def keep_feedback(self, message: KeepFeedback) -> FeedbackKept:
        """Raises `NoSuchTask`, `Invalid`, `Unsupported`, `DiskFull`."""
        row = await self._journal.change(partial(training_tasks.find, message.task_id))
        results = results_folder(Path(row.project_dir))
        found = dataset_index.read(self._folder(message.task_id) / FINDINGS)
        try:
            kept = await asyncio.to_thread(feedback.keep, results, found, message.label, message.image)
        except OSError as error:
            raise Unavailable(f"The image can't be kept in {results}: {error.strerror}.") from error
        return FeedbackKept(label=kept.label, file=kept.file, images=kept.images)

    async def bring_all_back(self) -> None:
        """Continues all tasks that had not ended when the server stopped, and reports those that were not reported."""
        if self._settings.callback_url:
            for row in await self._journal.change(training_tasks.unreported):
                self._callbacks.report(task_json(row), row.reported_state, row.traceparent)
        for row in await self._journal.change(training_tasks.unfinished):
            run = self._run_of(row)
            was_running = row.job.state == JobState.RUNNING
            if not was_running or await self._continues(run, "the server ended while it trained", SERVER_ENDED):
                self._put(run, first=was_running)

    async def close(self) -> None:
        """Ends the running tasks. They stay recorded as waiting: the next start continues from their checkpoints."""
        self._stopping = True
        for run in list(self._running.values()):
            run.job.ending = STOPPED
            run.stop_waiting()
            if run.worker is not None:
                await run.worker.stop(grace_s=0.0)
        await self._tasks.wait()
        await self._callbacks.close()

    def move(self) -> None:
        """Ends the runs on machines that are about to stop. They continue elsewhere, from their last checkpoint."""
        for run in self.running:
            run.move()

    def _refuse(self, folder: str) -> None:
        if len(self._waiting) + len(self._running) + len(self._reserved) >= self._settings.max_tasks:
            raise TooManyTasks(limit=self._settings.max_tasks)
        self._refuse_used(folder)

    def _refuse_unended(self, task_id: str) -> None:
        if self._find(task_id) is not None:
            raise training_tasks.NotResumable(task_id=task_id, state="not over")

    def _refuse_used(self, folder: str) -> None:
        for run in [*self._waiting, *self._running.values()]:
            if run.project_dir == folder:
                raise FolderInUse(task_id=run.task_id, folder=folder)
        if folder in self._reserved:
            raise FolderReserved(folder=folder)

    @contextlib.contextmanager
    def _reserve(self, folder: str) -> Iterator[None]:
        """Prevents other runs in the folder until the new run is in the queue."""
        self._refuse_used(folder)
        self._reserved.add(folder)
        try:
            yield
        finally:
            self._reserved.discard(folder)

    # --- the queue

    def _put(self, run: TrainingRun, *, first: bool = False) -> None:
        self.jobs[run.job.id] = run.job
        self._waiting.insert(0 if first else len(self._waiting), run)
        self._tasks.start(self._report(run))
        self._start_next()

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < self._settings.train_workers and not self._stopping:
            run = self._waiting.popleft()
            self._running[run.task_id] = run
            self._tasks.start(self._run(run))

    async def _run(self, run: TrainingRun) -> None:
        continues = False
        try:
            await self._records.record(run, run.job.step(started=True))
            run.job.started, run.job.attempts = True, run.job.attempts + 1
            continues = await self._train_and_record(run)
        except NotRecorded as error:  # the server stops: the next start continues the task
            run.job.postpone(error)
        except Exception:
            log.exception("while training task %s", run.task_id)
        finally:
            if self._running.get(run.task_id) is run:
                del self._running[run.task_id]
            if continues:  # only now, since it may start at once
                self._put(run, first=True)
            self._start_next()
            self._changed.fire()

    async def _train_and_record(self, run: TrainingRun) -> bool:
        """Whether the run continues with another worker."""
        try:
            answer = await self._spare.on_another(run.demand, lambda: self._train(run))
        except EndedEarly:
            await self._ended(run)
        except WorkerDied as death:
            if run.job.ending is None:
                return await self._continues(run, f"its worker died: {death}", lost(death))
            await self._ended(run)
        except TFserveError as error:
            await self._finish(run, Outcome.failed(error.to_failure()))
        else:
            await self._trained(run, answer)
        return False

    async def _train(self, run: TrainingRun) -> TrainingEnded:
        worker = await run.take_worker(
            self._spare, lambda reason: self._records.save(run, message=f"waiting: {reason}")
        )
        worker.output = run.job.output
        worker.on_progress = partial(self._records.on_progress, run)
        if run.job.ending is not None:
            worker.kill("the task is being ended")
        await self._records.save(run, worker=f"train-{worker.child.pid}", message="starting")
        self._tasks.start(self._report(run))
        work_folder = self._folder(run.task_id)
        make_private(work_folder / WORK)
        try:
            return await worker.ask(to_train(run, work_folder, self._settings.data_path / TIMINGS))
        finally:
            worker.drain()
            worker.output = worker.on_progress = None
            await self._records.settle(run)
            worker.kill("the training is over")

    async def _trained(self, run: TrainingRun, answer: TrainingEnded) -> None:
        if answer.state == JobState.SUCCEEDED:
            await self._records.save(
                run, progress=100.0, message=done_message(answer), eta_s=None, metrics=answer.metrics,
                model_path=answer.model_path,
            )  # fmt: skip
            if run.deploy_to is not None and answer.model_path is not None:  # before the end is reported
                await self._deploy_result(run, answer.model_path)
            await self._finish(run, Outcome(state=JobState.SUCCEEDED, result=b"true"))
            return
        outcome = Outcome(state=answer.state, result=b"false", error=answer.error)
        if run.job.ending is not None and answer.state == JobState.CANCELLED:
            outcome = run.job.ended_by(run.job.ending)
        if run.job.ending is STOPPED:
            await self._put_aside(run)
        else:
            await self._finish(run, outcome)

    async def _deploy_result(self, run: TrainingRun, model_path: str) -> None:
        assert run.deploy_to is not None
        try:
            await self._deploy(run.deploy_to, model_path)
        except TFserveError as error:
            await self._records.save(run, message=f"done, but not deployed: {error.message}")

    # --- ends

    async def _end(self, run: TrainingRun, ending: Ending) -> None:
        if run in self._waiting:
            self._waiting.remove(run)
            await self._finish(run, run.job.ended_by(ending))
            return
        run.job.ending = run.job.ending or ending
        run.stop_waiting()
        if run.worker is not None:
            run.worker.notify(Interrupt(job=run.job.number, workspace=""))
            kill = asyncio.get_running_loop().call_later(
                self._settings.cancel_grace_s, run.worker.kill, "it did not end in time"
            )
            run.job.ended.add_done_callback(lambda _: kill.cancel())
        await asyncio.shield(run.job.ended)

    async def _ended(self, run: TrainingRun) -> None:
        """Records that the run was ended from outside."""
        if run.job.ending is STOPPED:
            await self._put_aside(run)
        elif run.job.ending is not None:
            await self._finish(run, run.job.ended_by(run.job.ending))

    async def _put_aside(self, run: TrainingRun) -> None:
        """For the next start of the server. Does not count as an attempt."""
        await self._records.save(run, worker="", eta_s=None, message="waiting, since the server was stopped")
        await self._records.record(run, run.job.step(put_aside=True))

    async def _continues(self, run: TrainingRun, reason: str, failure: Failure) -> bool:
        """Whether a run that died continues from its last checkpoint: not after too many deaths without a new one."""
        run.worker = None
        if run.moves:
            run.moves, reason = False, "its machine was about to stop"
        elif await self._deaths(run) >= MAX_FRUITLESS:
            await self._finish(run, Outcome.failed(failure, state=JobState.LOST))
            return False
        message = f"continuing from the last checkpoint, since {reason}"
        run.job.output.write_line(message)
        await self._records.record(run, run.job.step(requeued=True))
        await self._records.save(run, message=message, worker="", eta_s=None)
        run.job.started = False
        if run.job.ending is CANCELLED:  # meanwhile
            await self._ended(run)
        return run.job.ending is not CANCELLED

    async def _deaths(self, run: TrainingRun) -> int:
        """How often it has died in a row without a new checkpoint, with this time."""
        epoch = newest_epoch(self._folder(run.task_id) / WORK)
        return await self._journal.insist(partial(training_tasks.died, run.task_id, epoch), f"task {run.task_id}")

    async def _finish(self, run: TrainingRun, outcome: Outcome) -> None:
        run.job.output.close()
        fields = {"message": MESSAGES[outcome.state]} if outcome.state in MESSAGES else {}
        await self._records.save(run, worker="", eta_s=None, **fields)
        if outcome.state != JobState.SUCCEEDED:
            await asyncio.to_thread(shutil.rmtree, aside_of(result_folder(run)), ignore_errors=True)
        await self._records.record(run, run.job.step(outcome=outcome))
        self.jobs.pop(run.job.id, None)
        self._running.pop(run.task_id, None)
        run.job.ended.set_result(outcome)
        run.job.output.grew.fire()  # for those who follow the output
        self.outcomes[outcome.state] += 1
        self._changed.fire()
        await self._report(run)

    # --- parts

    async def _report(self, run: TrainingRun) -> None:
        """Reports the state of the task to the operator's server."""
        if self._settings.callback_url:
            with contextlib.suppress(TFserveError):  # the next start catches up
                row = await self._journal.change(partial(training_tasks.find, run.task_id))
                self._callbacks.report(task_json(row), row.reported_state, row.traceparent)

    async def _delivered(self, task_id: str, state: str) -> None:
        with contextlib.suppress(TFserveError):  # the next start reports it again, which does no harm
            await self._journal.change(partial(training_tasks.set_reported, task_id, state))

    def _find(self, task_id: str) -> TrainingRun | None:
        return self._running.get(task_id) or next((run for run in self._waiting if run.task_id == task_id), None)

    def _folder(self, task_id: str) -> Path:
        return self._settings.data_path / "training" / task_id

    def _run_of(self, row: Row) -> TrainingRun:
        return run_of(row, self._folder(row.task_id), self._settings.max_output_bytes)
