"""Makes the data folder private: folders are 0700 and files 0600.

The server's processes run with a umask of 077. Workers that run scripts return to the umask that the server was started
with, because scripts also write outside the data folder, where other users may need to read. Workers that train give
their results the permissions that this umask allows.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

UMASK = 0o077


def make_private(folder: Path) -> None:
    """Creates the data folder, or makes one of an earlier version private. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_shared(folder):
        return
    for path in folder.iterdir():  # always: `manage.py migrate` and backup tools use another umask
        _close(path)
    if not _is_open(folder):
        return
    _close(folder)
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            _close(Path(where, name))


def _is_shared(folder: Path) -> bool:
    """Whether it obviously has other uses: /tmp, the home folder, the folder that the server started in."""
    return bool(folder.stat().st_mode & stat.S_ISVTX) or folder in (
        Path(os.path.expanduser("~")), Path.cwd(), Path("/"),  # noqa: PTH111 (Path.home raises if it is missing)
    )  # fmt: skip


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & UMASK)


def _close(path: Path) -> None:
    with contextlib.suppress(OSError):  # gone, or of another user
        if not path.is_symlink() and _is_open(path):
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~UMASK)
