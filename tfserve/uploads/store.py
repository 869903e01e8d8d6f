"""The folder with all uploads.

    uploads/<id>/record.json     written last: it makes an upload visible
                 received/<n>    what has arrived, while it arrives
                 unpacking/      the files, before they are complete
                 content/        the files
                 unused_since    a time in seconds of server uptime, written by the supervisor

Only the process that holds the lock of an upload's folder changes it. The lock ends with the process.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from tfserve import paths
from tfserve.archives.entries import name_problem
from tfserve.errors import Conflict, Invalid, NotFound, OutOfSpace, PathRefused, Unavailable
from tfserve.uploads.record import Record, UploadState, read_record, write_record
from tfserve.uploads.stored_files import StoredFiles

PREFIX = "upload:"
RESERVE_BYTES = 64 * 2**20
"""Uploads leave this much of the disk free, because without free space no job could be recorded."""
_ID = re.compile(r"[0-9a-f]{32}")


class NoSuchUpload(NotFound):
    """There is no upload {id!r}. POST /upload/ creates one, GET /upload/ lists them."""


class UploadIncomplete(Conflict):
    """Upload {id} can't be used: {reason}"""


class UploadBusy(Unavailable):
    """Another request is writing to upload {id}. Try again when it has ended; GET /upload/{id} returns the offset."""


class QuotaReached(OutOfSpace):
    """Your uploads and the files that you stored in workspaces may have {limit} bytes in total (upload_quota_bytes), \
and {used} are used or reserved. DELETE /upload/<id> removes an upload."""


class ServerQuotaReached(OutOfSpace):
    """All uploads and stored files of this server may have {limit} bytes in total (all_uploads_bytes), and {used} are \
used or reserved. An administrator can raise the limit or remove uploads."""


class DiskReserved(OutOfSpace):
    """The disk has {free} bytes left, and uploads leave {reserve} bytes free. Remove files that you do not need."""


class ReceivedFile(NamedTuple):
    """A file that has arrived, with the checksum if it is known already."""

    name: str
    path: Path
    sha256: str | None = None


