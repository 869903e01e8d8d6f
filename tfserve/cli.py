"""The command line. A command's modules are imported when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Train, run and serve TensorFlow models over plain HTTP and JSON.", no_args_is_help=True, add_completion=False
)


def serve(arguments: Sequence[str], *, prog: str = "tfserve serve") -> int:
    """Runs the server until it is stopped; returns the exit code."""
    from tfserve.config import from_arguments
    from tfserve.supervisor.main import main as run

    return run(from_arguments(arguments, prog))


@app.command(
    "serve",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def serve_command(context: typer.Context) -> None:
    """Start the server in the foreground. `tfserve serve --help` lists the options."""
    raise typer.Exit(serve(context.args))


@app.command("train")
def train_command(
    folder: Annotated[Path, typer.Argument(help="Project folder.", exists=True, file_okay=False, resolve_path=True)],
    train_type: Annotated[
        str, typer.Option("--type", help="Task type: classification, segmentation or detection.")
    ] = "classification",
    parameter: Annotated[
        list[str] | None, typer.Option("--set", help="Training parameter as name=value; repeatable.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="ID", help="Resume a training that was cancelled or that failed.")
    ] = None,
) -> None:
    """Train on a project folder without a server. Ctrl-C cancels and keeps the best checkpoint, so you can resume."""
    from tfserve.commands.train import train

    chosen = dict(_parameter(train_type.lower(), text) for text in parameter or [])
    raise typer.Exit(train(folder, train_type.lower(), chosen, resume))


def _parameter(train_type: str, text: str) -> tuple[str, Any]:
    """`epochs=5` → a name and a value."""
    from tfserve.training.parameters import parsed

    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"expected name=value, got {text!r}")
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
