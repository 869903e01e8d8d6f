"""All names that TensorFlow knows in a model, stored next to its conversions.

A faster runtime knows a signature only. With these names it can distinguish a typing error, which it rejects itself,
from a collection or an inner tensor, for which TensorFlow has to be started.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import msgspec

FILE = "known_names.msgpack"


class KnownNames(msgspec.Struct, frozen=True):
    """`names` are collections, inputs and outputs of signatures; `operations` has their numbers of outputs."""

    signatures: frozenset[str]
    names: frozenset[str]
    operations: dict[str, int]

    def has(self, name: str, signature: str) -> bool:
        """Whether TensorFlow can resolve the name in this signature."""
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
    """Of a graph of TensorFlow. The `default` signature may always be requested, with names of the graph."""
    collections = {key for key in graph.get_all_collection_keys() if isinstance(key, str)}
    names = {spec.name for each in signatures.values() for spec in (*each.takes, *each.outputs)}
    operations = {operation.name: len(operation.outputs) for operation in graph.get_operations()}
    return KnownNames(frozenset({*signatures, default}), frozenset(collections | names), operations)


def read(folder: Path) -> KnownNames | None:
    """None when the file is missing or damaged: then TensorFlow must resolve names."""
    try:
        return msgspec.msgpack.decode((folder / FILE).read_bytes(), type=KnownNames)
    except (OSError, msgspec.DecodeError):
        return None


def copy(source: Path, to: Path) -> None:
    """Copies them, if there are any."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source / FILE, to / FILE)
