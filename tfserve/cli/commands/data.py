"""`tfserve backup` and `tfserve restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tfserve.cli.options import data_dir_option, settings_of

file = click.argument("file", type=click.Path(path_type=Path), metavar="FILE")


@click.command()
@file
@data_dir_option
def backup(file: Path, **given: Any) -> int:
    """Save the data of a server to one file, also while the server runs."""
    settings = settings_of(given)
    from tfserve.cli import backup

    return backup.backup(file, settings)


@click.command()
@file
@data_dir_option
def restore(file: Path, **given: Any) -> int:
    """Restore a backup into an empty data folder."""
    settings = settings_of(given)
    from tfserve.cli import backup

    return backup.restore(file, settings)


COMMANDS = {"backup": backup, "restore": restore}
