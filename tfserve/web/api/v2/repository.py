"""The model repository extension: workspaces as models that can be loaded and unloaded.

Loading deploys the last deployed model again, including a new version in its folder. Unloading undeploys it. Both are
jobs in the workspace's queue.
"""

from __future__ import annotations

from pathlib import PurePath

import msgspec

from tfserve import written_numbers
from tfserve.access.principals import PRINCIPAL
from tfserve.db import reads
from tfserve.db.models import Deployment
from tfserve.errors import Failure, Invalid, NotFound, TimedOut, Unsupported, from_failure
from tfserve.ipc.messages import (
    ACTIVE,
    DeclaredState,
    DeployJob,
    GetDeclared,
    JobRequest,
    JobState,
    JobStatus,
    ModelOptions,
    RetryDeclared,
    SubmitJob,
    UndeployJob,
    UpdateJob,
)
from tfserve.ipc.messages.declarations import MAX_IDLE_S
from tfserve.paths import without_folders
from tfserve.web.api.endpoint import Context
from tfserve.web.api.v2.requests import Parameters
from tfserve.web.api.workspace.names import workspace_name
from tfserve.web.database_reads import read
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.waking import SLEEPING

#: maximum seconds to wait for a model; most clients time out earlier
WAIT_S = 3600.0
STATES = {
    "loading": "LOADING", "active": "READY", "sleeping": "READY", "draining": "UNLOADING", "failed": "UNAVAILABLE"
}  # fmt: skip
"""A sleeping model is ready, because the next request is computed."""


ASLEEP = "sleeping: its processes start with the next request"


class StillLoading(TimedOut):
    """Model {name!r} was not {what} within {wait_s:g} s. Job {job} of its workspace is still running."""


async def index(context: Context, *, only_ready: bool) -> list[dict[str, str]]:
    """The models, one entry per version. Includes the last unloaded one, because it can be loaded again.

    Mistakes in the models file have an entry with its name.
    """
    declared = await context.line.ask(GetDeclared())
    # A version may be served twice for a moment.
    live = list(
        {(model.name, model.version, model.state): _entry(model, declared) for model in context.models}.values()
    )
    known = set(context.models.names())
    gone = [_gone(each) for each in await read(reads.last_deployments) if each.workspace.name not in known]
    return [each for each in live + gone + _of_file(declared) if each["state"] == "READY" or not only_ready]


def _of_file(declared: DeclaredState) -> list[dict[str, str]]:
    if declared.path is None or not declared.problems or PRINCIPAL.get().workspaces is not None:
        return []
    reason = "; ".join(map(str, declared.problems))
    return [{"name": PurePath(declared.path).name, "state": "UNAVAILABLE", "reason": without_folders(reason)}]


async def load(context: Context, name: str, parameters: Parameters) -> None:
    """Deploys the parameter `path`, or what was deployed last.

    A declared model is examined again. Raises errors of the request or the model, and `StillLoading` on timeout.
    """
    name = _model_name(name)
    with context.audit.action("load_v2_model", {"name": name}):
        await _load(context, name, parameters)


async def _load(context: Context, name: str, parameters: Parameters) -> None:
    _check(parameters)
    idle_after_s = _idle_after(parameters)
    if (path := await _path(context, parameters)) is not None:
        update = UpdateJob(path=path, idle_after_s=idle_after_s)
        deploy = DeployJob(path=path, options=ModelOptions(idle_after_s=idle_after_s))
        await _run(context, name, update if name in context.models.names() else deploy, "loaded")
        return
    if name in (await context.line.ask(GetDeclared())).declared:
        await context.line.ask(RetryDeclared(name=name))
        return
    last = await read(reads.last_deployment, name)
    if last is None:
        raise NotFound(
            f"No model was ever deployed in workspace {name!r}, so nothing can be loaded. POST /deploy/ first."
        )
    if name in context.models.names():
        await _run(context, name, UpdateJob(path=last.weights or last.path, idle_after_s=idle_after_s), "loaded")
        return
    options = msgspec.convert(last.options, ModelOptions)
    if idle_after_s is not msgspec.UNSET:
        options = msgspec.structs.replace(options, idle_after_s=idle_after_s)
    await _run(context, name, DeployJob(path=last.path, device=last.device, options=options), "loaded")
    if last.weights is not None:
        await _run(context, name, UpdateJob(path=last.weights), "loaded")


