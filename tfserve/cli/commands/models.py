"""`tfserve models`, `deploy`, `update`, `undeploy` and `scale`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tfserve.cli.commands.files import send
from tfserve.cli.commands.jobs import existing_workspace, explained, summary
from tfserve.cli.display import activity, note, show_fields, show_json, show_table
from tfserve.cli.options import Number, WholeNumber, workspace_names
from tfserve.cli.resource_options import RESOURCES, autoscale_option
from tfserve.cli.target import Target, complain, remote

if TYPE_CHECKING:
    from tfserve_client import Job

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

COLUMNS = ("name", "version", "state", "runtime", "format", "signatures")
ON_SERVER = ("upload:", "task:")
"""How paths begin that are never local."""
WAIT_S = 600.0

MODEL = click.argument("model", metavar="MODEL", shell_complete=workspace_names)
WAIT = click.option(
    "--timeout", metavar="SECONDS", type=float, default=WAIT_S, help=f"Seconds to wait for the end.  [{WAIT_S:.0f}]"
)


IDLE_AFTER = click.option(
    "--idle-after", type=Number(min=0), metavar="SECONDS",
    help="Release its processes after this time without a prediction, until the next one; 0: never.",
)  # fmt: skip


PLACEMENT = click.option(
    "--placement", type=click.Choice(("spread", "pack")), help="Replicas on different nodes, or on as few as possible."
)


@click.command()
@click.argument("model", required=False, metavar="[MODEL]", shell_complete=workspace_names)
@remote
def models(target: Target, model: str | None) -> None:
    """List the deployed models, or describe one."""
    with target.client() as client:
        if model is None:
            found = client.models()
        else:
            described = {**client.model(model), "signatures": client.signatures(model)}
    if target.as_json:
        show_json(found if model is None else described)
    elif model is None:
        show_table(COLUMNS, [[_shown(each)[column] for column in COLUMNS] for each in found])
    else:
        _describe(described)


def _shown(model: dict[str, Any]) -> dict[str, Any]:
    """A sleeping model is available for clients, but people want to know that it sleeps."""
    return {**model, "state": "sleeping"} if model.get("sleeping") else model


def _path(command: F) -> F:
    """The path of a model, which is on this machine or on the server."""
    option = click.option(
        "--upload/--no-upload", default=None,
        help="Upload PATH, or send its name.  [default: upload if the server can't read it]",
    )  # fmt: skip
    return click.argument("path", metavar="PATH")(option(command))


@click.command()
@MODEL
@_path
@click.option("--runtime", metavar="NAME", help="auto, tensorflow, openvino, litert or onnxruntime.")
@click.option("--replicas", type=WholeNumber(min=1), metavar="N", help="Number of processes that serve it.")
@click.option("--precision", metavar="TYPE", help="Precision, such as bf16.")
@click.option("--max-batch-size", type=WholeNumber(min=1), metavar="N", help="Rows that are computed together.")
@click.option(
    "--computations",
    type=WholeNumber(min=1),
    metavar="N",
    help="Batches that are computed at once at load.  [default: as many as pay off]",
)
@click.option("--device", metavar="NAME", help="Device, such as /gpu:0.  [/cpu:0]")
@IDLE_AFTER
@PLACEMENT
@RESOURCES
@autoscale_option()
@WAIT
@remote
def deploy(target: Target, model: str, path: str, upload: bool | None, timeout: float, **options: Any) -> int:
    """Deploy a model. MODEL is the workspace, created if it is missing; its name is that of the model.

    PATH is a SavedModel folder, a model file (.keras, .h5, .onnx, .tflite, …), upload:ID, or task:ID for the result of
    a training.
    """
    given = {name: value for name, value in options.items() if value is not None}
    with target.client() as client, activity("deploying"), existing_workspace(client, model):
        job = with_path(target, path, upload, lambda sent: client.deploy(model, sent, timeout=timeout, **given))
    return _report(target, job, f"{model} is deployed")


@click.command()
@MODEL
@_path
@click.option("--replicas", type=WholeNumber(min=1), metavar="N", help="Number of processes that serve it.")
@IDLE_AFTER
@PLACEMENT
@RESOURCES
@autoscale_option(can_turn_off=True)
@WAIT
@remote
def update(target: Target, model: str, path: str, upload: bool | None, timeout: float, **options: Any) -> int:
    """Swap a new version into a deployed model, without dropping a request. What is not given stays as deployed."""
    given = {name: value for name, value in options.items() if value is not None}
    with target.client() as client, activity("updating"):
        job = with_path(target, path, upload, lambda sent: client.update(model, sent, timeout=timeout, **given))
    return _report(target, job, f"{model} is updated")


@click.command()
@MODEL
@WAIT
@remote
def undeploy(target: Target, model: str, timeout: float) -> int:
    """Unload a model and release its memory. Its workspace stays."""
    with target.client() as client, activity("unloading"):
        job = client.undeploy(model, timeout=timeout)
    return _report(target, job, f"{model} is undeployed")


@click.command()
@MODEL
@click.argument("replicas", type=WholeNumber(min=1), metavar="[N]", required=False)
@autoscale_option(can_turn_off=True)
@remote
def scale(target: Target, model: str, replicas: int | None, autoscale: dict[str, Any] | bool | None) -> None:
    """Change the number of processes that serve a model, or its autoscaling, without interruption."""
    if replicas is None and autoscale is None:
        raise click.UsageError("Give N, or --autoscale.")
    with target.client() as client, activity("scaling"):
        client.scale(model, replicas, autoscale=autoscale)
    if target.as_json:
        show_json({"name": model, "replicas": replicas, "autoscale": autoscale})
    elif replicas is not None:
        print(f"{model} is served by {replicas} process{'es' if replicas > 1 else ''}")
    else:
        print(f"{model} is scaled by its load" if autoscale else f"{model} keeps its number of processes")


def with_path(target: Target, path: str, upload: bool | None, submit: Callable[[str], T]) -> T:
    """Submits the path of a file or folder. Uploads it if the server, such as one in a container, can't read it."""
    from tfserve_client import Forbidden, Invalid

    try:
        return submit(_path_on_server(target, path, upload))
    except (Forbidden, Invalid) as error:
        if upload is not None or "roots" not in error.detail or not Path(path).exists():
            raise
        note("The server can't read this path, so the files are uploaded.")
        return submit(send(target, Path(path)))


