"""The faults of faults.toml: what is done to the server, what must be observed, and which tests do it."""

from __future__ import annotations

import functools
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
TESTS = REPOSITORY / "tests"
SECTIONS = {
    "http": "HTTP and JSON", "tensors": "Tensors", "models": "Models", "jobs": "Jobs and workspaces",
    "training": "Training", "security": "Security", "observed": "Observed failures",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """`tests` are `file::function` below tests/. `needs` is an option without which the server can't have the fault."""

    section: str
    fault: str
    expected: str
    tests: list[str] = field(default_factory=list)
    needs: str = ""

    @property
    def missing(self) -> str:
        """Why the row can't run yet; empty if it can."""
        if self.needs and self.needs not in server_options():
            return f"not built yet: the server has no {self.needs}"
        return "" if self.tests else "no test"


@functools.cache
def server_options() -> str:
    command = [sys.executable, "-m", "tfserve.cli", "serve", "--help"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def load(words: str = "") -> list[Row]:
    """The rows, or those whose section, fault or tests contain the words."""
    content: dict[str, list[dict[str, Any]]] = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())
    rows = [Row(SECTIONS[section], **each) for section, rows in content.items() for each in rows]
    return [row for row in rows if words.lower() in f"{row.section} {row.fault} {' '.join(row.tests)}".lower()]