async def unload(context: Context, name: str) -> None:
    """Raises `NotFound` if it is not loaded. Requests in flight are completed first."""
    name = _model_name(name)
    with context.audit.action("unload_v2_model", {"name": name}):
        await _run(context, name, UndeployJob(), "unloaded")


async def _run(context: Context, name: str, request: JobRequest, what: str) -> None:
    status = await context.line.ask(
        SubmitJob(workspace=name, request=request.encode(), wait_s=WAIT_S, owner=PRINCIPAL.get().owner)
    )
    if status.state in ACTIVE:
        raise StillLoading(name=name, what=what, wait_s=WAIT_S, job=status.job)
    if status.state != JobState.SUCCEEDED:
        raise from_failure(_failure(status))


def _failure(status: JobStatus) -> Failure:
    if status.outcome is None or status.outcome.error is None:
        return Failure(
            code="unavailable", message=f"Job {status.job} of the workspace did not finish: it is {status.state}."
        )
    failure = msgspec.json.decode(status.outcome.error, type=Failure)
    return msgspec.structs.replace(failure, message=without_folders(failure.message))


def _model_name(name: str) -> str:
    """Raises `Invalid` for invalid names, in particular for paths."""
    if not name.strip(" ."):
        raise Invalid(f"{name!r} is not a valid model name.")
    return workspace_name(name)


def _check(parameters: Parameters) -> None:
    names = list(parameters or ())
    if files := [name for name in names if name.startswith("file:")]:
        raise Invalid(
            f"{files[0][:100]!r} would write a file on the server, which is not supported. POST /deploy/ with a path."
        )
    if "config" in names:
        raise Unsupported("'config' is not supported when loading a model. Configure the model with POST /deploy/.")


def _idle_after(parameters: Parameters) -> float | msgspec.UnsetType:
    """The parameter `idle_after`, as in `/deploy/`. Raises `Invalid`."""
    seconds = (parameters or {}).get("idle_after")
    if seconds is None:
        return msgspec.UNSET
    is_written = isinstance(seconds, int | float | str) and not isinstance(seconds, bool)
    found = written_numbers.finite(str(seconds)) if is_written else None  # gRPC has no numbers with fractions, but text
    if found is None or not 0 <= found <= MAX_IDLE_S:
        raise Invalid(f"the parameter 'idle_after' must be seconds, or 0 for never; got {str(seconds)[:80]!r}")
    return found


async def _path(context: Context, parameters: Parameters) -> str | None:
    """The parameter `path`, resolved: a path in a readable folder, or `upload:<id>`."""
    path = (parameters or {}).get("path")
    if path is None:
        return None
    if not isinstance(path, str):
        raise Invalid(f"the parameter 'path' must be a string, got {type(path).__name__}")
    return str(await context.path(path))


def _entry(model: Model, declared: DeclaredState) -> dict[str, str]:
    state = STATES[model.state]
    if state == "READY" and not model.is_ready:
        state = "UNAVAILABLE"
    version = {"version": str(model.version)} if model.info.id > 0 or model.version else {}
    reason = model.info.reason or (ASLEEP if model.state == SLEEPING else "")
    if not reason and model.name in declared.models and model.state == "active":
        reason = without_folders(" ".join(declared.models[model.name]))
    return {"name": model.name, **version, "state": state, "reason": reason}


def _gone(last: Deployment) -> dict[str, str]:
    reason = "unloaded" if last.state == Deployment.State.GONE else without_folders(last.reason, last.path)
    version = {} if last.version is None else {"version": str(last.version)}
    return {"name": last.workspace.name, **version, "state": "UNAVAILABLE", "reason": reason}
