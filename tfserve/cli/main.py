"""The command line: which commands there are, and what every one of them has in common."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from tfserve.cli.groups import CommandGroup
from tfserve.cli.target import Target, complain, global_options, ignore_output

INTERRUPTED = 130


class CommandEntry(NamedTuple):
    """Where a command is, and its line in the help. Its module is imported when it runs."""

    module: str
    summary: str


SECTIONS: dict[str, dict[str, CommandEntry]] = {
    "Server": {
        "serve": CommandEntry("server", "Start the server in the foreground."),
        "start": CommandEntry("server", "Start the server in the background."),
        "stop": CommandEntry(
            "server", "Stop the server that runs in the background, when its running jobs have ended."
        ),
        "restart": CommandEntry("server", "Stop the server that runs in the background, and start it again."),
        "status": CommandEntry("server", "Print whether the server runs."),
        "node": CommandEntry("node", "Make this machine a node of a cluster."),
        "cluster": CommandEntry("cluster", "Print the join token of a cluster."),
        "nodes": CommandEntry("nodes", "List the machines that run workers, with what is free, and what runs there."),
        "token": CommandEntry("tokens", "Create, list, rotate and revoke access tokens."),
        "backup": CommandEntry("data", "Save the data of a server to one file, also while the server runs."),
        "restore": CommandEntry("data", "Restore a backup into an empty data folder."),
        "doctor": CommandEntry("doctor", "Check this machine, and say what to install or do."),
    },
    "Workspaces and jobs": {
        "workspaces": CommandEntry("workspaces", "List, create, restart and destroy workspaces."),
        "run": CommandEntry("jobs", "Run a script, and print its output while it runs."),
        "push": CommandEntry("jobs", "Submit a script, and print its job."),
        "jobs": CommandEntry("jobs", "List jobs, newest first."),
        "logs": CommandEntry("jobs", "Print the output of a job."),
        "cancel": CommandEntry("jobs", "Cancel a queued or running job."),
        "repeat": CommandEntry("jobs", "Run a deferred prediction or a batch again."),
        "variables": CommandEntry("workspaces", "Print the variables of a workspace."),
        "files": CommandEntry("files", "List, read, write and delete the files of a workspace."),
        "upload": CommandEntry("files", "Upload a file or folder, and print its path on the server."),
        "uploads": CommandEntry("files", "List and delete uploads."),
    },
    "Models": {
        "models": CommandEntry("models", "List the deployed models, or describe one."),
        "deploy": CommandEntry("models", "Deploy a model."),
        "update": CommandEntry("models", "Swap a new version into a deployed model, without dropping a request."),
        "undeploy": CommandEntry("models", "Unload a model and release its memory."),
        "scale": CommandEntry("models", "Change the number of processes that serve a model."),
        "predict": CommandEntry("predict", "Run a model on JSON, arrays, images, or a folder of images."),
        "batch": CommandEntry("batch", "Run a model over a file of JSON lines, a CSV file, or a folder of images."),
    },
    "Training": {
        "train": CommandEntry("trainings", "Train on a project folder, on this machine or on a server."),
        "trainings": CommandEntry("trainings", "List, follow, finish, cancel and resume trainings of a server."),
    },
    "Other": {
        "completion": CommandEntry("shell", "Print the script that completes commands in your shell."),
        "version": CommandEntry("shell", "Print the version."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class Commands(CommandGroup):
    """Commands that are imported when they run, so that `tfserve --help` stays fast."""

    names: Sequence[str] = tuple(COMMANDS)

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in self.names:
            return None
        module = importlib.import_module(f"tfserve.cli.commands.{COMMANDS[name].module}")
        command: click.Command = module.COMMANDS[name]
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.names))
        for title, section in SECTIONS.items():
            rows = [(name.ljust(width), entry.summary) for name, entry in section.items() if name in self.names]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Background(Commands):
    """Only the commands for the server in the background."""

    names = ("start", "stop", "restart", "status")


@click.command(
    cls=Commands,
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no server, 130 interrupted.",
)
@global_options
def tfserve() -> None:
    """Train, run and serve TensorFlow models over plain HTTP and JSON."""


@click.command(cls=Background)
def background() -> None:
    """Run the server in the background."""


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """`tfserve`: returns the exit code."""
    return _run(tfserve, "tfserve", arguments)


def runserver(arguments: Sequence[str]) -> int:
    """`manage.py runserver`, the same as `tfserve serve`."""
    from tfserve.cli.commands import server

    return _run(server.COMMANDS["serve"], "manage.py runserver", arguments, without_arguments=())


def daemon(arguments: Sequence[str]) -> int:
    """`server.py`: only the commands for the server in the background."""
    return _run(background, "server.py", arguments)


def _run(
    command: click.Command, prog: str, arguments: Sequence[str], *, without_arguments: Sequence[str] = ("--help",)
) -> int:
    """Commands return their exit code, None for success."""
    _print_anything()
    try:
        code = command.main(
            [*(arguments or without_arguments)], prog_name=prog, standalone_mode=False, obj=Target(),
            complete_var="_TFSERVE_COMPLETE",
        )  # fmt: skip
        sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        ignore_output()
        return 0
    except OSError as error:
        where = error.filename or "standard output"  # the last flush, to a full disk
        complain(f"{where} can't be used: {error.strerror or error}")
        ignore_output()
        return 1
    return code if isinstance(code, int) else 0


def _print_anything() -> None:
    """Where Python would end with a traceback: letters that the terminal has no code for are printed as escapes, and
    what is printed to a closed stream is discarded."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
