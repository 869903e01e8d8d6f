"""Counters and measurements of the running server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from tfserve import __version__
from tfserve.cluster.identity import HEAD
from tfserve.ipc.messages import Metrics, NodeStatus
from tfserve.ipc.metrics import (
    Deaths,
    ModelCounts,
    ModelJobCounts,
    NamedCounts,
    ProcessUse,
    TrainingCounts,
    WebCounts,
    WorkspaceCounts,
    added,
)
from tfserve.linux import use_of
from tfserve.supervisor.jobs.training_queue import TrainingQueue
from tfserve.supervisor.models.announcements import Announcements
from tfserve.supervisor.processes import child as processes
from tfserve.supervisor.web_counters import Counts
from tfserve.supervisor.workspace import Workspace
from tfserve.supervisor.workspaces import Workspaces


class MetricsReader:
    """Collects them for `GetMetrics`."""

    def __init__(
        self,
        *,
        announcements: Announcements,
        workspaces: Workspaces,
        trainings: TrainingQueue,
        model_jobs: Callable[[], list[ModelJobCounts]] = list,
        nodes: Callable[[], list[NodeStatus]] = list,
    ) -> None:
        self._nodes = nodes
        self._model_jobs = model_jobs
        self._announcements = announcements
        self._workspaces = workspaces
        self._trainings = trainings
        self._counts = Counts()
        self._started_at = time.time()

    async def models(self) -> list[NamedCounts]:
        """The counters of the deployed model versions only."""
        return self._by_version(await self._read_counts())

    async def read(self) -> Metrics:
        counts = await self._read_counts()
        uses = list(_uses())
        return Metrics(
            version=__version__,
            started_at=self._started_at,
            models=self._by_version(counts),
            http_errors=counts.http_errors,
            workspaces=[_describe(workspace) for workspace in self._workspaces],
            trainings=self._of_trainings(),
            processes=uses,
            deaths=self._deaths(uses),
            model_jobs=self._model_jobs(),
            nodes=self._nodes(),
        )

    async def _read_counts(self) -> WebCounts:
        deployed = {version.id for _, version in self._announcements.versions()}
        return await self._counts.read(self._announcements.lines, deployed)

    def _by_version(self, counts: WebCounts) -> list[NamedCounts]:
        """Adds up two deployments of one version, one of which is draining."""
        total: dict[tuple[str, int], ModelCounts] = {}
        for name, each in self._announcements.versions():
            key = name, each.version
            replicas = len(each.addresses)
            computations = replicas * each.concurrency.computations if each.concurrency is not None else 0
            known = ModelCounts(replicas=replicas, computations=computations, sleeping=int(each.state == "sleeping"))
            own = added(known, counts.models.get(each.id, ModelCounts()))
            total[key] = added(total[key], own) if key in total else own
        return [NamedCounts(name, version, sum_) for (name, version), sum_ in total.items()]

    def _of_trainings(self) -> TrainingCounts:
        trainings = self._trainings
        runs = {str(state): count for state, count in trainings.outcomes.items()}
        return TrainingCounts(trainings.waiting_count, len(trainings.running), runs)

    def _deaths(self, uses: list[ProcessUse]) -> list[Deaths]:
        """Includes a zero for roles without deaths, so that the first death is visible as a change."""
        names = {"", *(workspace.name for workspace in self._workspaces)}
        for key in [key for key in processes.deaths if key[1] not in names]:
            del processes.deaths[key]
        counts: dict[tuple[str, str], int] = {(use.role, use.workspace): 0 for use in uses if use.pid != os.getpid()}
        for (role, workspace), count in processes.deaths.items():
            counts[role, workspace] = count
        return [Deaths(role, workspace, count) for (role, workspace), count in counts.items()]


def _uses() -> Iterator[ProcessUse]:
    yield ProcessUse("supervisor", "", os.getpid(), *use_of(os.getpid()), node=HEAD)
    for child in (*processes.living(), *processes.elsewhere):
        yield ProcessUse(child.role, child.workspace, child.pid, *child.use(), node=child.node)


def _describe(workspace: Workspace) -> WorkspaceCounts:
    dispatcher = workspace.dispatcher
    jobs: dict[str, dict[str, int]] = {}
    for (kind, state), count in dispatcher.outcomes.items():
        jobs.setdefault(kind, {})[state] = count
    return WorkspaceCounts(workspace.name, workspace.state, len(dispatcher.waiting), len(dispatcher.running), jobs)
