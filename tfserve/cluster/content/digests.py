"""The digests of files that were hashed before, so that the second deployment of a model hashes nothing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SETTLED_NS = 100_000_000
"""A file that changed this recently may change again without another time stamp: its digest is not kept."""
KEPT_S = 90 * 24 * 3600
BUSY_S = 5.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS digests (
  path TEXT PRIMARY KEY, inode INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, size INTEGER, digest BLOB, used_at REAL
) WITHOUT ROWID
"""


class Stamp(NamedTuple):
    """A file that has not changed has the same."""

    inode: int
    mtime_ns: int
    ctime_ns: int
    size: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        return cls(stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)

    @property
    def is_settled(self) -> bool:
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > SETTLED_NS


class Digests:
    """Several processes may share the file. It is only a cache: without it, files are hashed again."""

    def __init__(self, file: Path | None = None) -> None:
        """Without a `file`, digests are only kept in memory."""
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        for place in [str(file)] * (file is not None) + [":memory:"]:
            with contextlib.suppress(sqlite3.Error, OSError):
                self._database = _opened(place)
                break

    def below(self, root: Path) -> dict[str, tuple[Stamp, bytes]]:
        """The known digests of a file, or of all files below a folder."""
        rows: list[tuple[object, ...]] = []
        with self._lock, contextlib.suppress(sqlite3.Error):
            assert self._database is not None
            rows = self._database.execute(
                "SELECT path, inode, mtime_ns, ctime_ns, size, digest FROM digests"
                " WHERE path = ? OR (path > ? AND path < ?)",
                (str(root), f"{root}/", f"{root}0"),  # 0 follows the slash
            ).fetchall()
        return {str(path): (Stamp(*stamp), digest) for path, *stamp, digest in rows}  # type: ignore[misc, arg-type]

    def remember(self, found: Iterable[tuple[str, Stamp, bytes]]) -> None:
        now = time.time()
        rows = [(path, *stamp, digest, now) for path, stamp, digest in found if stamp.is_settled]
        with self._lock, contextlib.suppress(sqlite3.Error):
            assert self._database is not None
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
                self._database.execute("DELETE FROM digests WHERE used_at < ?", (now - KEPT_S,))

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()


def _opened(place: str) -> sqlite3.Connection:
    if place != ":memory:":
        Path(place).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = sqlite3.connect(place, timeout=BUSY_S, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database
