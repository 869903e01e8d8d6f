"""The training tasks of a server on a real database, trained by echo workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from queues import open_journal, read, until

from tfserve.config import Settings
from tfserve.db import training_tasks
from tfserve.db.models import Job as JobRow
from tfserve.db.models import TrainingTask as Row
from tfserve.ipc.messages import StartTraining
from tfserve.supervisor.events import Revision
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.training_queue import TrainingQueue
from tfserve.supervisor.processes.launchers import Spare
from tfserve.supervisor.processes.workshop import Workshop

WAITS = "t.note('begun'); t.until('go')"
"""A training that has begun when the file `begun` is there, and ends when `go` is."""


def echo_spare(settings: Settings, changed: Revision) -> Spare:
    """Gives echo workers."""
    program = str(Path(__file__).with_name("echo_worker.py"))
    workshop = Workshop(settings, f"test-of-jobs:{os.getpid()}", callers_umask=0o022, program=[program])
    return Spare(workshop, is_kept=False, changed=changed)


class Trainer:
    """The trainings, and the words that the tests say to them."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.settings = settings
        self.journal = journal
        self.changed = Revision()
        self.deployed: list[tuple[str, str]] = []
        self.deploy_error: Exception | None = None
        self.trainings = TrainingQueue(
            settings, journal=journal, spare=echo_spare(settings, self.changed), changed=self.changed,
            deploy=self._deploy,
        )  # fmt: skip

    async def start(self, project: Path, program: str = "", *, user_id: str = "u", **fields: Any) -> str:
        await asyncio.to_thread(project.mkdir, exist_ok=True)
        request = StartTraining(
            user_id=user_id, project_id=project.name, project_dir=str(project), train_type="classification",
            parameters={"program": program, **fields.pop("parameters", {})}, **fields,
        )  # fmt: skip
        return await self.trainings.start(request)

    def folder(self, task_id: str) -> Path:
        return self.settings.data_path / "training" / task_id

    async def ended(self, *task_ids: str) -> list[str]:
        """The states in which the runs ended, as they are recorded."""
        for task_id in task_ids:
            job_id = (await self.row(task_id)).job_id
            await until(lambda job_id=job_id: job_id not in self.trainings.jobs)
        return await self.states(*task_ids)

    async def row(self, task_id: str) -> Row:
        return await read(lambda: training_tasks.find(task_id))

    async def states(self, *task_ids: str) -> list[str]:
        return [str((await self.row(task_id)).job.state) for task_id in task_ids]

    async def rows(self) -> Sequence[Row]:
        return await read(lambda: list(Row.objects.select_related("job").order_by("pk")))

    async def _deploy(self, workspace: str, path: str) -> None:
        if self.deploy_error is not None:
            raise self.deploy_error
        self.deployed.append((workspace, path))


@contextlib.asynccontextmanager
async def open_trainer(database: Path, **settings: Any) -> AsyncIterator[Trainer]:
    """A server's trainings on the test's database, from its start to its stop."""
    defaults: dict[str, Any] = {"cancel_grace_s": 0.3, "data_dir": str(database.parent)}
    async with open_journal() as journal:
        trainer = Trainer(Settings(**{**defaults, **settings}), journal)
        await trainer.trainings.bring_all_back()
        try:
            yield trainer
        finally:
            journal.give_up_after(5)
            await trainer.trainings.close()


async def begun(project: Path) -> None:
    """Returns when the program of the project's training has noted it."""
    await until((project / "begun").exists)
    (project / "begun").unlink()


def let_go(project: Path) -> None:
    (project / "go").touch()


async def as_if_killed(trainer: Trainer, task_id: str) -> None:
    """Records what a server leaves that is killed during the training of a task that was put aside."""
    job_id = (await trainer.row(task_id)).job_id
    await read(lambda: JobRow.objects.filter(pk=job_id).update(state="running"))
