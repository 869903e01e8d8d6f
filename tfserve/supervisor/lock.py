"""One server for one data folder."""

from __future__ import annotations

import fcntl
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tfserve.errors import Conflict

NAME = "server.lock"
LOOKS, LOOK_AGAIN_S = 10, 0.02
MAX_CHARACTERS = 1000
_PID = re.compile(r"[0-9]{1,9}")


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
        self._file = _open(folder, "a+")
        if not _lock_patiently(self._file):
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
        file = _open(folder, "r")
    except OSError:  # there is none, or nobody could have taken it: who starts a server is told why
        return Holder(is_alive=False)
    with file:
        return _read(file, is_alive=not _lock(file))


def _open(folder: Path, mode: str) -> IO[str]:
    return (folder / NAME).open(mode, encoding="utf-8", errors="replace")


def _lock_patiently(file: IO[str]) -> bool:
    """Whoever asks for the status holds the lock, too: for an instant."""
    for _ in range(LOOKS):
        if _lock(file):
            return True
        time.sleep(LOOK_AGAIN_S)
    return False


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _read(file: IO[str], *, is_alive: bool) -> Holder:
    file.seek(0)
    pid, _, address = file.read(MAX_CHARACTERS).partition("\n")
    return Holder(is_alive, int(pid) if _PID.fullmatch(pid.strip()) else None, address.strip())
