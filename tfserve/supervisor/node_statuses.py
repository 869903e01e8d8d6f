"""Every machine with what runs on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from msgspec.structs import asdict

from tfserve.ipc.messages import GetNodes, Message, NodeStatus, RunningWorker
from tfserve.supervisor.jobs.training_queue import TrainingQueue
from tfserve.supervisor.processes.child import Role
from tfserve.supervisor.processes.worker import Worker
from tfserve.supervisor.submissions import Machines
from tfserve.supervisor.workspace import Workspace
from tfserve.supervisor.workspaces import Workspaces


class NodeStatuses:
    """Joins what the machines report with what the supervisor runs there."""

    def __init__(self, machines: Machines, workspaces: Workspaces, trainings: TrainingQueue) -> None:
        self._machines = machines
        self._workspaces = workspaces
        self._trainings = trainings

    @property
    def handlers(self) -> dict[type[Message], Callable[[Any], Awaitable[Any]]]:
        return {GetNodes: self._get_nodes}

    def read(self) -> list[NodeStatus]:
        """The head first, nodes that are gone last."""
        runs: dict[str, list[RunningWorker]] = {}
        for node, running in self._running():
            runs.setdefault(node, []).append(running)
        found = []
        for state in self._machines.states():
            here = runs.get(state.name, []) if state.state != "gone" else []
            fields = asdict(state) | {"workers": max(state.workers, len(here))}
            found.append(NodeStatus(**fields, runs=here))
        return found

    async def _get_nodes(self, _: GetNodes) -> list[NodeStatus]:
        return self.read()

    def _running(self) -> Iterator[tuple[str, RunningWorker]]:
        for workspace in self._workspaces:
            yield from _of_workspace(workspace)
        if (host := self._workspaces.host) is not None:
            yield _named(host, Role.HOST, "")
        for run in self._trainings.running:
            if run.worker is not None and run.worker.alive:
                yield _named(run.worker, Role.TRAIN, run.task_id)


def _of_workspace(workspace: Workspace) -> Iterator[tuple[str, RunningWorker]]:
    worker, active = workspace.scripts.worker, workspace.model.replica_set.active
    if worker is not None and worker.child.role == Role.SCRIPT:
        yield _named(worker, Role.SCRIPT, workspace.name)
    for replica in active.everything if active is not None else ():
        yield _named(replica.worker, Role.MODEL, workspace.name)


def _named(worker: Worker, role: Role, name: str) -> tuple[str, RunningWorker]:
    return worker.node, RunningWorker(role, name, worker.child.pid)
