"""The table of TensorFlow's operations by what they can reach: files, Python, the network.

One table serves the check of a model's files before it is loaded, and the guard of requests
(`tfserve.runtimes.side_effects`). Nothing of TensorFlow is imported here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

READS_FILES = "reads_files"
RESTORES_CHECKPOINTS = "restores_checkpoints"
UNKNOWN = "unknown"

WHAT = {
    READS_FILES: "reads files",
    RESTORES_CHECKPOINTS: "reads a checkpoint",
    "writes_files": "writes files",
    "calls_python": "calls Python code",
    "uses_network": "opens network connections",
    "runs_stored_programs": "runs a program that this check can't read",
    UNKNOWN: "has unknown effects: it is not in this server's table of operations",
}
"""What the operations of each category do, as the end of a sentence."""

_ALL = "*"
_FILE_STREAM = "file:"


class Unsafe(NamedTuple):
    """An operation that can reach outside the model.

    `inputs` are the positions of the inputs that select a file or server, None for all of them. `attribute` is the
    attribute with a file's name; without one in it, the operation only computes.
    """

    category: str
    inputs: tuple[int, ...] | None
    attribute: str = ""

    @property
    def what(self) -> str:
        return WHAT[self.category]


class OperationTable(NamedTuple):
    """All operations of TensorFlow: unsafe ones, those that only compute, and those of both that call functions."""

    unsafe: dict[str, Unsafe]
    computing: frozenset[str]
    calling: frozenset[str]

    def find(self, operation: str) -> Unsafe | None:
        """None for an operation that only computes; an unknown one is unsafe."""
        return None if operation in self.computing else self.unsafe.get(operation, Unsafe(UNKNOWN, None))


@cache
def table() -> OperationTable:
    with Path(__file__).with_name("tensorflow_operations.toml").open("rb") as file:
        content = tomllib.load(file)
    computing = frozenset(content.pop("computes")["operations"].split())
    calling = frozenset(content.pop("calls_functions")["operations"].split())
    unsafe = {
        name: _unsafe(category, selects) for category, group in content.items() for name, selects in group.items()
    }
    return OperationTable(unsafe, computing, calling)


def _unsafe(category: str, selects: Any) -> Unsafe:
    if isinstance(selects, list):
        return Unsafe(category, tuple(selects))
    return Unsafe(category, None) if selects == _ALL else Unsafe(category, (), selects)


def file_of_attribute(unsafe: Unsafe, attributes: Callable[[], Any]) -> str:
    """The file that an attribute names, which may be empty: then the operation does not use one."""
    read = attributes()
    value = str(bytes(read[unsafe.attribute].s), "utf-8", "replace") if unsafe.attribute in read else ""
    if unsafe.attribute == "output_stream":
        return value.removeprefix(_FILE_STREAM).removeprefix("//") if value.startswith(_FILE_STREAM) else ""
    return value
