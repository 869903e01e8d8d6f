"""Ensures that only one server uses a data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from tfserve.errors import Conflict

NAME = "server.lock"
ATTEMPTS, RETRY_S = 10, 0.02
MAX_CHARACTERS = 1000
_PID = re.compile(r"[0-9]{1,9}")


class DataFolderInUse(Conflict):
    """The data folder {folder} is in use by another TFserve, pid {pid}. Stop that one (kill {pid}), or choose another \
folder with --data-dir or TFSERVE_DATA_DIR."""


@dataclass(frozen=True)
class Holder:
    """The server that has or had the data folder: the pid in the lock file, and whether it still runs."""

    is_alive: bool
    pid: int | None = None
    address: str = ""


class DataFolderLock:
    """Held for the lifetime of the server; the kernel releases it when the process ends for any reason.

    The folder itself is locked, because the lock file can be deleted. The file is locked too, for earlier versions, and
    contains the pid and address of the server.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._file = _open(folder, "a+")
        if not (_lock_patiently(self._folder_fd) and _lock_patiently(self._file.fileno())):
            pid = _read(self._file, is_alive=True).pid or _pid_of_lock(self._folder_fd)
            self._file.close()
            os.close(self._folder_fd)
            raise DataFolderInUse(folder=str(folder), pid=pid or "unknown")
        self.write("")

    def write(self, address: str) -> None:
        """Writes the pid and the address of this server, for others."""
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n{address}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()
        os.close(self._folder_fd)


def holder(folder: Path) -> Holder:
    """The server that has the data folder now, or that had it last and did not stop cleanly."""
    try:
        folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # it is missing or unreadable, which is reported when a server starts
        return Holder(is_alive=False)
    try:
        is_alive = not _lock(folder_fd)
        with _open(folder, "r") as file:
            found = _read(file, is_alive=not _lock(file.fileno()) or is_alive)
        # A server that was refused has created a deleted file again, empty.
        return replace(found, pid=_pid_of_lock(folder_fd)) if is_alive and found.pid is None else found
    except OSError:  # the file was deleted
        return Holder(is_alive=is_alive, pid=_pid_of_lock(folder_fd) if is_alive else None)
    finally:
        os.close(folder_fd)


def _pid_of_lock(fd: int) -> int | None:
    """The process that holds a lock on the file according to the kernel; None if it is not found."""
    inode = str(os.fstat(fd).st_ino)
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and fields[5].rpartition(":")[2] == inode and int(fields[4]) > 0:
                return int(fields[4])
    return None


def _open(folder: Path, mode: str) -> IO[str]:
    return (folder / NAME).open(mode, encoding="utf-8", errors="replace")


def _lock_patiently(fd: int) -> bool:
    """Retries, because a status request also holds the lock for an instant."""
    for _ in range(ATTEMPTS):
        if _lock(fd):
            return True
        time.sleep(RETRY_S)
    return False


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False


def _read(file: IO[str], *, is_alive: bool) -> Holder:
    file.seek(0)
    pid, _, address = file.read(MAX_CHARACTERS).partition("\n")
    return Holder(is_alive, int(pid) if _PID.fullmatch(pid.strip()) else None, address.strip())
