"""Unpacks an archive into a new folder: all of it, or nothing."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tfserve.archives.entries import (
    ArchiveEntry,
    ArchiveNoRoom,
    ArchiveTooLarge,
    BadArchive,
    conflict,
    entry_problem,
    expansion_problem,
)
from tfserve.archives.tar_archive import TarArchive
from tfserve.archives.zip_archive import ZipArchive
from tfserve.errors import TFserveError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_FILES = 200_000
FREE_RATIO_BYTES = 256 * 2**20
"""Archives that unpack to no more than this may have any ratio: weights that are all zero compress well."""
_CHUNK_BYTES = 2**18
_SHOWN = 200
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, UnicodeError, ValueError)

Archive = ZipArchive | TarArchive


class WrongSize(BadArchive):
    """{name} can't be unpacked: {problem}."""


@dataclass(frozen=True)
class Unpacked:
    """How many files were written, and their size."""

    files: int
    size_bytes: int


def is_archive(name: str) -> bool:
    """Whether a file with this name is unpacked. The content does not decide: a .keras file is a zip file, too."""
    return bool(_suffix(name))


def without_suffix(path: Path) -> Path:
    """`set.tar.gz` → `set`."""
    return path.with_name(path.name.removesuffix(_suffix(path.name)))


def _suffix(name: str) -> str:
    """As the name has it; "" for other files, and for names without anything else, such as `.zip` and `...zip`."""
    length = max((len(each) for each in SUFFIXES if name.lower().endswith(each)), default=0)
    return name[-length:] if length and name[:-length].strip(".") else ""


def unpack(path: Path, folder: Path, *, name: str, max_bytes: int, room: int) -> Unpacked:
    """Checks all entries of an archive, then writes them to `folder`, which must not exist.

    `name` is what the archive is called, which may differ from its path; its suffix decides the format.
    `room` is how many bytes may be written at the moment.

    Raises `BadArchive`, `ArchiveTooLarge`, `ArchiveNoRoom`, and `OSError` if the disk is full. What has been
    written by then is left there.
    """
    with _damage_is_bad(name), opened(path, name, max_bytes) as archive:
        files = _checked(archive, name, packed=path.stat().st_size, max_bytes=max_bytes)
        if (size := sum(entry.size for entry in files)) > room:
            raise ArchiveNoRoom(name=name, size=size, room=max(0, room))
        folder.mkdir(mode=0o700)
        for entry in archive.entries:
            if entry.is_folder and entry.parts and not entry.is_junk:
                entry.path_in(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        for entry in files:
            _write(archive, entry, folder, name)
        return Unpacked(len(files), size)


def opened(path: Path, name: str, max_bytes: int, *, max_files: int = MAX_FILES) -> Archive:
    """The archive; the suffix of `name` decides the format. Raises what the constructors of both raise."""
    if name.lower().endswith(".zip"):
        return ZipArchive(path, name=name, max_files=max_files)
    return TarArchive(path, name=name, max_files=max_files, max_bytes=max_bytes)


def copy_exactly(packed: IO[bytes], file: IO[bytes], entry: ArchiveEntry) -> Iterator[int]:
    """Copies an entry, and yields the size of each piece before it is written. Raises `WrongSize`."""
    left = entry.size
    while chunk := packed.read(_CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            break
        yield len(chunk)
        file.write(chunk)
    if left:
        words = "larger" if left < 0 else "smaller"
        raise WrongSize(name=entry.name[:_SHOWN], problem=f"it is {words} than the archive says")


def _checked(archive: Archive, name: str, *, packed: int, max_bytes: int) -> list[ArchiveEntry]:
    """The files to write. Raises `BadArchive` with the first problem."""
    entries = [entry for entry in archive.entries if not entry.is_junk]
    for entry in archive.entries:
        if (problem := entry_problem(entry)) is not None:
            raise _bad(name, entry, problem)
    if (conflicting := conflict(entries)) is not None:
        raise _bad(name, *conflicting)
    if (overlapping := archive.overlapping()) is not None:
        raise _bad(name, overlapping, "its data overlaps that of another file")
    files = [entry for entry in entries if not entry.is_folder]
    size = sum(entry.size for entry in files)
    if not files:
        raise BadArchive(name=name, problem="it has no files")
    if size > max_bytes:
        raise ArchiveTooLarge(name=name, size=size, limit=max_bytes)
    if problem := expansion_problem(size, packed, beyond=FREE_RATIO_BYTES):
        raise BadArchive(name=name, problem=f"it {problem}")
    return files


def _write(archive: Archive, entry: ArchiveEntry, folder: Path, name: str) -> None:
    path = entry.path_in(folder)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        file = path.open("xb")
    except FileExistsError:  # on a file system for which names that differ in case are the same
        raise BadArchive(name=name, problem=f"{entry.name[:_SHOWN]!r}: a duplicate file name") from None
    with archive.open(entry) as packed, file:
        for _ in copy_exactly(packed, file, entry):
            pass


def _bad(name: str, entry: ArchiveEntry, problem: str) -> BadArchive:
    return BadArchive(name=name, problem=f"{entry.name[:_SHOWN]!r}: {problem}")


@contextmanager
def _damage_is_bad(name: str) -> Iterator[None]:
    """Reports what the libraries raise for a damaged archive as `BadArchive`."""
    try:
        yield
    except TFserveError:
        raise
    except MemoryError:
        raise BadArchive(name=name, problem="reading it takes too much memory") from None
    except _DAMAGED as error:
        raise BadArchive(name=name, problem=f"it is not a valid archive ({error or type(error).__name__})") from None
    except OSError as error:
        if error.errno is not None:  # of the system: a full disk, for example
            raise
        raise BadArchive(name=name, problem=f"it is not a valid archive ({error})") from None
