"""One command tree. A command's modules are imported when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


def serve(arguments: Sequence[str], *, prog: str = "tfserve serve") -> int:
    """Runs the server until it is stopped; returns the exit code."""
    from tfserve.config import from_arguments
    from tfserve.supervisor.main import main as run

    return run(from_arguments(arguments, prog))


#: What follows such a command is parsed by the settings' own parser.
_ALL_SETTINGS: dict[str, Any] = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "add_help_option": False,
}


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, run and serve TensorFlow models over plain HTTP and JSON."""


@app.command("serve", **_ALL_SETTINGS)
def serve_command(context: typer.Context) -> None:
    """Start the server: supervisor, web and a warm spare. `tfserve serve --help` lists the options."""
    raise typer.Exit(serve(context.args))


@app.command("start", **_ALL_SETTINGS)
def start_command(context: typer.Context) -> None:
    """Start the server in the background. Port 2333 serves the training API; `--port` chooses another."""
    raise typer.Exit(_in_background("start", context))


@app.command("stop", **_ALL_SETTINGS)
def stop_command(context: typer.Context) -> None:
    """Stop the server that runs in the background, when its running jobs have ended."""
    raise typer.Exit(_in_background("stop", context))


@app.command("restart", **_ALL_SETTINGS)
def restart_command(context: typer.Context) -> None:
    """Stop the server that runs in the background, and start it again."""
    raise typer.Exit(_in_background("restart", context))


@app.command("status", **_ALL_SETTINGS)
def status_command(context: typer.Context) -> None:
    """Print whether the server runs. Exit code: 0 if it does, 3 if it was stopped, 1 if it was killed."""
    raise typer.Exit(_in_background("status", context))


def _in_background(action: str, context: typer.Context) -> int:
    from tfserve import daemon

    return daemon.main([action, *context.args], prog="tfserve")


@app.command("train")
def train_command(
    folder: Annotated[
        Path, typer.Argument(help="The project's folder.", exists=True, file_okay=False, resolve_path=True)
    ],
    train_type: Annotated[
        str, typer.Option("--type", help="classification, segmentation or detection.")
    ] = "classification",
    parameter: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter as name=value; may be repeated.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="ID", help="Go on with a training that was cancelled or died.")
    ] = None,
) -> None:
    """Train on a project folder, without a server. Ctrl-C cancels; the best checkpoint is kept, to go on from."""
    from tfserve.commands.train import train

    chosen = dict(_parameter(train_type.lower(), text) for text in parameter or [])
    raise typer.Exit(train(folder, train_type.lower(), chosen, resume))


def _parameter(train_type: str, text: str) -> tuple[str, Any]:
    """`epochs=5` → a name and a value."""
    from tfserve.training.parameters import parsed

    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"name=value was expected, {text!r} was given")
    return name, parsed(train_type, name, value)


@app.command()
def version() -> None:
    """Print the version."""
    from tfserve import __version__

    typer.echo(__version__)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
