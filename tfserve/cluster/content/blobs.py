"""Files by their SHA-256 in one folder. Only a complete file whose digest was verified is ever a blob.

    blobs/<2 digits>/<digest>   read-only
    partial/<digest>            what has arrived of a file, to resume from
    unverified/<2 digits>/…     blobs from before the machine was started again, which may have lost bytes

A process that is killed loses nothing that it has written, so blobs are not forced onto the disk one by one. A machine
that loses power may: after each start of the machine, blobs are hashed again before they are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from tfserve.cluster.content.errors import DamagedContent
from tfserve.cluster.content.scan import digest_of
from tfserve.cluster.content.threads import in_thread, is_held, locked
from tfserve.errors import TFserveError
from tfserve.ipc.messages import ContentEntry

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
READ_BYTES = 1024 * 1024


class Blobs:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs, self._partial, self._unverified = (folder / name for name in ("blobs", "partial", "unverified"))

    async def open(self, on_start: Callable[[], None] = lambda: None) -> None:
        """Calls `on_start` if the machine was started since the blobs were made. Raises `OSError`."""
        async with locked(self.folder / "boot.lock"):
            await in_thread(self._open, on_start)

    def path_of(self, digest: bytes) -> Path:
        return self._blobs / digest.hex()[:2] / digest.hex()

    def has(self, entry: ContentEntry) -> bool:
        blob = self.path_of(entry.digest)
        with contextlib.suppress(OSError):
            if os.lstat(blob).st_size == entry.size:
                return True
        return self._verified(entry.digest, blob)

    def missing(self, entries: Iterable[ContentEntry]) -> list[ContentEntry]:
        """Those whose content is not here, each content once."""
        unique = {each.digest: each for each in entries if each.is_file}
        return [each for each in unique.values() if not self.has(each)]

    def put(self, entry: ContentEntry, data: bytes) -> None:
        """Adds a whole file. Raises `DamagedContent`, `OSError`."""
        _compare(entry, hashlib.sha256(data).digest())
        blob = self.path_of(entry.digest)
        temporary = blob.with_name(f".{blob.name}.{os.getpid()}.{id(data):x}")
        blob.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.chmod(0o444)
            temporary.rename(blob)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @asynccontextmanager
    async def partial(self, entry: ContentEntry) -> AsyncIterator[Partial]:
        """What has arrived of a file. Other processes that need it wait."""
        async with locked(self._partial / entry.digest.hex()) as descriptor:
            yield Partial(entry, descriptor, self._partial / entry.digest.hex(), self.path_of(entry.digest))

    def drop(self, entries: Iterable[ContentEntry]) -> None:
        """Removes what has arrived of these files, and is not in use: neither a part of one nor a whole one stays."""
        for digest in {each.digest for each in entries if each.is_file}:
            with contextlib.suppress(OSError):
                if not is_held(partial := self._partial / digest.hex()):
                    partial.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                if (blob := self.path_of(digest)).lstat().st_nlink == 1:
                    blob.unlink()

    def free_bytes(self) -> int:
        """What its disk has left."""
        return shutil.disk_usage(self.folder).free

    def sizes(self) -> dict[Path, os.stat_result]:
        """All files, also the incomplete ones."""
        found = {}
        for folder in (self._blobs, self._partial, self._unverified):
            for where, _, names in os.walk(folder):
                for name in names:
                    with contextlib.suppress(OSError):
                        path = Path(where, name)
                        found[path] = path.lstat()
        return found

    def _open(self, on_start: Callable[[], None]) -> None:
        boot, file = BOOT_ID.read_text().strip(), self.folder / "boot"
        if file.is_file() and file.read_text() == boot:
            return
        on_start()
        shutil.rmtree(self._partial, ignore_errors=True)
        if self._blobs.is_dir():
            shutil.rmtree(self._unverified, ignore_errors=True)
            self._blobs.rename(self._unverified)
        for folder in (self._blobs, self._partial):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(boot)

    def _verified(self, digest: bytes, blob: Path) -> bool:
        old = self._unverified / digest.hex()[:2] / digest.hex()
        if not old.is_file():
            return False
        with contextlib.suppress(TFserveError, OSError):
            if digest_of(str(old))[1] == digest:
                blob.parent.mkdir(parents=True, exist_ok=True)
                old.rename(blob)
                return True
        old.unlink(missing_ok=True)
        return False


class Partial:
    """A file that arrives from its begin to its end, maybe in several attempts."""

    def __init__(self, entry: ContentEntry, descriptor: int, path: Path, blob: Path) -> None:
        self._entry, self._descriptor, self._path, self._blob = entry, descriptor, path, blob
        self._digest = hashlib.sha256()
        self._offset = 0

    def resume(self) -> int:
        """The offset from which the file is missing. Reads what is there."""
        size = os.fstat(self._descriptor).st_size
        if size > self._entry.size:
            self.restart()
        while data := os.pread(self._descriptor, READ_BYTES, self._offset):
            self._add(data)
        return self._offset

    def restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        self._digest, self._offset = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """Raises `OSError`."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self._descriptor, view, self._offset)
            self._add(view[:count])
            view = view[count:]

    def finish(self) -> None:
        """Makes it a blob. Raises `DamagedContent`, after which `restart` may help."""
        _compare(self._entry, self._digest.digest())
        os.fchmod(self._descriptor, 0o444)
        self._blob.parent.mkdir(parents=True, exist_ok=True)
        self._path.rename(self._blob)

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)

    def _add(self, data: bytes | memoryview) -> None:
        self._digest.update(data)
        self._offset += len(data)


def _compare(entry: ContentEntry, found: bytes) -> None:
    if found != entry.digest:
        raise DamagedContent(path=entry.path, found=found.hex(), expected=entry.digest.hex())
