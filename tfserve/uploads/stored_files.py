"""Which files clients have stored in the folders of workspaces, so that quotas count them.

    workspaces/<id>/files/           the folder of the workspace
                    stored-files     a line for each file that was stored: owner, path, size

The lines are only appended. Scripts may remove or change files, so the lines are compared with the folder before a
quota refuses anything.
"""

from __future__ import annotations

import fcntl
import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

LEDGER = "stored-files"
MAX_LINES_PER_FILE, SPARE_LINES = 2, 1000
"""A ledger with more lines than this is shortened."""


class StoredFile(msgspec.Struct, array_like=True, frozen=True):
    """A line. `path` is relative to the folder of the workspace."""

    owner: str
    path: str
    size: int


_DECODER = msgspec.json.Decoder(StoredFile)


class StoredFiles:
    """Of all workspaces below `folder`. Methods raise `OSError`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, root: Path, owner: str, path: str, size: int) -> None:
        """Notes that a file was stored in the workspace whose folder is `root`."""
        line = msgspec.json.encode(StoredFile(owner, posixpath.normpath(path), size)) + b"\n"
        with _locked(root.parent / LEDGER, create=True) as ledger:
            ledger.seek(0, os.SEEK_END)
            ledger.write(line)

    def used_bytes(self) -> Counter[str]:
        """For each owner, the size of the files as they were stored."""
        used: Counter[str] = Counter()
        for ledger in self._ledgers():
            with suppress(FileNotFoundError), _locked(ledger) as opened:
                for each in _lines(opened).values():
                    used[each.owner] += each.size
        return used

    def recount(self) -> None:
        """Compares the lines with the folders: files that are gone do not count any more, others as they are now."""
        for ledger in self._ledgers():
            with suppress(FileNotFoundError), _locked(ledger) as opened:
                _rewrite(opened, _existing(ledger.parent / "files", _lines(opened)))

    def _ledgers(self) -> Iterator[Path]:
        return self._folder.glob(f"*/{LEDGER}")


@contextmanager
def _locked(file: Path, *, create: bool = False) -> Iterator[BinaryIO]:
    """Raises `FileNotFoundError`, also for a workspace that was destroyed meanwhile."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    with os.fdopen(descriptor, "r+b") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield opened


def _lines(ledger: BinaryIO) -> dict[str, StoredFile]:
    """The last line of each path. One that was cut off, by a full disk or a crash, does not count."""
    found: dict[str, StoredFile] = {}
    count = 0
    for line in ledger:
        with suppress(msgspec.MsgspecError):
            each = _DECODER.decode(line)
            found[each.path] = each
        count += 1
    if count > MAX_LINES_PER_FILE * len(found) + SPARE_LINES:
        _rewrite(ledger, list(found.values()))
    return found


def _existing(root: Path, lines: dict[str, StoredFile]) -> list[StoredFile]:
    existing = []
    for each in lines.values():
        with suppress(OSError):
            size = (root / each.path).lstat().st_size
            existing.append(msgspec.structs.replace(each, size=size))
    return existing


def _rewrite(ledger: BinaryIO, lines: list[StoredFile]) -> None:
    ledger.seek(0)
    ledger.truncate()
    ledger.writelines(msgspec.json.encode(each) + b"\n" for each in lines)
