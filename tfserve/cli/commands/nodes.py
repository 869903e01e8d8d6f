"""`tfserve nodes`."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import click

from tfserve.cli.display import moment, show_json, show_table
from tfserve.cli.target import Target, remote

COLUMNS = ("name", "address", "state", "cpus", "gpus", "memory", "workers", "version", "since", "runs")
GIB = 2**30


@click.command()
@remote
def nodes(target: Target) -> None:
    """List the machines that run workers, with what is free, and what runs there."""
    with target.client() as client:
        found = client.nodes()
    if target.as_json:
        show_json(found)
    else:
        show_table(COLUMNS, [_row(each) for each in found])


def _row(node: dict[str, Any]) -> list[Any]:
    since = datetime.datetime.fromtimestamp(node["since"], datetime.UTC).isoformat() if node["since"] else None
    counts = Counter(f"{each['role']} {each['name']}".rstrip() for each in node["runs"])
    runs = ", ".join(name if count == 1 else f"{name} × {count}" for name, count in counts.items())
    return [
        node["name"], node["address"], node["state"], _free(node, "cpu"), _free(node, "gpu"),
        _free(node, "memory", GIB), node["workers"], node["version"], moment(since) if since else "",
        runs or node["reason"],
    ]  # fmt: skip


def _free(node: dict[str, Any], resource: str, unit: int = 1) -> str:
    """What is free of how much: `6/8`."""
    total = node["resources"].get(resource, 0.0) / unit
    free = node["free"].get(resource, 0.0) / unit
    return f"{free:.4g}/{total:.4g}{' GiB' if unit == GIB else ''}" if total else "–"


COMMANDS = {"nodes": nodes}
