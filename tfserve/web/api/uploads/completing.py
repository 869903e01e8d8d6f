"""Turns what has arrived into the files of an upload: checksum, archive, and one step that makes them visible."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tfserve import linux
from tfserve.archives.entries import ArchiveEntry
from tfserve.archives.unpacking import Unpacked, is_archive
from tfserve.config import Settings
from tfserve.errors import Invalid, TooLarge, Unavailable
from tfserve.uploads.store import RESERVE_BYTES, ReceivedFile, Upload, Uploads
from tfserve.web.api.uploads.programs import run_program
from tfserve.web.http.disk_writer import on_disk

_UNPACKING_AT_ONCE = 2
_unpacking = asyncio.Semaphore(_UNPACKING_AT_ONCE)


class WrongChecksum(Invalid):
    """The file that arrived has the SHA-256 checksum {actual}, but {expected} was announced. Send it again."""


class UnpackingEnded(Unavailable):
    """The process that unpacks {name} was ended by signal {signal}. Try again."""


async def complete(uploads: Uploads, upload: Upload, files: Sequence[ReceivedFile], settings: Settings) -> None:
    """Raises `WrongChecksum`, `BadArchive` and other errors; nothing is visible then."""
    sha256, size = await on_disk(partial(_checksum, files, upload.record.sha256))
    await on_disk(partial(shutil.rmtree, upload.unpacking, ignore_errors=True))  # of an interrupted attempt
    if upload.record.unpack and len(files) == 1 and is_archive(files[0].name):
        room = await on_disk(partial(room_for, uploads, upload, settings))
        found = await _unpack(files[0], upload.unpacking, max_bytes=settings.max_upload_bytes, room=room)
    else:
        found = await on_disk(partial(_place, files, upload.unpacking))
    await on_disk(partial(upload.publish, found.files, found.size_bytes, sha256, size))


async def complete_or_refuse(uploads: Uploads, upload: Upload, file: ReceivedFile, settings: Settings) -> None:
    """Like `complete`. Records why what was sent can't be used, and keeps it if another attempt may succeed."""
    try:
        await complete(uploads, upload, [file], settings)
    except (Invalid, TooLarge) as error:
        await on_disk(partial(upload.refuse, error.message))
        raise


def _checksum(files: Sequence[ReceivedFile], expected: str | None) -> tuple[str | None, int]:
    """The checksum, if there is one file, and the size. Raises `WrongChecksum`."""
    size = sum(each.path.stat().st_size for each in files)
    if len(files) != 1:
        if expected is not None:
            raise Invalid("sha256 is the checksum of one file, but the form has several.", field="sha256")
        return None, size
    actual = files[0].sha256 or _sha256(files[0].path)
    if expected is not None and actual != expected:
        raise WrongChecksum(actual=actual, expected=expected)
    return actual, size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def room_for(uploads: Uploads, upload: Upload, settings: Settings) -> int:
    """How many bytes may be unpacked. The archive itself does not count once it is unpacked."""
    disk = os.statvfs(upload.folder)
    return min(uploads.room_for(upload, settings.upload_quota_bytes), disk.f_bavail * disk.f_frsize - RESERVE_BYTES)


async def _unpack(archive: ReceivedFile, folder: Path, *, max_bytes: int, room: int) -> Unpacked:
    arguments = [str(archive.path), archive.name, str(folder), str(max_bytes), str(room)]
    async with _unpacking:
        return await run_program(
            "tfserve.archives", *arguments, result=Unpacked,
            ended=lambda signal: UnpackingEnded(name=archive.name, signal=signal),
        )  # fmt: skip


def _place(files: Sequence[ReceivedFile], folder: Path) -> Unpacked:
    """Single files, under their names. They stay where they arrived until the upload is complete."""
    folder.mkdir(mode=0o700)
    size = 0
    for index, each in enumerate(files):
        path = ArchiveEntry(index, each.name, 0).path_in(folder)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.link(each.path, path)
        size += each.path.stat().st_size
    linux.sync_file_system(folder)
    return Unpacked(len(files), size)
