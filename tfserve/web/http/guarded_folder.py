"""A folder that programs may change at any time: its files are reached by descriptors, never outside of it.

Links are followed, and what they lead to is checked after it was opened. So exchanging a folder for a link in between
has no effect.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from tfserve.errors import Conflict, Forbidden, Invalid, NotFound, OutOfSpace, TFserveError

_TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class LeavesFolder(Invalid):
    """{path!r} leads outside the folder of the workspace."""


class NoSuchFile(NotFound):
    """File or folder {path!r} not found in the folder of the workspace."""


class FolderEntry(msgspec.Struct, kw_only=True):
    """One entry of a listing. `type` is file, folder, link or other; `modified_at` is in seconds since 1970."""

    name: str
    type: str
    size: int
    modified_at: float


class GuardedFolder:
    """The folder `root`. All paths are relative to it. Methods raise `LeavesFolder`, `NoSuchFile` and other errors."""

    def __init__(self, root: Path) -> None:
        # Only the last two parts are made by the server; an administrator may have put the rest on another disk.
        self._root = Path(os.path.realpath(root.parent.parent)) / root.parent.name / root.name

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """A descriptor that only identifies a file or folder: it can't be read, and opening it has no effect."""
        with _explained(path):
            descriptor = os.open(self._root.joinpath(*_parts(path)), os.O_PATH)
            try:
                self._check(descriptor, path)
                yield descriptor
            finally:
                os.close(descriptor)

    def open_file(self, path: str) -> int | None:
        """A descriptor to read a file, to be closed by the caller; None for a folder."""
        with self.opened(path) as descriptor:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                return None
            if not stat.S_ISREG(mode):
                raise Conflict(f"{path[:200]!r} is neither a file nor a folder, so it can't be read.")
            return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)

    def entries(self, path: str) -> list[FolderEntry]:
        """What is in a folder, by name."""
        with self.opened(path) as descriptor:
            readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
            try:
                with os.scandir(readable) as found:
                    entries = [_entry(each) for each in found]
            finally:
                os.close(readable)
        return sorted((each for each in entries if each is not None), key=lambda each: each.name)

    def replace(self, file: Path, path: str) -> None:
        """Moves a file to `path` in one step. Folders above it are created."""
        parts = _file_parts(path)
        with _explained(path), self._folder(parts[:-1], path, create=True) as folder:
            os.rename(file, parts[-1], dst_dir_fd=folder)

    def check_target(self, path: str) -> None:
        """Refuses early what can't be the path of a new file."""
        parts = _file_parts(path)
        with _explained(path), self._folder(parts[:-1], path, create=True) as folder:
            try:
                mode = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(errno.EISDIR, path)

    def delete(self, path: str, *, recursive: bool) -> None:
        """Removes a file, a link itself, an empty folder, or if `recursive` a folder with all that is in it."""
        parts = _file_parts(path)
        with _explained(path), self._folder(parts[:-1], path) as folder:
            mode = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode):
                os.unlink(parts[-1], dir_fd=folder)
            elif recursive:
                shutil.rmtree(parts[-1], dir_fd=folder)
            else:
                os.rmdir(parts[-1], dir_fd=folder)

    @contextmanager
    def _folder(self, parts: Sequence[str], path: str, *, create: bool = False) -> Iterator[int]:
        descriptor = os.open(self._root, os.O_PATH | os.O_DIRECTORY)
        try:
            self._check(descriptor, path)
            for part in parts:
                opened = _made(part, descriptor, path) if create else _opened(part, descriptor)
                above, descriptor = descriptor, opened
                os.close(above)
                self._check(descriptor, path)
            yield descriptor
        finally:
            os.close(descriptor)

    def _check(self, descriptor: int, path: str) -> None:
        if not Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(self._root):
            raise LeavesFolder(path=path[:200])


def _opened(name: str, folder: int) -> int:
    return os.open(name, os.O_PATH | os.O_DIRECTORY, dir_fd=folder)


def _made(name: str, folder: int, path: str) -> int:
    """A folder that is created unless it exists. Raises `Conflict` if a file or a link without target has its name."""
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    try:
        return _opened(name, folder)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ENOENT, errno.ELOOP):
            raise Conflict(f"{path[:200]!r} can't be created: {name[:200]!r} is not a folder.") from None
        raise


def _parts(path: str) -> list[str]:
    if "\0" in path:
        raise Invalid(f"expected a path without NUL, got {path[:200]!r}", field="path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise LeavesFolder(path=path[:200])
    return parts


def _file_parts(path: str) -> list[str]:
    parts = _parts(path)
    if not parts:
        raise Invalid("expected the path of a file in the workspace, as in /workspaces/<name>/files/data.csv")
    return parts


def _entry(found: os.DirEntry[str]) -> FolderEntry | None:
    try:
        status = found.stat(follow_symlinks=False)
    except OSError:  # removed meanwhile
        return None
    name = found.name.encode("utf-8", "replace").decode()
    type_ = _TYPES.get(stat.S_IFMT(status.st_mode), "other")
    return FolderEntry(name=name, type=type_, size=status.st_size, modified_at=status.st_mtime)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Errors of the system as errors of the server."""
    try:
        yield
    except OSError as error:
        raise _explanation(error, path[:200]) from None


def _explanation(error: OSError, path: str) -> TFserveError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.ELOOP:
            return NoSuchFile(path=path)
        case errno.EISDIR:
            return Conflict(f"{path!r} is a folder; expected the path of a file.")
        case errno.ENOTEMPTY:
            return Conflict(f"The folder {path!r} is not empty. DELETE it with ?recursive=true.")
        case errno.EACCES | errno.EPERM:
            return Forbidden(f"The permissions of {path!r} do not allow this.")
        case errno.ENAMETOOLONG:
            return Invalid(f"The path {path!r} is too long.", field="path")
        case _:
            return OutOfSpace(cause=error.strerror or str(error))
