"""`tfserve doctor`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tfserve.cli.display import show_json
from tfserve.cli.options import data_dir_option, settings_of
from tfserve.cli.target import Target, target_options

SIGNS = {"ok": "✓", "warning": "!", "problem": "✗"}
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@data_dir_option
@target_options
@click.pass_obj
def doctor(target: Target, data_dir: str | None) -> int:
    """Check this machine, and say what to install or do.

    Checks Python and the packages, the runtimes, GPU, memory, the data folder, and the ports. The exit code is 1 if
    something is missing that the server needs.
    """
    from tfserve.cli.checkup import Level, checkup

    settings = settings_of({"data_dir": data_dir})
    diagnoses = checkup(settings, Path(sys.prefix))
    if target.as_json:
        show_json([each._asdict() for each in diagnoses])
    else:
        for each in diagnoses:
            sign = click.style(SIGNS[each.level], fg=COLOURS[each.level])
            click.echo(f"{sign} {each.name}: {each.text}", color=False if os.environ.get("NO_COLOR") else None)
            if each.advice:
                click.echo(f"    {each.advice}")
    return 1 if any(each.level == Level.PROBLEM for each in diagnoses) else 0


COMMANDS = {"doctor": doctor}
