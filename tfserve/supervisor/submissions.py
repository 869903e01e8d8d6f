"""What is checked of a job before it is recorded."""

from __future__ import annotations

from typing import Protocol

import msgspec
from msgspec.structs import replace

from tfserve.errors import Invalid
from tfserve.ipc.messages import DeployJob, JobKind, ModelOptions, ScriptJob, SubmitJob, UpdateJob
from tfserve.ipc.messages.cluster import Demand, NodeState
from tfserve.supervisor.models.changed_options import changed
from tfserve.supervisor.this_machine import covers
from tfserve.supervisor.workspace import Workspace


class Machines(Protocol):
    """Where processes can run: this machine, or the nodes of a cluster."""

    def states(self) -> list[NodeState]:
        """Every machine, this one first."""

    def check(self, demand: Demand, count: int = 1) -> None:
        """Raises `Invalid` if `count` processes with this demand can never run at the same time."""


def within_job_time(workspace: Workspace, request: SubmitJob) -> SubmitJob:
    """A script without a time limit gets that of its workspace. Raises `Invalid` for a longer one."""
    limit_s = workspace.limits.job_time_s
    if not limit_s or request.request.kind != JobKind.SCRIPT:
        return request
    if request.time_limit_s is not None and request.time_limit_s > limit_s:
        raise Invalid(
            f"time_limit must be at most {limit_s:g} seconds in workspace {workspace.name!r}, got"
            f" {request.time_limit_s:g}",
            field="time_limit",
        )
    return replace(request, time_limit_s=request.time_limit_s or limit_s)


def check_resources(machines: Machines, workspace: Workspace, request: SubmitJob) -> None:
    """Raises `Invalid` for a job whose resources can't be met."""
    if request.request.kind not in (JobKind.DEPLOY, JobKind.UPDATE, JobKind.SCRIPT):
        return
    if request.request.kind == JobKind.SCRIPT and b'"resources"' not in request.request.json:  # scripts may be large
        return
    match request.request.decode():
        case DeployJob() as deploy:
            machines.check(*demand_of(deploy.options))
        case UpdateJob() as update if (active := workspace.model.replica_set.active) is not None:
            machines.check(*demand_of(changed(active.options, update)))
        case ScriptJob(resources=needed) if missing := covers(workspace.resources, needed):
            raise Invalid(
                f"resources of the job can't be met: {'; '.join(missing)}. A job runs in the process of its workspace."
                " Submit it to a workspace that was created with these resources (/create_workspace/).",
                field="resources",
            )


def demand_of(options: ModelOptions) -> tuple[Demand, int]:
    """What each process of a model needs, and how many there may be."""
    needed = {} if options.resources is msgspec.UNSET else options.resources
    most = options.replicas if options.autoscale is msgspec.UNSET else options.autoscale.max
    return Demand(resources=needed, placement=options.placement or "spread"), most
