"""Changes a folder so that it has the files of another machine. Links in it are never followed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tfserve.cluster.content.blobs import Blobs
from tfserve.cluster.content.errors import BadTree
from tfserve.cluster.content.trees import check_entries, check_path
from tfserve.ipc.messages import ContentEntry

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

COPY_BYTES = 1024 * 1024

Listing = Mapping[str, ContentEntry]


@dataclass(frozen=True)
class Changes:
    """What has to be put, in this order, and removed, so that a folder becomes like another one."""

    put: list[ContentEntry]
    remove: list[str]

    def __bool__(self) -> bool:
        return bool(self.put or self.remove)


def changes(old: Listing, new: Listing) -> Changes:
    """From an old listing to a new one."""
    return Changes(
        [entry for path, entry in new.items() if path not in old or old[path].content != entry.content],
        [path for path in old if path not in new],
    )


def last_writers(base: Listing, ours: Listing, theirs: Listing) -> tuple[Changes, Changes]:
    """What to do at our side and at theirs, for two folders that were both `base` once.

    Where both have changed a path differently, the later modification counts; a removal loses.
    """
    from_us, from_them = changes(base, ours), changes(base, theirs)
    our_put, their_put = {each.path: each for each in from_us.put}, {each.path: each for each in from_them.put}
    lost_by_us = {path for path, entry in their_put.items() if _loses(our_put.get(path), entry)}
    return (
        Changes(
            [each for each in from_them.put if each.path in lost_by_us],
            [path for path in from_them.remove if path not in our_put and path in ours],
        ),
        Changes(
            [each for each in from_us.put if each.path not in lost_by_us and not _same(theirs.get(each.path), each)],
            [path for path in from_us.remove if path not in their_put and path in theirs],
        ),
    )


def _same(theirs: ContentEntry | None, ours: ContentEntry) -> bool:
    return theirs is not None and theirs.content == ours.content


def _loses(ours: ContentEntry | None, theirs: ContentEntry) -> bool:
    return ours is None or (ours.content != theirs.content and ours.mtime_ns <= theirs.mtime_ns)


def apply(folder: Path, needed: Changes, blobs: Blobs, *, durably: bool = False) -> None:
    """Each file replaces its predecessor in one step, from its blob, which is used up. Removals come last.

    With `durably`, a file is on the disk before it replaces another one.
    Raises `BadTree`, `FileNotFoundError` without a blob, and `OSError`.
    """
    check_entries(needed.put)
    for path in needed.remove:
        check_path(path)
    remaining = _counts(needed.put)
    folder.mkdir(parents=True, exist_ok=True)
    with _opened(folder) as root:
        for entry in needed.put:
            with _parent(root, entry.path, is_made=True) as (parent, name):
                _put(parent, name, entry, _Source(blobs, remaining, durably))
        for path in sorted(needed.remove, reverse=True):  # what is in a folder before the folder
            with contextlib.suppress(FileNotFoundError, BadTree), _parent(root, path) as (parent, name):
                _remove_listed(parent, name)


def _counts(put: Sequence[ContentEntry]) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for each in put:
        counts[each.digest] = counts.get(each.digest, 0) + 1
    return counts


@dataclass(frozen=True)
class _Source:
    """The blobs, and how often each of them is still needed."""

    blobs: Blobs
    remaining: dict[bytes, int]
    is_durable: bool

    def place(self, entry: ContentEntry, parent: int, name: str) -> None:
        """Moves the blob, or copies it if it is needed again or the folder is on another file system."""
        blob = self.blobs.path_of(entry.digest)
        self.remaining[entry.digest] -= 1
        if self.remaining[entry.digest] or not _moved(blob, parent, name):
            with blob.open("rb") as source, _new_file(parent, name) as to:
                shutil.copyfileobj(source, to, COPY_BYTES)
            if not self.remaining[entry.digest]:
                blob.unlink(missing_ok=True)
        if self.is_durable:
            with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as file:
                os.fsync(file.fileno())


def _moved(blob: Path, parent: int, name: str) -> bool:
    try:
        os.rename(blob, name, dst_dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _new_file(parent: int, name: str) -> IO[bytes]:
    return os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=parent), "wb")


def _put(parent: int, name: str, entry: ContentEntry, source: _Source) -> None:
    if not entry.is_file and not entry.is_link:
        _make_folder(parent, name, entry.mode)
        return
    aside = f".{name[:200]}.arriving"
    _remove(parent, aside)
    try:
        _place(parent, aside, entry, source)
    except OSError:  # a full disk: no part of a file stays
        _remove(parent, aside)
        raise
    if _is_folder(parent, name):
        _remove(parent, name)
    os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)


def _place(parent: int, aside: str, entry: ContentEntry, source: _Source) -> None:
    if entry.is_link:
        os.symlink(entry.target, aside, dir_fd=parent)
    else:
        source.place(entry, parent, aside)
        os.chmod(aside, entry.mode | 0o400, dir_fd=parent)
        if entry.mtime_ns:
            os.utime(aside, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _make_folder(parent: int, name: str, mode: int) -> None:
    if not _is_folder(parent, name):
        _remove(parent, name)
        os.mkdir(name, 0o700, dir_fd=parent)
    os.chmod(name, mode | 0o700, dir_fd=parent)


def _remove(parent: int, name: str) -> None:
    if _is_folder(parent, name):
        shutil.rmtree(name, dir_fd=parent)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)


def _remove_listed(parent: int, name: str) -> None:
    """A folder stays if it has something that was not listed."""
    if not _is_folder(parent, name):
        _remove(parent, name)
        return
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


@contextmanager
def _opened(folder: Path | str, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _parent(root: int, path: str, *, is_made: bool = False) -> Iterator[tuple[int, str]]:
    """The opened folder of a path, and its name there. Raises `BadTree` if a folder above it is a link or a file."""
    *above, name = path.split("/")
    with contextlib.ExitStack() as stack:
        folder = root
        for part in above:
            if is_made:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder)
            try:
                folder = stack.enter_context(_opened(part, folder))
            except NotADirectoryError:  # also for a link
                raise BadTree(problem=f"{part!r} in {path!r} is not a folder") from None
        yield folder, name
