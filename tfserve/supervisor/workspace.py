"""One workspace while the server runs, and its status."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tfserve.db.models import Workspace as Row
from tfserve.ipc.messages import Limits, NeededResources
from tfserve.supervisor.jobs.dispatcher import Dispatcher
from tfserve.supervisor.jobs.scripts import ScriptRunner
from tfserve.supervisor.models.model_runner import ModelRunner
from tfserve.supervisor.processes.restarts import Restarts


@dataclass
class Workspace:
    """One workspace while the server runs."""

    id: int
    name: str
    type: Row.Type
    folder: Path
    dispatcher: Dispatcher
    scripts: ScriptRunner
    model: ModelRunner
    restarts: Restarts
    limits: Limits
    #: what the process of its scripts needs
    resources: NeededResources
    restarting: bool = False
    destroyed: bool = False
    submitting: int = 0
    restart_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def job_folder(self) -> Path:
        return self.folder.parent / "jobs"

    @property
    def status(self) -> str:
        """One of the four states of the contract."""
        if self.dispatcher.given_up_reason is not None:
            return "EXCEPT"
        if self.restarting or self.scripts.starting:
            return "INITIAL"
        return "BUSY" if self.dispatcher.running else "IDLE"

    @property
    def state(self) -> str:
        """The state of its script worker."""
        if self.dispatcher.given_up_reason is not None:
            return "failed"
        if self.restarting:
            return "restarting"
        if self.scripts.starting:
            return "starting"
        return "idle" if self.scripts.worker is None else "ready"

    def describe(self) -> dict[str, Any]:
        """The response of `get_status`: the four fields of the contract, and more."""
        dispatcher, worker, active = self.dispatcher, self.scripts.worker, self.model.replica_set.active
        child = worker.child if worker is not None else None
        return {
            "STATUS": self.status,
            "CUR_JOB_NUM": dispatcher.last_started,
            "FIN_JOB_NUM": dispatcher.last_finished,
            "JOB_COUNT": len(dispatcher.waiting),
            "name": self.name,
            "type": int(self.type),
            "state": self.state,
            "reason": dispatcher.given_up_reason,
            "folder": str(self.folder),
            "pid": child.pid if child is not None else None,
            "node": child.node if child is not None else None,
            "memory_bytes": child.use().memory_bytes if child is not None else 0,
            "uptime_s": round(child.age_s, 1) if child is not None else 0.0,
            "limits": msgspec.to_builtins(self.limits),
            "resources": self.resources,
            "deaths_in_a_row": self.restarts.deaths,
            "deployment": active.describe() if active is not None else None,
            "last_deployment_failure": self.model.last_failure or None,
            "running": [{"job": job.number, "id": job.id, "kind": job.kind} for job in dispatcher.running],
        }
