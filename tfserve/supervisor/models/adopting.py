"""Serves a deployment with processes on nodes that have served it since before this server started."""

from __future__ import annotations

from tfserve.errors import TFserveError
from tfserve.ipc.messages import BecomeModel
from tfserve.models.runtime_reports import Report, Served
from tfserve.supervisor.models import model_files
from tfserve.supervisor.models.deployment import Deployment
from tfserve.supervisor.models.replicas import Replica
from tfserve.supervisor.models.runtime_trials import RuntimeTrials
from tfserve.supervisor.processes.launchers import Spare


async def adopt(spare: Spare, trials: RuntimeTrials, deployment: Deployment) -> Replica | None:
    """A process that still serves the deployment with the runtime that it has now, or had before; None without one."""
    if spare.elsewhere is None or deployment.is_asleep:
        return None
    known = await _chosen_before(trials, deployment)

    def is_suitable(become: BecomeModel) -> bool:
        if deployment.living or deployment.chosen is not None:  # all processes have the same runtime
            return bool(become.source) == (deployment.chosen is not None)
        return not become.source or (known is not None and known[0].chosen == become.options.runtime)

    adopted = await spare.adopt(deployment.id, is_suitable)
    if adopted is None:
        return None
    if adopted.become.source and deployment.chosen is None and known is not None:
        deployment.begin_with(*known)
    return Replica(adopted.worker, adopted.loaded.address or adopted.become.address, adopted.loaded)


async def _chosen_before(trials: RuntimeTrials, deployment: Deployment) -> tuple[Report, Served] | None:
    """The runtime that was chosen for these files before, which is recorded with the files."""
    if not deployment.may_be_converted:
        return None
    try:
        located = await model_files.locate(deployment.path, deployment.weights, deployment.options)
    except TFserveError:
        return None
    return await trials.served_before(located, deployment.content_options)
