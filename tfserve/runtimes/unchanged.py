"""Whether the files of a model are still those that it was loaded from: only then may they be read again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tfserve.errors import Invalid

MAX_FILES = 1000

Versions = dict[str, tuple[int, int, int, int]]


class ModelFiles:
    """The files next to or below a path, as they are now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._versions = _versions(path)

    def check(self) -> None:
        """Raises `Invalid` if a file has changed. Call it before reading the files again, and after."""
        if not self._versions or _versions(self._path) != self._versions:
            raise Invalid(f"The files of {self._path} have changed since it was loaded. Update the deployment.")


def _versions(path: Path) -> Versions:
    """Empty if that is unknown."""
    found: Versions = {}
    try:
        for file in _files(path):
            if len(found) >= MAX_FILES:
                return {}
            stat = file.stat()
            # A further link to a file, as in the cache of a node, changes its ctime, but nothing else.
            changed_ns = stat.st_ctime_ns if stat.st_nlink == 1 else 0
            found[str(file)] = stat.st_ino, stat.st_size, stat.st_mtime_ns, changed_ns
    except OSError:
        return {}
    return found


def _files(path: Path) -> Iterator[Path]:
    """Weights may be in other files of the same folder."""
    if not path.is_dir():
        yield from (file for file in path.parent.iterdir() if file.is_file())
        return
    for folder, _, names in os.walk(path):
        yield from (Path(folder, name) for name in names)
