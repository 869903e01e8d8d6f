"""Serves the files that this machine has offered to another one, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tfserve.cluster.content.digests import Stamp
from tfserve.cluster.content.errors import ContentChanged, NotOffered, UnreadableFile
from tfserve.cluster.content.scan import ScannedEntry
from tfserve.cluster.content.threads import in_thread
from tfserve.errors import Invalid
from tfserve.ipc.messages import BlobPart, BlobParts, ReadBlobs

MAX_READ_BYTES = 4 * 1024 * 1024
MAX_PARTS = 1024


class Offers:
    """The offered files of one connection, by digest. Each offer is kept under a name, and replaces the one before."""

    def __init__(self) -> None:
        self._offers: dict[str, dict[bytes, ScannedEntry]] = {}
        self.sent_bytes = 0

    def set(self, name: str, found: Iterable[ScannedEntry]) -> None:
        self._offers[name] = {each.entry.digest: each for each in found if each.entry.is_file}

    def withdraw(self, name: str) -> None:
        self._offers.pop(name, None)

    async def read(self, request: ReadBlobs) -> BlobParts:
        """Raises `NotOffered`, `ContentChanged`, `UnreadableFile`, `Invalid`."""
        if sum(part.size for part in request.parts) > MAX_READ_BYTES or len(request.parts) > MAX_PARTS:
            raise Invalid(f"expected at most {MAX_PARTS} parts with together {MAX_READ_BYTES} bytes")
        files = [(self._find(part.digest), part) for part in request.parts]
        data = await in_thread(_read_all, files)
        self.sent_bytes += sum(map(len, data))
        return BlobParts(data=data)

    def _find(self, digest: bytes) -> ScannedEntry:
        for offer in self._offers.values():
            if (found := offer.get(digest)) is not None:
                return found
        raise NotOffered


def _read_all(files: list[tuple[ScannedEntry, BlobPart]]) -> list[bytes]:
    return [_read(found, part) for found, part in files]


def _read(found: ScannedEntry, part: BlobPart) -> bytes:
    """Only of the very file that was hashed: another one may have its name by now."""
    if part.offset < 0 or part.size < 0 or part.offset + part.size > found.entry.size:
        raise Invalid(f"bytes {part.offset} to {part.offset + part.size} of a file with {found.entry.size} bytes")
    try:
        descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ContentChanged(path=found.path) from None
    except OSError as error:
        raise UnreadableFile(path=found.path, cause=error.strerror) from error
    try:
        data = os.pread(descriptor, part.size, part.offset)
        now = Stamp.of(os.fstat(descriptor))
    finally:
        os.close(descriptor)
    # A further hard link changes the ctime, but not the content.
    if len(data) != part.size or found.stamp is None or now[:2] != found.stamp[:2] or now.size != found.stamp.size:
        raise ContentChanged(path=found.path)
    return data
