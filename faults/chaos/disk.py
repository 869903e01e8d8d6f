"""A small file system for the data folder, which can be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = "160m"
BLOCKS = (2**20, 4096)


class Disk:
    """A folder; `may_fill` if it is a file system of its own."""

    def __init__(self, folder: Path, *, may_fill: bool) -> None:
        self.folder = folder
        self.may_fill = may_fill
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Takes all the room that is left."""
        with self._filler.open("wb", buffering=0) as file:
            for block in BLOCKS:
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * block)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Where mounting is not permitted, a plain folder that is never filled."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield Disk(folder, may_fill=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)
