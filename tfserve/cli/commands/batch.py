"""`tfserve batch`: runs a model over a file or a folder of images on the server, and writes the output here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tfserve.cli.commands.files import send
from tfserve.cli.display import Bar, note, show_done, show_json
from tfserve.cli.options import WholeNumber, workspace_names
from tfserve.cli.target import Target, complain, remote

if TYPE_CHECKING:
    from tfserve_client import Client

Format = Literal["jsonl", "csv"]
ON_SERVER = ("upload:", "workspace:")
WAIT_S = 2.0


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=workspace_names)
@click.argument("source", metavar="INPUT", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the output to this file.")
@click.option("--format", "output_format", type=click.Choice(["jsonl", "csv"]), help="Format of the output.  [jsonl]")
@click.option("--batch-size", type=WholeNumber(min=1), metavar="N", help="Rows that are computed together.  [1]")
@click.option("--max-errors", type=WholeNumber(min=0), metavar="N", help="Fail after more failed rows.  [no limit]")
@click.option("--continue", "known", type=int, metavar="ID", help="Follow a batch that was started before.")
@click.option("--resume", "resumed", type=int, metavar="ID", help="Continue a batch that failed or was cancelled.")
@click.option("--detach", is_flag=True, help="Print the id, and do not wait for the end.")
@remote
def batch(
    target: Target, model: str, source: str | None, output: Path | None, known: int | None, resumed: int | None,
    detach: bool, **options: Any,
) -> int:  # fmt: skip
    """Run a model over a file of JSON lines, a CSV file, or a folder of images, on the server.

    INPUT is uploaded, unless it begins with upload: or workspace:. The batch continues after any interruption, also
    when this command ends. The output goes to standard output, or to --output.
    """
    if [source, known, resumed].count(None) != 2:
        raise click.UsageError("Give an INPUT, or --continue or --resume with the id of a batch.")
    with target.client() as client:
        if resumed is not None:
            known = int(client.resume_batch(resumed, max_errors=options["max_errors"])["id"])
        elif source is not None:
            known = _start(target, client, model, source, output, options)
        assert known is not None
        if source is not None or resumed is not None:
            if detach:
                show_done(target.as_json, str(known), id=known)
                return 0
            note(f"batch {known}; `tfserve batch {model} --continue {known}` follows it again")
        return _follow(target, client, known, output)


def _start(
    target: Target, client: Client, model: str, source: str, output: Path | None, options: dict[str, Any]
) -> int:
    by_name: Format = "csv" if output is not None and output.suffix == ".csv" else "jsonl"
    chosen: Format = options.pop("output_format") or by_name
    if not source.startswith(ON_SERVER):
        if not Path(source).exists():
            raise click.BadParameter(f"{source!r} does not exist here", param_hint="INPUT")
        source = send(target, Path(source))
    return int(client.start_batch(model, source, output=chosen, **options)["id"])


def _follow(target: Target, client: Client, id_: int, output: Path | None) -> int:
    with Bar("waiting") as bar:
        while (found := client.batch(id_, wait=WAIT_S))["state"] in ("queued", "running"):
            bar.set(found["done"], found["total"], _activity(found))
    if output is not None:
        client.download_batch_output(id_, output)
        note(f"{output}: {found['done']} rows, {found['errors']} with errors")
    elif target.as_json:
        show_json(found)
    else:
        click.echo(client.read_batch_output(id_).data, nl=False)
    if found["state"] != "succeeded":
        complain((found["error"] or {}).get("message") or found["state"])
    return 0 if found["state"] == "succeeded" else 1


def _activity(found: dict[str, Any]) -> str:
    errors = f", {found['errors']} with errors" if found["errors"] else ""
    return f"{found['done']} of {found['total'] or '?'} rows{errors}"


COMMANDS = {"batch": batch}
