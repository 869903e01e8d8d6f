"""`tfserve node`: makes this machine a node of a cluster."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from tfserve.cli.options import setting_option
from tfserve.config import Settings

OWN_SETTINGS = (
    "host", "port", "grpc_port", "web_processes", "tls_cert", "tls_key", "tls_client_ca", "tls_self_signed",
    "allowed_hosts", "trusted_proxies", "access_log",
)  # fmt: skip
"""The settings of a node's own ports. The head's settings decide the rest."""


def _own_settings(command: Any) -> Any:
    for each in reversed([each for each in fields(Settings) if each.name in OWN_SETTINGS]):
        command = setting_option(each)(command)
    return command


@click.command()
@click.argument("heads", metavar="HEAD:PORT[,STANDBY:PORT]")
@click.option("--token", envvar="TFSERVE_JOIN_TOKEN", metavar="TOKEN", help="join token of the head; needed once")
@click.option("--name", metavar="NAME", help="name of the node (default: that of the machine)")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=".tfserve-node", metavar="FOLDER",
    help="folder of the node: certificate, logs, copies of files ('.tfserve-node')",
)  # fmt: skip
@click.option("--address", metavar="ADDRESS", help="address at which the other machines reach this one")
@click.option("--ray/--no-ray", "with_ray", default=True, help="run Ray; off where KubeRay or another does")
@_own_settings
def node(heads: str, token: str | None, name: str | None, folder: Path, address: str | None, with_ray: bool,
         **given: Any) -> int:  # fmt: skip
    """Make this machine a node of a cluster. HEAD:PORT is the address of its head, and of each standby.

    The node runs models and jobs for the head. It answers predictions for every model of the cluster, and forwards all
    other requests to the head.
    """
    from tfserve.cluster.heads import Heads
    from tfserve.errors import Invalid
    from tfserve.node.main import NodeOptions, main

    settings = {name: value for name, value in given.items() if value is not None}
    try:
        found = Heads(heads)
    except Invalid as error:
        raise click.UsageError(error.message) from None
    return main(NodeOptions(found, folder.resolve(), token, name, address, with_ray, settings))


COMMANDS = {"node": node}
