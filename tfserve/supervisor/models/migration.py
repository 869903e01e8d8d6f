"""Moves the active deployment to a faster runtime: compared and loaded aside, then switched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from tfserve.errors import TFserveError
from tfserve.ipc.messages import AUTO
from tfserve.models.runtime_reports import TENSORFLOW, Report
from tfserve.supervisor.models.loading import Loading, Means
from tfserve.supervisor.models.replicas import Deployment, Replica
from tfserve.supervisor.processes.worker import WorkerDied


class Samples(Protocol):
    """Predictions that the active version has answered."""

    async def __call__(self, *, prepared: bool = False) -> list[bytes]: ...


class Load(Protocol):
    """Loads one more process for a deployment."""

    async def __call__(
        self, deployment: Deployment, samples: Sequence[bytes] = (), *, chosen: Report | None = None
    ) -> Replica: ...


class Migration:
    """One comparison of runtimes at a time, and the move that may follow."""

    def __init__(
        self, loading: Loading, means: Means, *, is_active: Callable[[Deployment], bool], samples: Samples, load: Load,
        switch: Callable[[Deployment, list[Replica], Report], Awaitable[None]],
        restore: Callable[[Deployment], None],
    ) -> None:  # fmt: skip
        self.task: asyncio.Task[None] | None = None
        self._loading = loading
        self._means = means
        self._is_active = is_active
        self._samples = samples
        self._load = load
        self._switch = switch
        self._restore = restore

    def begin(self, deployment: Deployment) -> None:
        """Compares the runtimes of a deployment, unless a comparison is under way or not wanted."""
        may_convert = self._means.convert or deployment.asks_for_conversion
        if may_convert and deployment.may_be_converted and self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._choose(deployment))

    def on_samples(self, deployment: Deployment) -> None:
        """Compares what could not be compared without real requests."""
        if self._is_active(deployment) and deployment.report is not None and deployment.report.needs_samples:
            self.begin(deployment)

    async def _choose(self, deployment: Deployment) -> None:
        asked, had_enough = deployment.asked_runtime, deployment.has_enough_samples
        try:
            report = await self._means.choices.find(
                deployment.path, precision=deployment.options.precision, asked=asked, in_background=True,
                samples=await self._samples(prepared=True), tell=partial(self._loading.tell_choice, deployment),
            )  # fmt: skip
            deployment.report = report
            if asked != AUTO:
                deployment.own_remarks = self._loading.remarks(report, asked)
            if report.chosen != TENSORFLOW if asked == AUTO else report.compared:
                self._loading.tell_choice(deployment, f"loading with {report.chosen}")
                await self._move(deployment, report)
            self._loading.tell_choice(deployment, _choice(deployment, report))
        except (TFserveError, WorkerDied, OSError) as error:
            self._loading.tell_choice(deployment, f"stays with {deployment.runtime}: {error}")
        finally:
            self.task = None
        if not had_enough:  # requests that came meanwhile may be what was missing
            self.on_samples(deployment)

    async def _move(self, deployment: Deployment, report: Report) -> None:
        """Loads the model with the chosen runtime aside, and switches without dropping a request."""
        replicas: list[Replica] = []
        try:
            while len(replicas) < deployment.options.replicas:
                replicas.append(await self._load(deployment, await self._samples(), chosen=report))
            await self._switch(deployment, replicas, report)
        finally:
            for replica in replicas:
                replica.worker.kill("its model was not moved")
        if len(deployment.living) < deployment.options.replicas:
            self._restore(deployment)


def _choice(deployment: Deployment, report: Report) -> str:
    """What was decided, for the status."""
    if report.needs_samples:
        return f"stays with {deployment.runtime} until real requests can be compared: {report.reason(TENSORFLOW)}"
    rest = f"; TensorFlow computes what is not within {report.guard}" if report.guard and str(report.guard) else ""
    return f"{deployment.runtime} was chosen{rest}"
