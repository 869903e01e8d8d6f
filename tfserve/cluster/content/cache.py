"""Trees of files on a node: read-only, shared by its workers, within a size limit.

    trees/<key>/<name>/…   complete trees; files are hard links to blobs
    making/<key>/…         the tree that is being made, by the holder of <key>.lock
    locks/<key>            shared by the workers that use a tree

What no worker uses is removed when space is needed, the least recently used first. A lock ends with its process, so a
killed worker protects nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from tfserve import sizes
from tfserve.cluster.content import trees
from tfserve.cluster.content.blobs import Blobs
from tfserve.cluster.content.errors import DISK_FULL, BadTree, CacheTooSmall, NodeDiskFull
from tfserve.cluster.content.fetch import Ask, fetch
from tfserve.cluster.content.threads import in_thread, is_current, is_held, locked, open_lock
from tfserve.ipc.messages import ContentEntry, FileTree

ATTEMPTS = 5
NOT_LINKABLE = (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP)
"""A file may have a limited number of links; some file systems have none."""


class Cache:
    def __init__(self, folder: Path, limit_bytes: int, node: str = "head") -> None:
        self.blobs = Blobs(folder)
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._node = node
        self._trees, self._making, self._locks = (folder / name for name in ("trees", "making", "locks"))
        self._uses: dict[str, int] = {}
        self._is_open = False

    async def find(self, key: str) -> Path | None:
        """The root of a complete tree, which stays until `close`; None if it has to be made. Raises `OSError`."""
        await self._open()
        return await in_thread(self._use, key)

    async def provide(self, key: str, tree: FileTree, ask: Ask) -> Path:
        """Makes the tree from blobs, and requests the missing ones. The tree stays until `close`.

        Raises `BadTree`, `CacheTooSmall`, `NodeDiskFull`, and the errors of `fetch`. On a full disk, nothing stays of
        what has arrived.
        """
        trees.check(tree)
        if key != trees.key_of(tree):
            raise BadTree(problem=f"its key is not {key}")
        try:
            await self._open()
            for _ in range(ATTEMPTS):
                async with locked(self._making / f"{key}.lock"):
                    with contextlib.suppress(FileNotFoundError):  # another process needed the space
                        await self._make(key, tree, ask)
                        if (found := await in_thread(self._use, key)) is not None:
                            return found
        except OSError as error:
            if error.errno in DISK_FULL:
                await in_thread(self.blobs.drop, tree.entries)
                raise NodeDiskFull.of(error, node=self._node, folder=str(self._folder)) from error
            raise
        raise CacheTooSmall(**self._situation(tree))

    def close(self) -> None:
        """From now on the trees may be removed."""
        for descriptor in self._uses.values():
            os.close(descriptor)
        self._uses.clear()

    async def _open(self) -> None:
        if not self._is_open:
            await self.blobs.open(self._forget_trees)
            self._is_open = True

    def _forget_trees(self) -> None:
        """After a start of the machine: their files are made of blobs that may be damaged."""
        for folder in (self._trees, self._making):
            shutil.rmtree(folder, ignore_errors=True)

    # --- one tree

    def _use(self, key: str) -> Path | None:
        if key not in self._uses:
            descriptor = open_lock(self._locks / key)
            if not self._is_complete(descriptor, key):
                os.close(descriptor)
                return None
            os.utime(descriptor, ns=(time.time_ns(),) * 2)  # of its last use, finer than the clock of the kernel
            self._uses[key] = descriptor
        return next((self._trees / key).iterdir())

    def _is_complete(self, descriptor: int, key: str) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # it is being removed
        return is_current(descriptor, self._locks / key) and (self._trees / key).is_dir()

    async def _make(self, key: str, tree: FileTree, ask: Ask) -> None:
        if (self._trees / key).is_dir():  # by another process, while this one waited
            return
        making = _Making(self._making / key, tree, self.blobs)
        try:
            await in_thread(self._make_room, tree)
            await in_thread(making.begin)
            await fetch(ask, tree.entries, self.blobs, making.link)
            await in_thread(making.finish, self._trees / key)
        finally:
            await in_thread(shutil.rmtree, self._making / key, ignore_errors=True)

    # --- the limit

    def _make_room(self, tree: FileTree) -> None:
        """Removes what is not used until the missing files fit. Raises `CacheTooSmall`, `NodeDiskFull`."""
        needed = trees.size_of(self.blobs.missing(tree.entries))
        own = {self.blobs.path_of(each.digest) for each in tree.entries if each.is_file}
        candidates = self._unused()
        kept: set[Path] = set()
        while True:
            files = self.blobs.sizes()
            used, free = sum(each.st_size for each in files.values()), self.blobs.free_bytes()
            too_many = max(used + needed - self._limit_bytes, needed - free)
            if too_many <= 0:
                return
            loose = [path for path, status in files.items() if status.st_nlink == 1 and path not in own | kept]
            kept.update(loose)
            if loose:
                self._remove_oldest(loose, files, too_many)
            elif candidates:
                self._remove_tree(candidates.pop(0))
            elif used + needed > self._limit_bytes:
                raise CacheTooSmall(**self._situation(tree))
            else:
                cause = f"it needs {sizes.show(needed)}, and {sizes.show(free)} are free"
                raise NodeDiskFull(node=self._node, what=trees.shown(tree), cause=cause, folder=str(self._folder))

    def _remove_oldest(self, loose: Sequence[Path], files: dict[Path, os.stat_result], too_many: int) -> None:
        for path in sorted(loose, key=lambda each: files[each].st_mtime_ns):
            if too_many <= 0:
                return
            if not is_held(path):  # a file that arrives
                path.unlink(missing_ok=True)
            too_many -= files[path].st_size

    def _unused(self) -> list[Path]:
        """The trees, the least recently used first. Those in use are found when they are to be removed."""
        known = [lock for lock in self._locks.glob("*") if (self._trees / lock.name).is_dir()]
        return sorted(known, key=lambda lock: lock.stat().st_mtime_ns)

    def _remove_tree(self, lock: Path) -> None:
        descriptor = open_lock(lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_current(descriptor, lock):
                shutil.rmtree(self._trees / lock.name, ignore_errors=True)
                lock.unlink()
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(descriptor)

    def _situation(self, tree: FileTree) -> dict[str, str]:
        used = sum(each.st_size for each in self.blobs.sizes().values() if each.st_nlink > 1)
        return {
            "name": trees.shown(tree), "size": sizes.show(trees.size_of(tree.entries)), "node": self._node,
            "limit": sizes.show(self._limit_bytes), "used": sizes.show(used),
        }  # fmt: skip


class _Making:
    """A tree next to its place, until it is complete. Each blob is linked at once, so that it is not removed."""

    def __init__(self, folder: Path, tree: FileTree, blobs: Blobs) -> None:
        self._folder, self._tree, self._blobs = folder, tree, blobs
        self._root = folder / tree.name
        self._by_digest: dict[bytes, list[ContentEntry]] = {}
        for each in tree.entries:
            if each.is_file:
                self._by_digest.setdefault(each.digest, []).append(each)

    def begin(self) -> None:
        """Makes the folders, and links the blobs that are here."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._root.mkdir(parents=True)
        for each in self._tree.entries:
            place = self._root / each.path
            (place.parent if each.is_file or each.is_link else place).mkdir(parents=True, exist_ok=True)
        for entries in self._by_digest.values():
            if self._blobs.has(entries[0]):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile, so it is fetched again
                    self.link(entries[0])

    def link(self, entry: ContentEntry) -> None:
        for each in self._by_digest[entry.digest]:
            place, blob = self._root / each.path, self._blobs.path_of(each.digest)
            place.unlink(missing_ok=True)
            if each.mode & 0o111:  # a hard link has the mode of its blob
                shutil.copyfile(blob, place)
                place.chmod(0o555)
            else:
                _link_or_copy(blob, place)

    def finish(self, place: Path) -> None:
        """Raises `FileNotFoundError` if a blob was removed meanwhile."""
        for entries in self._by_digest.values():
            if not all((self._root / each.path).exists() for each in entries):
                self.link(entries[0])
        for each in self._tree.entries:
            if each.is_link:
                (self._root / each.path).symlink_to(each.target)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._folder.rename(place)


def _link_or_copy(blob: Path, place: Path) -> None:
    try:
        os.link(blob, place)
    except OSError as error:
        if error.errno not in NOT_LINKABLE:
            raise
        shutil.copyfile(blob, place)
        place.chmod(0o444)
