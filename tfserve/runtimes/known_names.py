"""All names that TensorFlow knows of a model, kept beside what was converted from it.

A faster runtime knows a signature only. With these names it can tell a typing error, which it refuses itself, from a
collection or an inner tensor, for which TensorFlow has to be started.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import msgspec

FILE = "known_names.msgpack"


class KnownNames(msgspec.Struct, frozen=True):
    """`names` are collections, inputs and outputs of signatures; `operations` have so many outputs each."""

    signatures: frozenset[str]
    names: frozenset[str]
    operations: dict[str, int]

    def has(self, name: str, signature: str) -> bool:
        """Whether TensorFlow can find out what the name means in this signature."""
        if signature not in self.signatures:
            return False
        operation, _, position = name.partition(":")
        outputs = self.operations.get(operation, -1)
        if name in self.names or (outputs >= 0 and not position):
            return True
        return len(position) < 10 and position.isdecimal() and int(position) < outputs

    def write(self, folder: Path) -> None:
        (folder / FILE).write_bytes(msgspec.msgpack.encode(self))


def of_graph(graph: Any, signatures: dict[str, Any], default: str) -> KnownNames:
    """Of a graph of TensorFlow. The `default` signature may always be asked for, with names of the graph."""
    collections = {key for key in graph.get_all_collection_keys() if isinstance(key, str)}
    names = {spec.name for each in signatures.values() for spec in (*each.inputs, *each.outputs)}
    operations = {operation.name: len(operation.outputs) for operation in graph.get_operations()}
    return KnownNames(frozenset({*signatures, default}), frozenset(collections | names), operations)


def read(folder: Path) -> KnownNames | None:
    """None when there are none, or they are damaged: then TensorFlow has to be asked."""
    try:
        return msgspec.msgpack.decode((folder / FILE).read_bytes(), type=KnownNames)
    except (OSError, msgspec.DecodeError):
        return None


def copy(source: Path, to: Path) -> None:
    """Copies them, if there are any."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source / FILE, to / FILE)
