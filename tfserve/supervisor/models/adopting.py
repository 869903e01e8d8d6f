"""Serves a deployment with processes on nodes that have served it since before this server started."""

from __future__ import annotations

from tfserve.ipc.messages import BecomeModel
from tfserve.models.runtime_reports import Report, Served
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.replicas import Replica
from tfserve.supervisor.models.runtime_trials import RuntimeTrials
from tfserve.supervisor.processes.launchers import Spare


async def adopt(spare: Spare, trials: RuntimeTrials, deployment: Deployment) -> Replica | None:
    """A process that still serves the deployment with the runtime that it has now, or had before; None without one."""
    if spare.elsewhere is None or deployment.is_asleep:
        return None
    known: dict[str, tuple[Report, Served | None]] = {}

    async def is_suitable(become: BecomeModel) -> bool:
        if deployment.living or deployment.chosen is not None:  # all processes have the same runtime
            return bool(become.source) == (deployment.chosen is not None)
        if not become.source:
            return not deployment.requests_conversion or become.options.runtime == deployment.requested_runtime
        found = await trials.converted(become.path_on_head)
        if found is None or found[0].chosen != become.options.runtime:
            return False
        known[become.path_on_head] = found
        return _may_continue_with(deployment, *found)

    adopted = await spare.elsewhere.adopt(deployment.id, is_suitable)
    if adopted is None:
        return None
    if adopted.become.source and deployment.chosen is None:
        _continue_with(deployment, *known[adopted.become.path_on_head])
    return Replica(adopted.worker, adopted.loaded.address or adopted.become.address, adopted.loaded)


def _may_continue_with(deployment: Deployment, report: Report, served: Served | None) -> bool:
    """Whether a deployment can be served by this converted model. It is the one that has served it."""
    if deployment.requests_conversion:
        return report.chosen == deployment.requested_runtime
    return served is not None and served.options == deployment.content_options and deployment.may_be_converted


def _continue_with(deployment: Deployment, report: Report, served: Served | None) -> None:
    if deployment.requests_conversion:
        deployment.begin_as_requested(report)
    elif served is not None:
        deployment.begin_with(report, served)
