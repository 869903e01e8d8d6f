"""Finds unsafe operations in LiteRT files: those of TensorFlow, which such a file calls by the prefix Flex.

LiteRT's own operations only compute. It has no other custom operations than those it is built with.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tfserve.runtimes.flatbuffer import FlatbufferTable
from tfserve.runtimes.operation_check.findings import Finding
from tfserve.runtimes.operation_check.operations import UNKNOWN, table

_FLEX = "Flex"


def of_file(file: Path) -> list[Finding]:
    """The unsafe operations. A damaged file has none: LiteRT refuses it."""
    found = []
    for code in _custom_codes(file):
        unsafe = table().find(code.removeprefix(_FLEX)) if code.startswith(_FLEX) else None
        if unsafe is not None and unsafe.category != UNKNOWN:
            found.append(Finding(code, "operator code", "", unsafe.what))
    return found


def _custom_codes(file: Path) -> list[str]:
    try:
        return [code.text(1) for code in FlatbufferTable.root(memoryview(file.read_bytes())).tables(1)]
    except (ValueError, IndexError, struct.error):
        return []
