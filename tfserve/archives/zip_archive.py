"""Zip files: their entries, and the content of each."""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tfserve.archives.entries import ArchiveEntry, BadArchive

_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_TAIL_BYTES = 66_000
_TYPES = {
    0o120000: "a link, not a file",
    0o020000: "a device",
    0o060000: "a device",
    0o010000: "a pipe",
    0o140000: "a socket",
}
_ENCRYPTED, _UTF8 = 0x1, 0x800
_LOCAL_HEADER_BYTES = 30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""LZMA is left out: its header decides how much memory unpacking takes."""
_MAX_LISTED_BYTES = 1024
"""The average size of what an archive lists about a file may not be larger."""


class ZipArchive:
    """A zip file. Opening it raises `BadArchive` for more than `max_files`, and `zipfile.BadZipFile`."""

    def __init__(self, path: Path, *, name: str, max_files: int) -> None:
        count, listed_bytes = _listed(path)
        if count > max_files:
            raise BadArchive(name=name, problem=f"it has {count} files (limit: {max_files})")
        if listed_bytes > max_files * _MAX_LISTED_BYTES:
            raise BadArchive(name=name, problem=f"its list of files has {listed_bytes} bytes")
        self._zip = zipfile.ZipFile(path)
        self._infos = self._zip.infolist()
        self.entries = [_entry(index, info) for index, info in enumerate(self._infos)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._zip.close()

    def open(self, entry: ArchiveEntry) -> IO[bytes]:
        return self._zip.open(self._infos[entry.index])

    def overlapping(self) -> ArchiveEntry | None:
        """A file whose data is also that of another one, which no program writes that makes archives."""
        ordered = sorted(self.entries, key=lambda entry: self._infos[entry.index].header_offset)
        starts = [self._infos[entry.index].header_offset for entry in ordered]
        for entry, end in zip(ordered, [*starts[1:], self._zip.start_dir], strict=False):
            info = self._infos[entry.index]
            if info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size > end:
                return entry
        return None


def _entry(index: int, info: zipfile.ZipInfo) -> ArchiveEntry:
    return ArchiveEntry(
        index, _name_of(info), info.file_size, info.compress_size, is_folder=info.is_dir(), what=_what(info)
    )


def _what(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ENCRYPTED:
        return "encrypted: create the zip file without a password"
    if info.compress_type not in _METHODS:
        return f"compressed with method {info.compress_type}: use deflate, the usual one"
    return _TYPES.get((info.external_attr >> 16) & 0o170000, "")


def _name_of(info: zipfile.ZipInfo) -> str:
    """The path in an archive, with a NUL and all that follows it, which Python leaves out.

    Names in UTF-8 without the flag that says so, as macOS writes them, are read as such.
    """
    name = info.orig_filename
    if not info.flag_bits & _UTF8 and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name


def _listed(path: Path) -> tuple[int, int]:
    """How many files an archive lists, and the size of the list, without reading it."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        tail = file.read()
    if (at := tail.rfind(_END_64)) >= 0 and len(tail) >= at + 48:
        count, size = struct.unpack_from("<QQ", tail, at + 32)
        return int(count), int(size)
    if (at := tail.rfind(_END)) >= 0 and len(tail) >= at + 16:
        count, size = struct.unpack_from("<HI", tail, at + 10)
        return int(count), int(size)
    return 0, 0
