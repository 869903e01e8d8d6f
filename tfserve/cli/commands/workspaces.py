"""`tfserve workspaces` and `tfserve variables`."""

from __future__ import annotations

from typing import Any

import click

from tfserve.cli.display import show_done, show_json, show_table, showing_each_done
from tfserve.cli.groups import CommandGroup
from tfserve.cli.options import workspace_argument, workspace_names
from tfserve.cli.resource_options import RESOURCES
from tfserve.cli.target import Target, remote, target_options

COLUMNS = ("name", "state", "queued", "model", "memory")
MIB = 2**20


@click.group(cls=CommandGroup, invoke_without_command=True)
@target_options
@click.pass_context
def workspaces(context: click.Context) -> int | None:
    """List, create, restart and destroy workspaces. Without a command, lists them."""
    if context.invoked_subcommand is None:
        code: int | None = context.invoke(list_)
        return code
    return None


@workspaces.command("list")
@remote
def list_(target: Target) -> None:
    """List the workspaces of the server."""
    with target.client() as client:
        found = client.server()["workspaces"]
    if target.as_json:
        show_json(found)
        return
    rows = [
        [
            each["name"],
            each["state"],
            each["JOB_COUNT"],
            (each["deployment"] or {}).get("state", ""),
            f"{each['memory_bytes'] / MIB:.0f} MiB",
        ]
        for each in found
    ]
    show_table(COLUMNS, rows)


@workspaces.command()
@click.argument("name", required=False)
@click.option("--thread", is_flag=True, help="A thread of a shared process, instead of a process of its own.")
@click.option("--memory", metavar="SIZE", help="Memory of each process with everything it starts, such as 2GiB.")
@click.option("--job-time", metavar="SECONDS", type=float, help="Seconds that a script may run.")
@RESOURCES
@remote
def create(
    target: Target, name: str | None, thread: bool, memory: str | None, job_time: float | None,
    resources: dict[str, Any] | None,
) -> None:  # fmt: skip
    """Create a workspace and print its name (random when none is given)."""
    limits = {name: value for name, value in {"memory": memory, "job_time": job_time}.items() if value is not None}
    with target.client() as client:
        made = client.create_workspace(name, type=1 if thread else 0, limits=limits or None, resources=resources)
    show_done(target.as_json, made, name=made)


@workspaces.command()
@workspace_argument
@remote
def restart(target: Target, workspace: str) -> None:
    """Restart a workspace: cancels the running job, deletes the variables, keeps queue and model."""
    with target.client() as client:
        client.restart_workspace(workspace)
    show_done(target.as_json, f"{workspace} is restarted", restarted=workspace)


@workspaces.command()
@click.argument("names", metavar="[WORKSPACE]...", nargs=-1, shell_complete=workspace_names)
@click.option("--all", "every", is_flag=True, help="Destroy all workspaces.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before --all.")
@remote
def destroy(target: Target, names: tuple[str, ...], every: bool, yes: bool) -> int:
    """Destroy workspaces with their jobs, files and models."""
    if bool(names) == every:
        raise click.UsageError("Name the workspaces to destroy, or give --all.")
    if every and not yes and not click.confirm("Destroy all workspaces with their jobs, files and models?"):
        return 1
    with target.client() as client, showing_each_done(target.as_json, "destroyed") as note_done:
        if every:
            names = tuple(client.get_workspace())
            client.destroy_workspace()
        for name in names:
            if not every:
                client.destroy_workspace(name)
            note_done(name, f"{name} is destroyed")
    return 0


@click.command()
@workspace_argument
@click.argument("names", metavar="[NAME]...", nargs=-1)
@remote
def variables(target: Target, workspace: str, names: tuple[str, ...]) -> None:
    """Print the variables of a workspace: all, or those with the given names."""
    with target.client() as client:
        found = client.get_variable(workspace, [*names] or None)
    if target.as_json:
        show_json(found)
    else:
        show_table(("name", "value"), [*found.items()])


COMMANDS = {"workspaces": workspaces, "variables": variables}
