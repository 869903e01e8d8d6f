"""What was measured, as a table for people and as lines for docs/explanation/benchmarks.md."""

from __future__ import annotations

import os
import platform
import time

from rich.console import Console
from rich.table import Table

WIDE = 180
"""Columns of a table in a file or a pipe, where nothing is known about the width."""


def wide_console() -> Console:
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=WIDE)


Row = tuple[str, str, str]
"""What, measured, goal."""


def show(console: Console, rows: list[Row]) -> None:
    """The table, then the same as Markdown to be copied."""
    pretty = Table("what", "measured", "goal")
    for row in rows:
        pretty.add_row(*row)
    console.print(pretty)
    console.print(markdown(rows), highlight=False, soft_wrap=True, markup=False)


def markdown(rows: list[Row]) -> str:
    lines = [f"{os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}", ""]
    lines += ["| what | measured | goal |", "|---|---|---|"]
    return "\n".join(lines + [f"| {what} | {measured} | {goal} |" for what, measured, goal in rows])
