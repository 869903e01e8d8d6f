"""One run of a training task while it waits or runs, and the rows that it comes from."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tfserve.db.models import TrainingTask as Row
from tfserve.db.reads import TASK_OUTPUT
from tfserve.errors import Conflict, Failure, OutOfSpace, Overloaded, Unavailable
from tfserve.ipc.messages import (
    Demand,
    FinishTraining,
    NeededResources,
    ProjectExamined,
    StartTraining,
    Train,
    TrainingEnded,
    TrainJob,
)
from tfserve.supervisor.jobs.job import EndedEarly, Job
from tfserve.supervisor.processes.launchers import NoMachine, Spare
from tfserve.supervisor.processes.output import JobOutput
from tfserve.supervisor.processes.worker import Worker
from tfserve.training.atomic_files import is_disk_full
from tfserve.training.dataset.project_folders import MODELS, results_folder
from tfserve.training.fit import uploaded_weights

MAX_SKIPPED_SHOWN = 200
WORK, FINDINGS = "work", "findings.json"
SERVER_ENDED = Failure(
    code="lost",
    message="The server ended again and again while this task ran, and it had kept no further checkpoint in between.",
)


class FolderInUse(Conflict):
    """Task {task_id} is already training on {folder}. Wait for its end, or cancel it: POST /tasks/{task_id}/cancel."""


class FolderReserved(Conflict):
    """Another request is starting a task on {folder}. Wait for its response."""


class TooManyTasks(Overloaded):
    """{limit} training tasks are waiting or running, which is the maximum of this server (max_tasks)."""


class NotTraining(Conflict):
    """Task {id} is not training, so it has no model to deliver early. GET /tasks/{id} returns its state."""


@dataclass(eq=False)
class TrainingRun:
    """One run of a task while it waits or runs."""

    task_id: str
    project_dir: str
    train_type: str
    parameters: dict[str, Any]
    deploy_to: str | None
    job: Job
    #: what its process needs
    resources: NeededResources = field(default_factory=dict)
    #: while it waits for a worker, which may take as long as TensorFlow takes to load
    taking: asyncio.Task[Worker] | None = None
    worker: Worker | None = None
    #: the next progress to write, while the last one is being written
    unsaved: dict[str, Any] | None = None
    saving: asyncio.Task[None] | None = None
    #: whether its process is ended only so that it continues on another machine
    moves: bool = False

    @property
    def demand(self) -> Demand:
        return Demand(resources=self.resources)

    async def take_worker(self, spare: Spare, on_wait: Callable[[str], Awaitable[None]]) -> Worker:
        """A worker with TensorFlow. Raises `EndedEarly` if the run is ended in the meantime.

        `on_wait` is called with the reason when no machine has room.
        """
        if self.job.ending is not None:  # while its start was recorded
            raise EndedEarly
        self.taking = asyncio.get_running_loop().create_task(self._take(spare, on_wait))
        try:
            self.worker = await self.taking
        except asyncio.CancelledError:
            if self.job.ending is None:
                raise
            raise EndedEarly from None
        finally:
            self.taking = None
        return self.worker

    async def _take(self, spare: Spare, on_wait: Callable[[str], Awaitable[None]]) -> Worker:
        reason = ""
        while True:
            try:
                return await spare.take(needs_tensorflow=True, demand=self.demand)
            except NoMachine as error:
                if error.message != reason:
                    reason = error.message
                    await on_wait(reason)
                await spare.wait_for_placement()

    def move(self) -> None:
        """Ends its process if that is on a machine which is about to stop."""
        if self.worker is not None and self.worker.node_stops:
            self.moves = True
            self.worker.kill("its machine is about to stop")

    def finish_early(self) -> None:
        """Lets the training deliver its best model soon. Raises `NotTraining`."""
        if self.worker is None or self.job.ending is not None:
            raise NotTraining(id=self.task_id)
        self.worker.notify(FinishTraining(job=self.job.number))

    def stop_waiting(self) -> None:
        """Ends the wait for a worker, if it waits for one."""
        if self.taking is not None:
            self.taking.cancel()


def run_of(row: Row, folder: Path, max_output_bytes: int) -> TrainingRun:
    """The current run of a task. Its output is appended to that of the runs before, in `folder`."""
    job = Job(
        id=row.job.pk,
        number=row.job.number,
        request=TrainJob().encode(),
        attempts=row.job.attempts,
        output=JobOutput(folder / TASK_OUTPUT, max_output_bytes, appends=True),
    )
    return TrainingRun(row.task_id, row.project_dir, row.train_type, row.parameters, row.deploy_to, job, row.resources)


def new_row(task_id: str, request: StartTraining, found: ProjectExamined, *, reported: str | None) -> Row:
    """A task that waits for its first run. `reported` is None if its states are not reported."""
    return Row(
        task_id=task_id,
        owner=request.owner,
        traceparent=request.traceparent,
        user_id=request.user_id,
        project_id=request.project_id,
        project_dir=str(Path(request.project_dir)),
        train_type=request.train_type,
        parameters=request.parameters,
        resources=request.resources,
        deploy_to=request.deploy_to,
        skipped=found.skipped[:MAX_SKIPPED_SHOWN],
        dataset=found.dataset,
        reported_state=reported,
        message=_waiting(found),
    )


def to_train(run: TrainingRun, work_folder: Path, timings: Path) -> Train:
    """What its worker is asked to do."""
    return Train(
        job=run.job.number,
        task_id=run.task_id,
        project_dir=run.project_dir,
        train_type=run.train_type,
        parameters=run.parameters,
        findings=str(work_folder / FINDINGS),
        folder=str(result_folder(run)),
        work_folder=str(work_folder / WORK),
        timings=str(timings),
    )


def _waiting(found: ProjectExamined) -> str:
    layout = found.dataset.get("layout")
    return f"waiting; {found.image_count} images, {found.skipped_count} left out" + (f"; {layout}" if layout else "")


def done_message(ended: TrainingEnded) -> str:
    """With the verdict on the model: `done` alone would sound as if it were good."""
    metrics = ended.metrics or {}
    message = f"done: {metrics['verdict']}" if metrics.get("verdict") else "done"
    warm = metrics.get("warm_start")
    return f"{message}; started from task {warm['task']}" if warm and warm["reused"] else message


def with_kept_weights(request: StartTraining, folder: Path) -> StartTraining:
    """The request, with its uploaded weights in the task's folder. Raises `OutOfSpace`, `Unavailable`."""
    try:
        file = uploaded_weights.keep(folder, request.weights or b"")
    except OSError as error:
        raise (OutOfSpace(cause=str(error)) if is_disk_full(error) else Unavailable(f"weights: {error}")) from error
    return msgspec.structs.replace(request, weights=None, parameters=request.parameters | {"weights": str(file)})


def make_private(folder: Path) -> None:
    """Creates the folder of a task."""
    with contextlib.suppress(OSError):  # the worker reports the same error, with its cause
        folder.mkdir(parents=True, exist_ok=True)


def result_folder(run: TrainingRun) -> Path:
    return results_folder(Path(run.project_dir)) / MODELS / run.task_id