class Upload:
    """One upload."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.record = record

    @property
    def received(self) -> Path:
        return self.folder / "received"

    @property
    def unpacking(self) -> Path:
        return self.folder / "unpacking"

    @property
    def content(self) -> Path:
        return self.folder / "content"

    @property
    def offset(self) -> int:
        """How many bytes have arrived."""
        if self.record.state is not UploadState.RECEIVING:
            return self.record.size or 0
        if not self.received.is_dir():
            return 0
        return sum(each.stat().st_size for each in self.received.iterdir())

    @property
    def reserved_bytes(self) -> int:
        """What it counts for in a quota."""
        if self.record.state is UploadState.RECEIVING:
            return max(self.record.size or 0, self.offset)
        return self.record.stored_bytes

    @property
    def is_abandoned(self) -> bool:
        """Whether it can't become complete, if no request is writing to it."""
        return self.record.state is UploadState.RECEIVING and not self.record.is_resumable

    def save(self, record: Record) -> None:
        write_record(self.folder, record)
        self.record = record

    def refuse(self, reason: str) -> None:
        """Ends it without a result. Only its record stays."""
        self.save(msgspec.structs.replace(self.record, state=UploadState.REFUSED, reason=reason))
        self.clear()

    def clear(self) -> None:
        """Removes what is only needed while it is received, and what an earlier attempt has left."""
        for each in (self.received, self.unpacking):
            shutil.rmtree(each, ignore_errors=True)

    def publish(self, files: int, stored_bytes: int, sha256: str | None, size: int) -> None:
        """Makes the files in `unpacking` visible."""
        shutil.rmtree(self.content, ignore_errors=True)  # of an attempt that ended before its record was written
        self.unpacking.rename(self.content)
        self.save(
            msgspec.structs.replace(
                self.record, state=UploadState.COMPLETE, files=files, stored_bytes=stored_bytes, sha256=sha256,
                size=size, top=_top(self.content),
            )
        )  # fmt: skip
        self.clear()

    def touch(self) -> None:
        """It is in use: the time after which it is removed begins again."""
        (self.folder / "unused_since").unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other request changes it meanwhile. Raises `UploadBusy`, `NoSuchUpload`."""
        with _directory(self.folder, self.record.id) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy(id=self.record.id) from None
            found = read_record(self.folder)
            if found is None:
                raise NoSuchUpload(id=self.record.id)
            self.record = found
            yield

    def path(self, inside: str) -> Path:
        """A file or folder of a complete upload: by its path in the archive, or in the only folder of the archive.

        Raises `UploadIncomplete`, `Invalid`, `NotFound`.
        """
        if self.record.state is not UploadState.COMPLETE:
            reason = self.record.reason or f"it has {self.offset} of {self.record.size} bytes."
            raise UploadIncomplete(id=self.record.id, reason=reason)
        self.touch()
        names = (
            [inside.strip("/"), f"{self.record.top}/{inside}".strip("/")] if inside.strip("/") else [self.record.top]
        )
        try:
            found = [paths.resolve(name or ".", start=self.content, roots=[self.content]) for name in names]
        except PathRefused:
            raise Invalid(f"{inside[:200]!r} leads outside upload {self.record.id}.", field="path") from None
        for path in found:
            if path.exists() or _is_prefix(path):
                return path
        raise NotFound(f"Upload {self.record.id} has no file or folder {inside[:200]!r}.")


class Uploads:
    """All uploads of a server, and the files that clients stored in workspaces, which count in the same quotas.

    `total_bytes` is the limit of all owners together; 0: no limit.
    """

    def __init__(self, folder: Path, *, total_bytes: int = 0) -> None:
        self.folder = folder
        self.stored = StoredFiles(folder.parent / "workspaces")
        self._total_bytes = total_bytes

    def __iter__(self) -> Iterator[Upload]:
        """Oldest first. Without those that are being created or removed."""
        found = [Upload(folder, record) for folder in self._folders() if (record := read_record(folder))]
        return iter(sorted(found, key=lambda each: each.record.created_at))

    def of(self, owner: str) -> list[Upload]:
        return [each for each in self if each.record.owner == owner]

    def find(self, id: str, owner: str | None) -> Upload:  # noqa: A002
        """Raises `NoSuchUpload`, also for uploads of other owners. None sees those of all owners."""
        record = read_record(self.folder / id) if _ID.fullmatch(id) else None
        if record is None or (owner is not None and record.owner not in ("", owner)):
            raise NoSuchUpload(id=id[:100])
        return Upload(self.folder / id, record)

    def resolve(self, text: str, owner: str | None) -> Path:
        """The path that `upload:<id>` or `upload:<id>/a/path` means. Raises the errors of `find` and `Upload.path`."""
        id_, _, inside = text.removeprefix(PREFIX).partition("/")
        return self.find(id_, owner).path(inside)

    def create(self, owner: str, name: str, *, quota_bytes: int, **fields: object) -> Upload:
        """Raises `QuotaReached`, `DiskReserved`, `Invalid` for the name, `OSError`."""
        check_name(name)
        record = msgspec.convert(
            {"id": secrets.token_hex(16), "owner": owner, "name": name, "created_at": time.time(), **fields}, Record
        )
        self.folder.mkdir(mode=0o700, exist_ok=True)
        check_disk(self.folder, record.size or 0)
        folder = self.folder / record.id
        folder.mkdir(mode=0o700)
        upload = Upload(folder, record)
        try:
            upload.received.mkdir(mode=0o700)
            upload.save(record)
            self.check_quota(owner, quota_bytes)  # afterwards, so that two requests see each other
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return upload

    def used_bytes(self, owner: str) -> int:
        return self._used()[owner]

    def check_quota(self, owner: str, limit: int, *, more: int = 0) -> None:
        """Raises `QuotaReached`, `ServerQuotaReached` if `more` bytes of this owner are too much."""
        try:
            self._check(owner, limit, more)
        except OutOfSpace:
            self.stored.recount()  # scripts may have removed files
            self._check(owner, limit, more)

    def room_for(self, upload: Upload, limit: int) -> int:
        """How many bytes the upload may have, instead of those that it has or reserves now."""
        used = self._used()
        room = limit - used[upload.record.owner]
        room = min(room, self._total_bytes - used.total()) if self._total_bytes else room
        return room + upload.reserved_bytes

    def _check(self, owner: str, limit: int, more: int) -> None:
        used = self._used()
        if used[owner] + more > limit:
            raise QuotaReached(limit=limit, used=used[owner])
        if self._total_bytes and used.total() + more > self._total_bytes:
            raise ServerQuotaReached(limit=self._total_bytes, used=used.total())

    def _used(self) -> Counter[str]:
        """For each owner."""
        used = self.stored.used_bytes()
        for each in self:
            used[each.record.owner] += each.reserved_bytes
        return used

    def clean_up(self) -> None:
        """Removes what processes that were killed have left. Uploads that can be resumed stay."""
        for folder in self._folders():
            record = read_record(folder)
            upload = None if record is None else Upload(folder, record)
            if upload is None or upload.is_abandoned:
                self.remove(folder)
            elif upload.record.state is UploadState.RECEIVING:
                shutil.rmtree(upload.unpacking, ignore_errors=True)
            else:
                upload.clear()

    def remove(self, folder: Path) -> None:
        """Removes an upload: in one step for everybody else."""
        gone = folder.with_name(f".{folder.name}.removed")
        if not folder.name.startswith("."):
            folder.rename(gone)
        shutil.rmtree(gone if gone.exists() else folder, ignore_errors=True)

    def _folders(self) -> Sequence[Path]:
        return [each for each in self.folder.iterdir() if each.is_dir()] if self.folder.is_dir() else []


@contextmanager
def _directory(folder: Path, id_: str) -> Iterator[int]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise NoSuchUpload(id=id_) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def check_name(name: str) -> None:
    """Raises `Invalid` for what can't be the name of a file."""
    problem = name_problem(name) or ("it is empty" if not name.strip(" ./\\") else None)
    if problem is None and ("/" in name or "\\" in name):
        problem = "it has folders"
    if problem is not None:
        raise Invalid(f"expected the name of a file, such as model.zip, got {name[:100]!r}: {problem}", field="name")


def check_disk(folder: Path, size: int = 0) -> None:
    """Raises `DiskReserved` if `size` more bytes do not fit."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free - size < RESERVE_BYTES:
        raise DiskReserved(free=free, reserve=RESERVE_BYTES)


def _is_prefix(path: Path) -> bool:
    """Whether there are files such as `path.index`: a TF1 checkpoint is named by what its files have in common."""
    return path.parent.is_dir() and any(each.name.startswith(f"{path.name}.") for each in path.parent.iterdir())


def _top(content: Path) -> str:
    """The only file or folder of an upload, if there is just one."""
    names = [each.name for each in content.iterdir()]
    return names[0] if len(names) == 1 else ""
