"""What is recorded of a training while it runs: the steps of its job, and its progress."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

from tfserve.db import training_tasks
from tfserve.db.writes import QueueStep
from tfserve.errors import TFserveError
from tfserve.ipc.messages import Progress
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.journal import Journal
from tfserve.supervisor.jobs.training_run import TrainingRun


class TrainingJournal:
    """Writes through the journal. `changed` fires after each write that pages show."""

    def __init__(self, journal: Journal, changed: Signal) -> None:
        self._journal = journal
        self._changed = changed

    async def record(self, run: TrainingRun, step: QueueStep) -> None:
        """Records a step of its job. Returns when it is on disk."""
        await self._journal.insist(step, f"task {run.task_id}")

    async def save(self, run: TrainingRun, **fields: Any) -> None:
        """Writes what callers see of a task; a failure is made up for by the next progress."""
        with contextlib.suppress(TFserveError):
            await self._journal.change(partial(training_tasks.save_progress, run.task_id, **fields))
        self._changed.fire()

    def on_progress(self, run: TrainingRun, progress: Progress) -> None:
        """Writes the newest progress as often as the disk allows, without a queue of old ones."""
        run.unsaved = {"progress": min(progress.progress, 99.9), "message": progress.message, "eta_s": progress.eta_s}
        if progress.metrics is not None:
            run.unsaved["metrics"] = progress.metrics
        if run.saving is None:
            run.saving = asyncio.get_running_loop().create_task(self._save_newest(run))

    async def _save_newest(self, run: TrainingRun) -> None:
        while run.unsaved is not None and not run.job.ended.done():
            fields, run.unsaved = run.unsaved, None
            await self.save(run, **fields)
        run.saving = None

    async def settle(self, run: TrainingRun) -> None:
        """Returns when no progress is being written any more: what comes next is the run's last word."""
        run.unsaved = None
        if run.saving is not None:
            await run.saving
