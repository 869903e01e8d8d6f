"""The model repository extension: workspaces as models that can be loaded and unloaded.

Loading deploys again what was deployed last, so that a new version in its folder is taken; unloading undeploys.
Both are jobs of the workspace, in its order.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.control import queries
from tfserve.control.models import Deployment
from tfserve.errors import Failure, Invalid, NotFound, TimedOut, Unsupported, from_failure
from tfserve.ipc.messages import JobAnswer, JobKind, JobState, SubmitJob
from tfserve.paths import without_folders
from tfserve.protocols.oip.requests import Parameters
from tfserve.protocols.tfserve.handlers import Context
from tfserve.protocols.tfserve.names import workspace_name
from tfserve.serving.models import Model, Models
from tfserve.serving.reads import read

#: seconds that a client waits for a model at most; most give up earlier
WAIT_S = 3600.0
STATES = {"loading": "LOADING", "active": "READY", "draining": "UNLOADING", "failed": "UNAVAILABLE"}


class StillLoading(TimedOut):
    """Model {name!r} was not {what} within {wait_s:g} s. Job {job} of its workspace goes on with it."""


async def index(models: Models, *, only_ready: bool) -> list[dict[str, str]]:
    """What there is, one entry for each version; what was unloaded last is there too, since it can be loaded."""
    live = [_entry(model) for model in models]
    known = set(models.names())
    gone = [_gone(each) for each in await read(queries.last_deployments) if each.workspace.name not in known]
    return [each for each in live + gone if each["state"] == "READY" or not only_ready]


async def load(context: Context, name: str, parameters: Parameters) -> None:
    """Raises what is wrong with the request or the model, `StillLoading` after a long time."""
    name = _model_name(name)
    _check(parameters)
    last = await read(queries.last_deployment, name)
    if last is None:
        raise NotFound(
            f"Nothing was ever deployed in workspace {name!r}, so nothing can be loaded: POST /deploy/ first."
        )
    if name in context.models.names():
        await _run(context, name, JobKind.UPDATE, {"path": last.weights or last.path}, "loaded")
        return
    request = {"path": last.path, "device": last.device, "options": last.options}
    await _run(context, name, JobKind.DEPLOY, request, "loaded")
    if last.weights is not None:
        await _run(context, name, JobKind.UPDATE, {"path": last.weights}, "loaded")


async def unload(context: Context, name: str) -> None:
    """Raises `NotFound` when it is not loaded. What is in flight is answered first."""
    await _run(context, _model_name(name), JobKind.UNDEPLOY, {}, "unloaded")


async def _run(context: Context, name: str, kind: JobKind, request: dict[str, Any], what: str) -> None:
    answer = await context.line.submit(
        SubmitJob(workspace=name, kind=kind, request=msgspec.json.encode(request), wait_s=WAIT_S)
    )
    if answer.state in (JobState.QUEUED, JobState.RUNNING):
        raise StillLoading(name=name, what=what, wait_s=WAIT_S, job=answer.job)
    if answer.state != JobState.SUCCEEDED:
        raise from_failure(_failure(answer))


def _failure(answer: JobAnswer) -> Failure:
    if answer.error is None:
        return Failure(
            code="unavailable", message=f"Job {answer.job} of the workspace was ended: it is {answer.state}."
        )
    failure = msgspec.json.decode(answer.error, type=Failure)
    return msgspec.structs.replace(failure, message=without_folders(failure.message))


def _model_name(name: str) -> str:
    """Raises `Invalid` for what can't be a name; most of all for what looks like a path."""
    if not name.strip(" ."):
        raise Invalid(f"{name!r} can't be the name of a model.")
    return workspace_name(name)


def _check(parameters: Parameters) -> None:
    names = list(parameters or ())
    if files := [name for name in names if name.startswith("file:")]:
        raise Invalid(
            f"{files[0][:100]!r} would write a file on the server, which is refused: POST /deploy/ names a path."
        )
    if "config" in names:
        raise Unsupported("How a model is served is said at POST /deploy/, not by a 'config' when it is loaded.")


def _entry(model: Model) -> dict[str, str]:
    state = STATES[model.state]
    if state == "READY" and not model.is_ready:
        state = "UNAVAILABLE"
    return {"name": model.name, "version": str(model.version), "state": state, "reason": model.told.reason}


def _gone(last: Deployment) -> dict[str, str]:
    reason = "unloaded" if last.state == Deployment.State.GONE else without_folders(last.reason, last.path)
    version = {} if last.version is None else {"version": str(last.version)}
    return {"name": last.workspace.name, **version, "state": "UNAVAILABLE", "reason": reason}
