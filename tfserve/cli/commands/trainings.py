"""`tfserve train`, on this machine or on a server, and `tfserve trainings`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tfserve.cli.commands.models import with_path
from tfserve.cli.display import Bar, note, show_done, show_fields, show_json, show_table
from tfserve.cli.groups import CommandGroup
from tfserve.cli.options import Parameter
from tfserve.cli.resource_options import RESOURCES
from tfserve.cli.target import Target, complain, remote, reported, target_options

if TYPE_CHECKING:
    from tfserve_client import Client

COLUMNS = ("id", "state", "progress", "type", "project", "message")
DONE, CANCELLED = "done", "cancelled"
CODES = {DONE: 0, CANCELLED: 130}

ID = click.argument("id", metavar="ID")


@click.command()
@click.argument("folder", metavar="FOLDER")
@click.option(
    "--type", "train_type", default="classification", metavar="TYPE",
    help="classification, segmentation or detection (classification)",
)  # fmt: skip
@click.option(
    "--set", "parameters", type=Parameter(), multiple=True, metavar="NAME=VALUE",
    help="training parameter; repeatable",
)  # fmt: skip
@click.option("--resume", metavar="ID", help="resume a training that was cancelled or that failed")
@click.option("--remote", "on_server", is_flag=True, help="train on the server; implied by --server")
@click.option(
    "--upload/--no-upload", default=None,
    help="with --remote: upload FOLDER, or send its name  [upload if the server can't read it]",
)  # fmt: skip
@click.option("--project", metavar="ID", help="with --remote: id of the project  [name of the folder]")
@click.option("--deploy-to", metavar="NAME", help="with --remote: workspace that gets the model")
@RESOURCES
@click.option("--detach", is_flag=True, help="with --remote: print the id, and do not wait for the end")
@target_options
@click.pass_obj
def train(target: Target, /, folder: str, train_type: str, resume: str | None, on_server: bool, **options: Any) -> int:
    """Train on a project folder: without a server, or with --server or --remote on one.

    Ctrl-C cancels and keeps the best checkpoint, so you can resume.
    """
    chosen = dict(options.pop("parameters"))
    if on_server or target.server is not None:
        code: int = reported(target, lambda: _remote(target, folder, train_type.lower(), chosen, resume, **options))
        return code
    if options["resources"]:
        raise click.UsageError("--resource is for a training on a server: give --remote or --server too.")
    return _local(_existing(folder), train_type.lower(), chosen, resume)


def _local(folder: Path, train_type: str, chosen: dict[str, str], resume: str | None) -> int:
    from tfserve.cli.train import train as train_here
    from tfserve.errors import TFserveError

    try:
        return train_here(folder, train_type, _parsed(train_type, chosen), resume)
    except TFserveError as error:
        complain(error.message)
        return 1


def _parsed(train_type: str, chosen: dict[str, str]) -> dict[str, Any]:
    """The values of parameters, from their text."""
    from tfserve.training.recipes.parameters import parsed

    return {name: parsed(train_type, name, value) for name, value in chosen.items()}


def _existing(folder: str) -> Path:
    path = Path(folder)
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        raise click.BadParameter(f"{folder!r} {problem}", param_hint="FOLDER")
    return path.resolve()


def _remote(
    target: Target, folder: str, train_type: str, chosen: dict[str, str], resume: str | None, *,
    upload: bool | None, project: str | None, deploy_to: str | None, detach: bool, resources: dict[str, Any] | None,
) -> int:  # fmt: skip
    with target.client() as client:
        if resume is not None:
            task = client.resume_training(resume)
        else:
            parameters = {name: _value(text) for name, text in chosen.items()}
            name = project or Path(folder).name

            def start(path: str) -> dict[str, Any]:
                return client.train(
                    path, train_type, parameters=parameters, project_id=name, deploy_to=deploy_to, resources=resources
                )

            task = with_path(target, folder, upload, start)
        if detach:
            show_done(target.as_json, task["taskId"], **task)
            return 0
        note(f"training {task['taskId']}")
        return _follow(target, client, task["taskId"], cancel=True)


def _value(text: str) -> Any:
    """A number or truth value if the text is one. The server checks it."""
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _follow(target: Target, client: Client, task_id: str, *, cancel: bool) -> int:
    """Shows the progress up to the end of a training. With `cancel`, Ctrl-C cancels it."""
    task: dict[str, Any] = {}
    try:
        with Bar("waiting", total=100, estimates=False) as bar:
            for task in client.follow_training(task_id):
                bar.set(task["progress"], description=f"{_left(task)}{task.get('message') or task['state']}")
    except KeyboardInterrupt:
        if not cancel:
            raise
        task = client.cancel_training(task_id)
    return _report(target, task)


def _left(task: dict[str, Any]) -> str:
    seconds = task.get("eta") or 0
    return f"{seconds / 60:.0f} min left, " if seconds >= 100 else f"{seconds:.0f} s left, " if seconds else ""


def _report(target: Target, task: dict[str, Any]) -> int:
    if target.as_json:
        show_json(task)
    elif task["state"] == DONE:
        metrics = {name: value for name, value in task["metrics"].items() if isinstance(value, (int, float, str))}
        show_fields({**metrics, "model": task["modelPath"]})
        note(f"tfserve deploy NAME task:{task['taskId']} deploys it")
    else:
        complain(task.get("error") or task["state"])
        note(f"tfserve trainings resume {task['taskId']} continues from the best checkpoint")
    return CODES.get(task["state"], 1)


# --- tfserve trainings


@click.group(cls=CommandGroup, invoke_without_command=True)
@target_options
@click.pass_context
def trainings(context: click.Context) -> int | None:
    """List, follow, finish, cancel and resume trainings of a server. Without a command, lists them."""
    if context.invoked_subcommand is None:
        code: int | None = context.invoke(list_)
        return code
    return None


@trainings.command("list")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, metavar="N", help="Number of trainings.  [20]")
@remote
def list_(target: Target, limit: int = 20) -> None:
    """List the trainings, newest first."""
    with target.client() as client:
        found, total = client.trainings(limit=limit)
    if target.as_json:
        show_json(found)
        return
    show_table(COLUMNS, [_row(each) for each in found])
    if total > len(found):
        note(f"{len(found)} of {total} trainings; --limit shows more")


def _row(task: dict[str, Any]) -> list[Any]:
    message = task.get("error") or task.get("message")
    return [
        task["taskId"], task["state"], f"{task['progress']:.0f} %", task["trainType"], task["projectId"], message
    ]  # fmt: skip


@trainings.command()
@ID
@remote
def show(target: Target, id: str) -> None:  # noqa: A002
    """Print what is known of a training."""
    with target.client() as client:
        task = client.training(id)
    if target.as_json:
        show_json(task)
    else:
        show_fields(task)


@trainings.command()
@ID
@remote
def follow(target: Target, id: str) -> int:  # noqa: A002
    """Show the progress of a training until it has ended."""
    with target.client() as client:
        return _follow(target, client, id, cancel=False)


@trainings.command()
@ID
@remote
def cancel(target: Target, id: str) -> None:  # noqa: A002
    """Cancel a training. Its best checkpoint is kept."""
    with target.client() as client:
        task = client.cancel_training(id)
    show_done(target.as_json, f"{id}: {task['state']}", **task)


@trainings.command()
@ID
@remote
def finish(target: Target, id: str) -> int:  # noqa: A002
    """End a training early. It delivers its best model so far."""
    with target.client() as client:
        client.finish_training(id)
        return _follow(target, client, id, cancel=False)


@trainings.command()
@ID
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@remote
def resume(target: Target, id: str, detach: bool) -> int:  # noqa: A002
    """Continue a training that failed or was cancelled from its last checkpoint."""
    with target.client() as client:
        task = client.resume_training(id)
        if not detach:
            return _follow(target, client, id, cancel=True)
    show_done(target.as_json, task["taskId"], **task)
    return 0


@trainings.command()
@ID
@remote
def metrics(target: Target, id: str) -> None:  # noqa: A002
    """Print the metrics of the model."""
    with target.client() as client:
        found = client.training_metrics(id)
    if target.as_json:
        show_json(found)
    else:
        show_fields(found)


@trainings.command()
@ID
@click.argument("path", default="", metavar="[PATH]")
@click.argument("destination", required=False, type=click.Path(path_type=Path), metavar="[DESTINATION]")
@remote
def download(target: Target, id: str, path: str, destination: Path | None) -> None:  # noqa: A002
    """Download a file of the result to the local file or folder DESTINATION. Without PATH, lists the files."""
    with target.client() as client:
        if not path or path.endswith("/"):
            found = client.list_artifacts(id, path.rstrip("/"))
            show_done(target.as_json, "\n".join(found), files=found)
            return
        file = destination or Path()
        file = file / Path(path).name if file.is_dir() else file
        size = client.download_artifact(id, path, file)
    if target.as_json:
        show_json({"file": str(file), "size": size})
    else:
        note(f"{file}: {size} bytes")


COMMANDS = {"train": train, "trainings": trainings}
