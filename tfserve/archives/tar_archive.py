"""Tar files, compressed with gzip or not: their entries, and the content of each."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from tfserve.archives.entries import ArchiveEntry, ArchiveTooLarge, BadArchive

_MAX_READ = 2**20
"""Names and other metadata of a file may take this many bytes. `tarfile` would read as many as a header says."""
_MAX_PADDING = 2**24
"""Zeros after the end of the archive, which fill its last record."""
_GZIP = b"\x1f\x8b"
_BLOCK = 512


class TarArchive:
    """A tar file. Opening it reads all of it, up to `max_bytes` of content.

    Raises `BadArchive` for more than that or `max_files`, and `tarfile.TarError`, `OSError`, `EOFError`, `zlib.error`.
    """

    def __init__(self, path: Path, *, name: str, max_files: int, max_bytes: int) -> None:
        self._name = name
        with path.open("rb") as file:
            is_packed = file.read(2) == _GZIP
        self._stream = _Bounded(cast(IO[bytes], gzip.open(path)) if is_packed else path.open("rb"))  # noqa: SIM115
        try:
            stream = cast(IO[bytes], self._stream)
            self._tar = tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape")  # noqa: SIM115
            self._members = self._read(max_files, max_bytes)
        except BaseException:
            self._stream.close()
            raise
        self.entries = [_entry(index, member) for index, member in enumerate(self._members)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tar.close()
        self._stream.close()

    def open(self, entry: ArchiveEntry) -> IO[bytes]:
        content = self._tar.extractfile(self._members[entry.index])
        assert content is not None  # it is a file
        return content

    def overlapping(self) -> ArchiveEntry | None:
        return None

    def _read(self, max_files: int, max_bytes: int) -> list[tarfile.TarInfo]:
        members: list[tarfile.TarInfo] = []
        left = max_bytes
        for member in self._tar:
            members.append(member)
            if member.size < 0:
                raise BadArchive(name=self._name, problem="the size of a file is negative")
            left -= member.size
            if len(members) > max_files:
                raise BadArchive(name=self._name, problem=f"it has more than {max_files} files")
            if left < 0:
                raise ArchiveTooLarge(name=self._name, size=max_bytes - left, limit=max_bytes)
        self._check_end()
        return members

    def _check_end(self) -> None:
        """`tarfile` takes anything other than a header for the end of an archive."""
        self._stream.seek(self._tar.offset)
        if self._stream.read(_BLOCK) != bytes(_BLOCK):
            raise BadArchive(name=self._name, problem="it is truncated or damaged")
        left = _MAX_PADDING
        while chunk := self._stream.read(_MAX_READ):  # to its end, because gzip's checksum is there
            left -= len(chunk)
            if left < 0:
                raise BadArchive(name=self._name, problem="it has more data after its end")


class _Bounded(io.RawIOBase):
    """A file of which each read is small."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise tarfile.ReadError(f"a name or other metadata has {size} bytes (limit: {_MAX_READ})")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def close(self) -> None:
        self._file.close()
        super().close()


def _entry(index: int, member: tarfile.TarInfo) -> ArchiveEntry:
    return ArchiveEntry(index, member.name, member.size, is_folder=member.isdir(), what=_what(member))


def _what(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "a link, not a file (tar --dereference --hard-dereference stores files instead)"
    if member.issparse():
        return "a sparse file"
    if member.isdir() or member.isreg():
        return ""
    return "a pipe" if member.isfifo() else "a device" if member.isdev() else "neither a file nor a folder"
