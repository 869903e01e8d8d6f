"""`tfserve run`, `push`, `jobs`, `logs` and `cancel`."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tfserve.cli.display import moment, note, show_done, show_json, show_table
from tfserve.cli.options import WholeNumber, read_script, workspace_option
from tfserve.cli.resource_options import RESOURCES
from tfserve.cli.target import Target, complain, remote

if TYPE_CHECKING:
    from tfserve_client import Client, Job

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS = ("id", "workspace", "job", "kind", "state", "created", "error")
STATES = ("queued", "running", "succeeded", "failed", "cancelled", "lost")
KINDS = ("script", "clear", "deploy", "update", "undeploy", "predict", "train", "deferred", "batch")
JOB = click.argument("job", metavar="JOB", type=int)


def _script(command: F) -> F:
    """The argument and options of a script that is submitted."""
    clear = click.option("--clear", is_flag=True, help="Delete all variables of the workspace first.")
    limit = click.option("--time-limit", metavar="SECONDS", type=float, help="Maximum run time of the script.")
    on_server = click.option("--on-server", is_flag=True, help="FILE is a path of the server, or upload:ID.")
    return click.argument("file", metavar="FILE")(on_server(clear(limit(RESOURCES(command)))))


@click.command()
@_script
@workspace_option("Workspace to run in; created if it is missing. Without it, a temporary one.")
@remote
def run(target: Target, file: str, workspace: str | None, **options: Any) -> int:
    """Run a script, and print its output while it runs. FILE is a local file, or - for standard input.

    The exit code is 0 if the script succeeded, 1 if it failed, 130 after Ctrl-C, which cancels the job.
    """
    with target.client() as client, _workspace(client, workspace) as name:
        with existing_workspace(client, name):
            job = _submit(client, name, file, **options)
        _follow(target, job)
        if target.as_json:
            show_json(summary(job))
        elif job.error is not None:
            complain(explained(job))
        return 0 if job.state == "succeeded" else 1


@click.command()
@_script
@workspace_option("Workspace to run in; created if it is missing.", required=True)
@click.option("--wait", metavar="SECONDS", type=float, default=0.0, help="Seconds to wait for the end of the job.  [0]")
@remote
def push(target: Target, file: str, workspace: str, wait: float, **options: Any) -> int:
    """Submit a script, and print its job. FILE is a local file, or - for standard input.

    `tfserve logs -f ID` follows its output.
    """
    with target.client() as client, existing_workspace(client, workspace):
        job = _submit(client, workspace, file, timeout=wait, **options)
    if target.as_json:
        show_json(summary(job))
    else:
        print(f"job {job.id}: number {job.job} of {workspace}, {job.state}")
        if job.error is not None:
            complain(explained(job))
    return 1 if job.finish and job.state != "succeeded" else 0


@click.command()
@workspace_option("Only the jobs of this workspace.")
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--kind", type=click.Choice(KINDS), help="Only jobs of this kind.")
@click.option("-n", "--limit", type=WholeNumber(1, 1000), default=20, metavar="N", help="Number of jobs.  [20]")
@remote
def jobs(target: Target, workspace: str | None, state: str | None, kind: str | None, limit: int) -> None:
    """List jobs, newest first."""
    with target.client() as client:
        found, total = client.jobs(workspace, state=state, kind=kind, limit=limit)
    if target.as_json:
        show_json(found)
        return
    show_table(COLUMNS, [_row(each) for each in found])
    if total > len(found):
        note(f"{len(found)} of {total} jobs; --limit shows more")


@click.command()
@JOB
@click.option("-f", "--follow", is_flag=True, help="Follow the output until the job has ended.")
@remote
def logs(target: Target, job: int, follow: bool) -> None:
    """Print the output of a job."""
    with target.client() as client:
        if follow:
            for text in client.follow_output(job):
                _write_output(target, text)
        else:
            _write_output(target, client.read_output(job).data.decode(errors="replace"))


@click.command()
@JOB
@remote
def cancel(target: Target, job: int) -> None:
    """Cancel a queued or running job, and print its final state."""
    with target.client() as client:
        found = client.find_job(job)
        if not found.finish:
            found.cancel()
    if target.as_json:
        show_json(summary(found))
    else:
        print(f"job {job}: {found.state}")


@click.command()
@JOB
@remote
def repeat(target: Target, job: int) -> None:
    """Run a deferred prediction or a batch again, from the beginning, and print the id of the new job."""
    with target.client() as client:
        found = client.repeat_job(job)
    show_done(target.as_json, str(found["id"]), **found)


# --- parts, also for other commands


@contextmanager
def existing_workspace(client: Client, name: str) -> Iterator[None]:
    """Creates a workspace if it is missing, and removes it if what it was created for is refused and it has no job."""
    import tfserve_client as errors

    created = False
    if name not in client.get_workspace():
        with suppress(errors.Conflict):  # it was created meanwhile
            client.create_workspace(name)
            created = True
    is_kept = True
    try:
        yield
    except (
        click.UsageError, errors.Invalid, errors.Forbidden, errors.NotFound, errors.Conflict, errors.TooLarge,
        errors.Unsupported, errors.Overloaded, errors.OutOfSpace,
    ):  # fmt: skip
        is_kept = not created or not _removed_unused(client, name)
        raise
    finally:
        if created and is_kept:
            note(f"created workspace {name}")


def _removed_unused(client: Client, name: str) -> bool:
    """Not if it has jobs: others may have found and used it meanwhile."""
    import tfserve_client as errors

    try:
        status = client.get_status(name)
        if status["FIN_JOB_NUM"] >= 0 or status["JOB_COUNT"] or status["STATUS"] == "BUSY":
            return False
        client.destroy_workspace(name)
    except errors.TFserveError:
        return False
    return True


def summary(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    error = None if job.error is None else {name: value for name, value in vars(job.error).items() if value is not None}
    return {
        "workspace": job.workspace, "job": job.job, "id": job.id, "state": job.state, "result": job.result,
        "error": error,
    }  # fmt: skip


def explained(job: Job) -> str:
    """Why a job failed, with the traceback of a script."""
    assert job.error is not None
    error = job.error
    if error.traceback:
        return f"job {job.id} {job.state}\n{error.traceback.rstrip()}"
    return f"job {job.id} {job.state}: {error.message}"


@contextmanager
def _workspace(client: Client, name: str | None) -> Iterator[str]:
    """The workspace of this name, or one that is destroyed afterwards."""
    if name is not None:
        yield name
        return
    name = client.create_workspace(f"run-{secrets.token_hex(4)}")
    try:
        yield name
    finally:
        client.destroy_workspace(name)


def _submit(client: Client, name: str, file: str, *, on_server: bool, timeout: float = 0, **options: Any) -> Job:
    if on_server:
        return client.push_file(name, file, timeout=timeout, **options)
    return client.push_script(name, read_script(file), timeout=timeout, **options)


def _follow(target: Target, job: Job) -> None:
    """Prints the output up to the end of the job. Ctrl-C, or the end of the program that reads it, cancels the job."""
    try:
        for text in job.output():
            _write(text, to_errors=target.as_json)
    except (KeyboardInterrupt, BrokenPipeError):
        note(f"job {job.id}: {job.cancel()}")
        raise click.Abort from None


def _write_output(target: Target, text: str) -> None:
    """With --json, a line of JSON for each piece."""
    _write(json.dumps({"output": text}, ensure_ascii=False) + "\n" if target.as_json else text)


def _write(text: str, *, to_errors: bool = False) -> None:
    stream = sys.stderr if to_errors else sys.stdout
    stream.write(text)
    stream.flush()


def _row(job: dict[str, Any]) -> list[Any]:
    error = (job["error"] or {}).get("message", "")
    created = moment(job["created_at"])
    return [job["id"], job["workspace"], job["job"], job["kind"], job["state"], created, error]


COMMANDS = {"run": run, "push": push, "jobs": jobs, "logs": logs, "cancel": cancel, "repeat": repeat}
