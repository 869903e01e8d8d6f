"""One server for one data folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tfserve.errors import Conflict


class DataFolderInUse(Conflict):
    """The data folder {folder} is in use by another TFserve, pid {pid}. Stop that one (kill {pid}), or choose another \
folder with --data-dir or TFSERVE_DATA_DIR."""


class DataFolderLock:
    """Held from start to end; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "server.lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            pid = self._file.read().strip() or "unknown"
            self._file.close()
            raise DataFolderInUse(folder=str(folder), pid=pid) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()
