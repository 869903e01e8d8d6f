"""One command tree. A command's modules are imported when it runs."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Start the server: supervisor, web and a warm spare. `tfserve serve --help` lists the options."""
    raise typer.Exit(serve(context.args))


@app.command()
def version() -> None:
    """Print the version."""
    from tfserve import __version__

    typer.echo(__version__)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
