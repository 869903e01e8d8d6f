"""One server for one data folder."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tfserve.errors import Conflict

NAME = "server.lock"


class DataFolderInUse(Conflict):
    """The data folder {folder} is in use by another TFserve, pid {pid}. Stop that one (kill {pid}), or choose another \
folder with --data-dir or TFSERVE_DATA_DIR."""


@dataclass(frozen=True)
class Holder:
    """Who has, or had, the data folder: the pid in the lock file, and whether that server still lives."""

    is_alive: bool
    pid: int | None = None
    address: str = ""


class DataFolderLock:
    """Held from start to end; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / NAME).open("a+")
        if not _lock(self._file):
            found = _read(self._file, is_alive=True)
            self._file.close()
            raise DataFolderInUse(folder=str(folder), pid=found.pid or "unknown")
        self.write("")

    def write(self, address: str) -> None:
        """Tells others who has the folder, and where it answers."""
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n{address}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


def holder(folder: Path) -> Holder:
    """Who has the data folder now, or had it last and did not stop cleanly."""
    try:
        file = (folder / NAME).open("r")
    except FileNotFoundError:
        return Holder(is_alive=False)
    with file:
        return _read(file, is_alive=not _lock(file))


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _read(file: IO[str], *, is_alive: bool) -> Holder:
    file.seek(0)
    pid, _, address = file.read().partition("\n")
    return Holder(is_alive, int(pid) if pid.strip().isdigit() else None, address.strip())
