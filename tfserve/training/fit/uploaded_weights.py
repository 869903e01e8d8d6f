"""The weights that a form brings, on their way to the worker. Needs no numpy, since the supervisor keeps them."""

from __future__ import annotations

from pathlib import Path

HDF5 = b"\x89HDF\r\n\x1a\n"
OLD_SUFFIX = ".h5"
UPLOADED = "weights"


def keep(folder: Path, data: bytes) -> Path:
    """Writes an uploaded file into `folder`, without parsing it, which only workers do. Raises `OSError`."""
    file = folder / (UPLOADED + (OLD_SUFFIX if data.startswith(HDF5) else ".pth"))
    file.write_bytes(data)
    return file
