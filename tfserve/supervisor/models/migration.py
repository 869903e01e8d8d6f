"""Moves the active deployment to a faster runtime: compares runtimes, loads the chosen one, and switches to it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from tfserve.errors import TFserveError
from tfserve.ipc.messages import AUTO
from tfserve.models.runtime_reports import TENSORFLOW, Report
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.replicas import Replica
from tfserve.supervisor.models.runtime_trials import RuntimeTrials
from tfserve.supervisor.processes.worker import WorkerDied

if TYPE_CHECKING:
    from tfserve.supervisor.models.replica_set import ReplicaSet


class RuntimeMigration:
    """Runs one comparison at a time, and the move that may follow."""

    def __init__(self, replica_set: ReplicaSet, trials: RuntimeTrials, *, convert: bool) -> None:
        """`convert` says whether to look for faster runtimes that were not requested."""
        self.task: asyncio.Task[None] | None = None
        self._set = replica_set
        self._trials = trials
        self._convert = convert

    def begin(self, deployment: Deployment) -> None:
        """Compares the runtimes of a deployment, unless that is not wanted or already running."""
        may_convert = self._convert or deployment.requests_conversion
        if may_convert and deployment.may_be_converted and self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._choose(deployment))
            self.task.add_done_callback(self._ended)  # also called if it is cancelled before its first step

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.task is task:
            self.task = None

    def on_samples(self, deployment: Deployment) -> None:
        """Compares what could not be compared without real requests."""
        if self._set.active is deployment and deployment.report is not None and deployment.report.needs_samples:
            self.begin(deployment)

    async def _choose(self, deployment: Deployment) -> None:
        requested, had_enough = deployment.requested_runtime, deployment.has_enough_samples
        set_choice = partial(self._set.set_choice, deployment)
        try:
            report = await self._trials.find(
                deployment.model_path, precision=deployment.options.precision, requested=requested, in_background=True,
                samples=await self._set.samples(prepared=True), on_progress=set_choice,
            )  # fmt: skip
            deployment.set_report(report)
            if report.chosen != TENSORFLOW if requested == AUTO else report.compared:
                set_choice(f"loading with {report.chosen}")
                await self._move(deployment, report)
            set_choice(_choice(deployment, report))
        except (TFserveError, WorkerDied, OSError) as error:
            set_choice(f"stays with {deployment.runtime}: {error}")
        finally:
            self.task = None
        if not had_enough:  # requests that came meanwhile may be what was missing
            self.on_samples(deployment)

    async def _move(self, deployment: Deployment, report: Report) -> None:
        """Loads the model with the chosen runtime in parallel, and switches without dropping a request."""
        replicas: list[Replica] = []
        try:
            while len(replicas) < deployment.options.replicas:
                replicas.append(await self._set.load(deployment, await self._set.samples(), chosen=report))
            await self._set.switch(deployment, replicas, report)
            if report.path and deployment.can_begin_converted:
                await self._trials.remember(report, deployment.served_by_tensorflow())
        finally:
            for replica in replicas:
                replica.worker.kill("its model was not moved")
        if len(deployment.living) < deployment.options.replicas:
            self._set.restore(deployment)


def _choice(deployment: Deployment, report: Report) -> str:
    """The decision, for the status."""
    if report.needs_samples:
        return f"stays with {deployment.runtime} until real requests can be compared: {report.reason(TENSORFLOW)}"
    return f"{deployment.runtime} was chosen{report.exceptions}"
