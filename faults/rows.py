"""The faults of faults.toml: what is done to the server, what must be observed, and which tests do it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
TESTS = REPOSITORY / "tests"
SECTIONS = {
    "http": "HTTP and JSON", "tensors": "Tensors", "models": "Models", "jobs": "Jobs and workspaces",
    "model_jobs": "Deferred predictions and batches", "training": "Training", "security": "Security",
    "observed": "Observed failures",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """`tests` are `file::function` below tests/."""

    section: str
    fault: str
    expected: str
    tests: list[str] = field(default_factory=list)


def load(words: str = "") -> list[Row]:
    """The rows, or those whose section, fault or tests contain the words."""
    content: dict[str, list[dict[str, Any]]] = tomllib.loads(Path(__file__).with_name("faults.toml").read_text())
    rows = [Row(SECTIONS[section], **each) for section, rows in content.items() for each in rows]
    return [row for row in rows if words.lower() in f"{row.section} {row.fault} {' '.join(row.tests)}".lower()]
