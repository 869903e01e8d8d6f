"""Events of the file system (inotify): calls back when an entry of a watched folder changes.

A library for this (watchfiles) wakes up twenty times per second while nothing changes. This does not.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x4, 0x8, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF = 0x100, 0x200, 0x400, 0x800
IN_IGNORED, IN_Q_OVERFLOW, IN_ONLYDIR = 0x8000, 0x4000, 0x01000000
MASK = (
    IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
    | IN_ONLYDIR
)  # fmt: skip
HEADER = struct.Struct("iIII")
READ_BYTES = 64 * 1024
NO_WATCHES_LEFT = "the limit of watched folders is reached (sysctl fs.inotify.max_user_watches), so changes in some \
folders are not noticed"


class FileEvents:
    """Watches any number of folders, without their subfolders."""

    def __init__(self, on_change: Callable[[set[Path] | None], None]) -> None:
        """Calls `on_change` with the folders that changed, or None if events were lost."""
        self.problem = ""
        self._on_change = on_change
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), f"inotify: {os.strerror(ctypes.get_errno())}")
        #: several paths may lead to one folder
        self._paths: dict[int, set[Path]] = {}
        self._watched: dict[Path, int] = {}
        asyncio.get_running_loop().add_reader(self._file, self._read)

    def watch(self, folders: Iterable[Path]) -> None:
        """Watches exactly these folders. Missing ones are left out."""
        chosen = set(folders)
        for folder in set(self._watched) - chosen:
            self._remove(folder)
        self.problem = ""
        for folder in chosen:
            self._add(folder)

    def renew(self, folders: Iterable[Path]) -> None:
        """Watches some of the folders again, at whose paths there may be others by now."""
        for folder in folders:
            self._add(folder)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._file)
        os.close(self._file)

    def _add(self, folder: Path) -> None:
        number = self._libc.inotify_add_watch(self._file, os.fsencode(folder), MASK)
        if number < 0:
            if ctypes.get_errno() == errno.ENOSPC:
                self.problem = NO_WATCHES_LEFT
            self._remove(folder)
        elif self._watched.get(folder) != number:
            self._remove(folder)
            self._watched[folder] = number
            self._paths.setdefault(number, set()).add(folder)

    def _remove(self, folder: Path) -> None:
        number = self._watched.pop(folder, None)
        if number is None:
            return
        paths = self._paths.get(number, set())
        paths.discard(folder)
        if not paths:
            self._paths.pop(number, None)
            self._libc.inotify_rm_watch(self._file, number)

    def _read(self) -> None:
        changed: set[Path] = set()
        try:
            data = os.read(self._file, READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = HEADER.unpack_from(data, at)
            at += HEADER.size + length
            if mask & IN_Q_OVERFLOW:
                self._on_change(None)
                return
            changed |= self._paths.get(number, set())
            if mask & IN_IGNORED:  # the folder is gone
                for path in self._paths.pop(number, ()):
                    self._watched.pop(path, None)
        if changed:
            self._on_change(changed)
