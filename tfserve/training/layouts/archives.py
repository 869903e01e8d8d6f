"""Zip files with a data set, unpacked into a folder of the task: never outside it, and never without end."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from tfserve.errors import OutOfSpace
from tfserve.training import images
from tfserve.training.first_words import first_words
from tfserve.training.project_folders import is_archive
from tfserve.training.search import IGNORED_FOLDERS, Search, shown
from tfserve.training.writing import tells_full_disk

SUFFIXES = (*images.SUFFIXES, ".csv", ".tsv", ".txt", ".json", ".yaml", ".yml", ".xml", ".names")
MAX_FILES = 1_000_000
MAX_BYTES = 64 * 2**30
MAX_RATIO = 100
"""How many times its packed size a file may have. Images and masks hardly shrink; only files beyond a MiB count."""
MAX_PACKED_MASK = 2**20

_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_TAIL_BYTES = 66_000
_LINK, _TYPE = 0o120000, 0o170000
_ENCRYPTED, _UTF8 = 0x1, 0x800
_CHUNK_BYTES = 2**20


class _Refused(Exception):
    """The file is not unpacked; the message is the reason."""


def unpack(search: Search) -> bool:
    """Unpacks the project itself, or the zip files in its folder, and makes that the root. False if there are none.

    Several archives, such as `train.zip` and `test.zip`, become folders next to each other.
    """
    archives = [search.project] if is_archive(search.project) else _in_folder(search)
    if not archives:
        return False
    folder = search.work("unpacked")
    for archive in archives:
        unpacked = folder / archive.stem
        shutil.rmtree(unpacked, ignore_errors=True)
        search.unpacked[unpacked] = archive
        _Unpacking(search, archive, unpacked).run()
    search.root = folder / archives[0].stem if len(archives) == 1 else folder
    return True


def _in_folder(search: Search) -> list[Path]:
    return [path for path in search.below(search.root, (".zip",), depth=0) if path.is_file()]


class _Unpacking:
    """One archive. What is not unpacked is listed with the reason."""

    def __init__(self, search: Search, archive: Path, folder: Path) -> None:
        self._search = search
        self._archive = archive
        self._folder = folder
        self._budget = MAX_BYTES

    def run(self) -> None:
        self._folder.mkdir(parents=True, mode=0o700)
        self._budget = min(MAX_BYTES, shutil.disk_usage(self._folder).free // 2)
        try:
            if (count := _entry_count(self._archive)) > MAX_FILES:
                raise _Refused(f"it has {count} files, at most {MAX_FILES} are unpacked")
            with zipfile.ZipFile(self._archive) as archive:
                self._extract_all(archive)
        except _Refused as refused:
            self._search.problems.append(f"{self._archive} can't be unpacked: {refused}.")
        except Exception as error:  # as above
            if tells_full_disk(error):
                raise OutOfSpace(cause=f"{self._archive} can't be unpacked: {error}") from error
            self._search.problems.append(
                f"{self._archive} can't be unpacked: it is not a good zip file ({first_words(error)})."
            )

    def _extract_all(self, archive: zipfile.ZipFile) -> None:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            name = _name_of(entry)
            if path := self._destination(entry, name):
                try:
                    self._extract(archive, entry, path)
                except _Refused:
                    raise
                except FileExistsError:
                    self._skip(name, "a second file of this name")
                except Exception as error:  # a damaged archive can raise anything: zlib.error, LZMAError, EOFError, …
                    if tells_full_disk(error):
                        raise
                    self._skip(name, f"can't be unpacked: {first_words(error, 120)}", bad=True)

    def _destination(self, entry: zipfile.ZipInfo, name: str) -> Path | None:
        """Where a file goes; None for what is skipped."""
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if any((part.startswith(".") and part != "..") or part.lower() in IGNORED_FOLDERS for part in parts):
            return None  # hidden files, and what macOS adds
        if ".." in parts or name.startswith(("/", "\\")) or (parts and ":" in parts[0]):
            self._skip(name, "its path leads outside of the archive")
        elif (entry.external_attr >> 16) & _TYPE == _LINK:
            self._skip(name, "a link, not a file")
        elif entry.flag_bits & _ENCRYPTED:
            self._skip(name, "encrypted: pack it without a password")
        elif entry.file_size > images.MAX_FILE_BYTES:
            self._skip(name, f"huge: {entry.file_size // 2**20} MiB")
        elif entry.file_size > MAX_PACKED_MASK and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
            self._skip(name, f"unpacks to {entry.file_size // max(1, entry.compress_size)} times its size")
        elif PurePosixPath(name).suffix.lower() not in SUFFIXES:
            self._skip(name, "not an image, a mask, or a table or annotations of them")
        else:
            return self._folder.joinpath(*parts)
        return None

    def _extract(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with archive.open(entry) as packed, path.open("xb") as file:
            try:
                self._copy(packed, file, entry)
            except BaseException:
                path.unlink()  # half of an image is worse than none
                raise

    def _copy(self, packed: IO[bytes], file: IO[bytes], entry: zipfile.ZipInfo) -> None:
        left = entry.file_size
        while chunk := packed.read(_CHUNK_BYTES):
            left -= len(chunk)
            self._budget -= len(chunk)
            if left < 0:
                raise _Refused(f"{entry.filename[:200]!r} is larger than the archive says")
            if self._budget < 0:
                raise _Refused("it is larger than the space for it: at most half of what is free on the disk")
            file.write(chunk)

    def _skip(self, name: str, reason: str, *, bad: bool = False) -> None:
        self._search.skip(self._archive / shown(name).lstrip("/"), reason, bad=bad)


def _name_of(entry: zipfile.ZipInfo) -> str:
    """The path in an archive. Names in UTF-8 without the flag that says so, as macOS writes them, are read as such."""
    name = entry.filename
    if not entry.flag_bits & _UTF8 and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return unicodedata.normalize("NFC", name)


def _entry_count(archive: Path) -> int:
    """How many files an archive lists, without reading the list."""
    with archive.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        tail = file.read()
    if (at := tail.rfind(_END_64)) >= 0 and len(tail) >= at + 40:
        return int(struct.unpack_from("<Q", tail, at + 32)[0])
    if (at := tail.rfind(_END)) >= 0 and len(tail) >= at + 12:
        return int(struct.unpack_from("<H", tail, at + 10)[0])
    return 0