def _path_on_server(target: Target, path: str, upload: bool | None) -> str:
    """The path that the server gets: of an upload, or of the file if it is on the same machine."""
    local = Path(path)
    if path.startswith(ON_SERVER) or upload is False or not (local.exists() or upload):
        return path
    if upload or not target.is_on_this_machine:
        if not local.exists():
            raise click.BadParameter(f"{path!r} does not exist.", param_hint="PATH")
        return send(target, local)
    return str(local.resolve())


def _report(target: Target, job: Job, done: str) -> int:
    if target.as_json:
        show_json(summary(job) | job.details)
    elif job.error is not None:
        complain(explained(job))
    elif not job.finish:
        complain(f"job {job.id} still runs after the timeout; `tfserve logs -f {job.id}` follows it")
    else:
        version = job.details.get("version")
        print(f"{done}{f': version {version}' if version else ''}")
        for remark in job.details.get("remarks") or []:
            note(f"remark: {remark}")
    return 0 if job.state == "succeeded" else 1


def _describe(model: dict[str, Any]) -> None:
    show_fields({name: model.get(name) for name in ("name", "versions", "platform")})
    for title in ("inputs", "outputs"):
        print(f"\n{title}")
        show_table(
            ("name", "type", "shape"), [[each["name"], each["datatype"], each["shape"]] for each in model[title]]
        )
    for remark in (model.get("parameters") or {}).get("remarks", []):
        print(f"remark: {remark}")


COMMANDS = {"models": models, "deploy": deploy, "update": update, "undeploy": undeploy, "scale": scale}
