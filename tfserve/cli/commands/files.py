"""`tfserve files`, `upload` and `uploads`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tfserve.cli.display import Bar, note, show_done, show_json, show_table
from tfserve.cli.groups import CommandGroup
from tfserve.cli.options import workspace_argument
from tfserve.cli.target import Target, remote, target_options

if TYPE_CHECKING:
    from tfserve_client import Client

PAGE = 1000
LOCAL = click.Path(exists=True, path_type=Path)


@click.group(cls=CommandGroup)
@target_options
def files() -> None:
    """List, read, write and delete the files of a workspace."""


@files.command()
@workspace_argument
@click.argument("path", default="", metavar="[PATH]")
@remote
def ls(target: Target, workspace: str, path: str) -> None:
    """List a folder of a workspace."""
    entries: list[dict[str, object]] = []
    with target.client() as client:
        total = 1
        while len(entries) < total:
            page = client.list_files(workspace, path, limit=PAGE, offset=len(entries))
            entries += page["entries"]
            total = page["total"] if page["entries"] else 0
    if target.as_json:
        show_json(entries)
    else:
        show_table(("name", "type", "size"), [[each["name"], each["type"], each["size"]] for each in entries])


@files.command()
@workspace_argument
@click.argument("path")
@click.argument("destination", required=False, metavar="[DESTINATION]")
@remote
def get(target: Target, workspace: str, path: str, destination: str | None) -> None:
    """Download a file of a workspace. DESTINATION is a local file or folder, or - for standard output."""
    with target.client() as client:
        if destination == "-":
            sys.stdout.buffer.write(client.get_file(workspace, path))
            return
        file = Path(destination or ".")
        file = file / Path(path).name if file.is_dir() else file
        size = client.download_file(workspace, path, file)
    if target.as_json:
        show_json({"file": str(file), "size": size})
    else:
        note(f"{file}: {size} bytes")


@files.command()
@workspace_argument
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("path", required=False, metavar="[PATH]")
@remote
def put(target: Target, workspace: str, file: Path, path: str | None) -> None:
    """Store a local file in a workspace, replacing the file of the same PATH."""
    with target.client() as client:
        stored = client.put_file(workspace, path or file.name, file)
    if target.as_json:
        show_json(stored)
    else:
        print(f"{stored['path']}: {stored['size']} bytes")


@files.command()
@workspace_argument
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="Delete a folder with all that is in it.")
@remote
def rm(target: Target, workspace: str, path: str, recursive: bool) -> None:
    """Delete a file or folder of a workspace."""
    with target.client() as client:
        client.delete_file(workspace, path, recursive=recursive)
    show_done(target.as_json, f"{path} is deleted", deleted=path)


@click.command()
@click.argument("path", type=LOCAL)
@click.option("--name", metavar="NAME", help="Name of the upload.  [default: that of the file]")
@click.option("--unpack/--no-unpack", default=True, help="Unpack .zip, .tar, .tar.gz and .tgz files.  [yes]")
@click.option("--resume", metavar="ID", help="Continue an earlier upload of the same file.")
@remote
def upload(target: Target, path: Path, name: str | None, unpack: bool, resume: str | None) -> None:
    """Upload a file or folder, and print its path on the server.

    `deploy`, `push --on-server` and `train` accept the path, also followed by /PATH inside of a folder or archive.
    """
    found = send(target, path, name=name, unpack=unpack, resume=resume)
    if target.as_json:
        show_json({"path": found})
    else:
        print(found)


def send(target: Target, path: Path, *, name: str | None = None, unpack: bool = True, resume: str | None = None) -> str:
    """Uploads with a progress bar, and returns `upload:<id>`."""
    from tfserve_client import TFserveError

    with target.client() as client, Bar(f"uploading {path.name}") as bar:
        try:
            return client.upload(path, name=name, unpack=unpack, resume=resume, progress=bar.set)
        except (KeyboardInterrupt, TFserveError):
            with suppress(TFserveError):
                options = [*(["--name", name] if name else ()), *(() if unpack else ["--no-unpack"])]
                options += ["--server", target.server] if target.server else ()
                _say_how_to_continue(client, path, name or path.name, options)
            raise


def _say_how_to_continue(client: Client, path: Path, name: str, options: Sequence[str]) -> None:
    sent = f"{name or path.resolve().name}.tar" if path.is_dir() else name
    found = [each for each in client.list_uploads()["uploads"] if each["name"] == sent]
    if found and found[-1]["state"] == "receiving" and found[-1]["offset"]:
        command = shlex.join(["tfserve", "upload", str(path), *options, "--resume", found[-1]["id"]])
        note(f"`{command}` continues this upload.")


@click.group(cls=CommandGroup, invoke_without_command=True)
@target_options
@click.pass_context
def uploads(context: click.Context) -> int | None:
    """List and delete uploads. Without a command, lists them."""
    if context.invoked_subcommand is None:
        code: int | None = context.invoke(list_)
        return code
    return None


@uploads.command("list")
@remote
def list_(target: Target) -> None:
    """List your uploads."""
    with target.client() as client:
        found = client.list_uploads()["uploads"]
    if target.as_json:
        show_json(found)
    else:
        columns = ("path", "name", "state", "offset", "size")
        show_table(columns, [[each[column] for column in columns] for each in found])


@uploads.command("rm")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@remote
def rm_upload(target: Target, ids: tuple[str, ...]) -> None:
    """Delete uploads that nothing uses."""
    with target.client() as client:
        for each in ids:
            client.delete_upload(each)
            show_done(target.as_json, f"{each} is deleted", deleted=each)


COMMANDS = {"files": files, "upload": upload, "uploads": uploads}
