"""Zip files with a data set, unpacked into a folder of the task: never outside it, and within limits."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path, PurePosixPath

from tfserve.archives.entries import BadArchive, Entry, entry_problem, expansion_problem
from tfserve.archives.unpacking import WrongSize, copy_exactly
from tfserve.archives.zip_archive import ZipArchive
from tfserve.errors import OutOfSpace
from tfserve.runtimes.error_summary import cause
from tfserve.training.atomic_files import is_disk_full
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.project_folders import is_archive
from tfserve.training.dataset.search import IGNORED_FOLDERS, Search, shown

SUFFIXES = (*image_reading.SUFFIXES, ".csv", ".tsv", ".txt", ".json", ".yaml", ".yml", ".xml", ".names")
MAX_FILES = 1_000_000
MAX_BYTES = 64 * 2**30
MAX_PACKED_MASK = 2**20
"""Images and masks hardly shrink, so larger files may not have more than a hundred times their packed size."""


def unpack(search: Search) -> bool:
    """Unpacks the project itself, or the zip files in its folder, and makes that the root. False without zip files.

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
            with ZipArchive(self._archive, name=self._archive.name, max_files=MAX_FILES) as archive:
                self._extract_all(archive)
        except BadArchive as refused:
            self._search.problems.append(f"{self._archive} can't be unpacked: {refused.detail['problem']}.")
        except Exception as error:  # as above
            if is_disk_full(error):
                raise OutOfSpace(cause=f"{self._archive} can't be unpacked: {error}") from error
            self._search.problems.append(
                f"{self._archive} can't be unpacked: it is not a valid zip file ({cause(error)})."
            )

    def _extract_all(self, archive: ZipArchive) -> None:
        for entry in archive.entries:
            if path := self._destination(entry):
                try:
                    self._extract(archive, entry, path)
                except WrongSize as error:
                    self._skip(entry, error.detail["problem"], bad=True)
                except BadArchive:
                    raise
                except FileExistsError:
                    self._skip(entry, "a duplicate file name")
                except Exception as error:  # a damaged archive can raise anything: zlib.error, EOFError, …
                    if is_disk_full(error):
                        raise
                    self._skip(entry, f"can't be unpacked: {cause(error, 120)}", bad=True)

    def _destination(self, entry: Entry) -> Path | None:
        """Where a file goes; None for what is skipped."""
        parts = entry.key
        if entry.is_folder or any(
            (part.startswith(".") and part != "..") or part.lower() in IGNORED_FOLDERS for part in parts
        ):
            return None  # hidden files, and what macOS adds
        if (problem := entry_problem(entry)) is not None:
            self._skip(entry, problem)
        elif entry.size > image_reading.MAX_FILE_BYTES:
            self._skip(entry, f"huge: {entry.size // 2**20} MiB")
        elif (problem := expansion_problem(entry.size, entry.packed or 0, beyond=MAX_PACKED_MASK)) is not None:
            self._skip(entry, problem)
        elif PurePosixPath(parts[-1]).suffix.lower() not in SUFFIXES:
            self._skip(entry, "not an image, mask, table or annotation file")
        else:
            return self._folder.joinpath(*parts)
        return None

    def _extract(self, archive: ZipArchive, entry: Entry, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with archive.open(entry) as packed, path.open("xb") as file:
            try:
                for size in copy_exactly(packed, file, entry):
                    self._spend(size)
            except BaseException:
                path.unlink()  # half of an image is worse than none
                raise

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise BadArchive(name=self._archive.name, problem="it needs more than half of the free disk space")

    def _skip(self, entry: Entry, reason: str, *, bad: bool = False) -> None:
        name = unicodedata.normalize("NFC", entry.name)
        self._search.skip(self._archive / shown(name).lstrip("/"), reason, bad=bad)
