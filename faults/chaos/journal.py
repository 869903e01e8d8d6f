"""What a client meant to do and what was acknowledged: JSON lines that are on disk before the client continues."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Threads may share one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"at": time.monotonic(), "event": event, **fields}).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of all journals in a folder, each with its `client`."""
    for path in sorted(folder.glob("*.journal")):
        for line in path.read_bytes().splitlines():
            yield {"client": path.stem, **json.loads(line)}
