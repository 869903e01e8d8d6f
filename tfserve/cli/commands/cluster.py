"""`tfserve cluster`: what the head of a cluster needs on the command line."""

from __future__ import annotations

from typing import Any

import click

from tfserve.cli.groups import CommandGroup
from tfserve.cli.options import data_dir_option, settings_of


@click.group(cls=CommandGroup)
def cluster() -> None:
    """Print the join token of a cluster."""


@cluster.command()
@data_dir_option
def token(**given: Any) -> None:
    """Print the join token of this head: with it, `tfserve node` makes other machines nodes of the cluster.

    The token is made when it is first needed, so you can print it before the head starts. Run this on the head, as the
    user of the server.
    """
    settings = settings_of(given)
    from tfserve.cluster.identity import Authority

    print(Authority.open(settings.data_path / "cluster").join_token())


COMMANDS = {"cluster": cluster}
