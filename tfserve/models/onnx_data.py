"""Finds the files in which an ONNX file keeps its external data, without parsing it.

The search may find a text in the weights that only looks like a name.
`runtimes.operation_check` reads the graph itself.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path, PurePath

_LOCATION = re.compile(rb"\x0a\x08location\x12(.{1,2})", re.DOTALL)
"""The key `location` of external data, and the begin of its value."""
_MAX_NAME_BYTES = 255
"""Of one part of a path: Linux has no longer ones."""


def names(model: Path) -> set[str]:
    """The paths that the file names, relative to its folder and without those that leave it. Raises `OSError`."""
    if not model.stat().st_size:
        return set()
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = {_value(content, match) for match in _LOCATION.finditer(content)}
    return {str(PurePath(name)) for name in found if _is_inside(name)}


def _is_inside(name: str) -> bool:
    parts = PurePath(name).parts
    if not parts or "\0" in name or name.startswith("/") or ".." in parts:
        return False
    return all(len(part.encode("utf-8", "replace")) <= _MAX_NAME_BYTES for part in parts)


def _value(content: mmap.mmap, found: re.Match[bytes]) -> str:
    """A protobuf string with its length in one or two bytes."""
    length, begin = found[1][0], found.start(1) + 1
    if length & 0x80:
        length, begin = (length & 0x7F) | (found[1][-1] << 7), begin + 1
    return content[begin : begin + length].decode("utf-8", "replace")
