"""Zip and tar files with a data set, unpacked into a folder of the task: never outside it, and within limits."""

from __future__ import annotations

import os
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tfserve.archives import unpacking
from tfserve.archives.entries import (
    MAX_RATIO,
    ArchiveEntry,
    ArchiveTooLarge,
    BadArchive,
    entry_problem,
    expansion_problem,
)
from tfserve.archives.unpacking import Archive, WrongSize, copy_exactly, without_suffix
from tfserve.errors import OutOfSpace
from tfserve.runtimes.error_summary import cause
from tfserve.training.atomic_files import is_disk_full
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.project_folders import is_archive
from tfserve.training.dataset.search import SYSTEM_FOLDERS, Search, shown

SUFFIXES = (
    *image_reading.SUFFIXES,
    ".csv",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".ndjson",
    ".manifest",
    ".labels",
    ".yaml",
    ".yml",
    ".xml",
    ".names",
)
NOTES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".manifest", ".labels", ".xml", ".yaml", ".yml")
"""Suffixes of files that may describe images in an archive next to them."""
MAX_FILES = 1_000_000
MAX_BYTES = 64 * 2**30
MAX_PACKED_MASK = 2**20
"""Images and masks hardly shrink, so larger files may not have more than a hundred times their packed size."""
MAX_LEVELS = 3
"""Archives in archives: what a site for downloads puts around the archive of a data set."""


ASIDE = ".archive"
"""The name of an archive from an archive while it is unpacked. Names of their own may be as long as names can be."""
UNPACKED = "unpacked"
TOO_LARGE = "it needs more than half of the free disk space"


@dataclass
class _Left:
    """What all archives of a project may still unpack."""

    files: int = MAX_FILES


def unpack(search: Search) -> bool:
    """Unpacks the project itself, or the archives in its folder, and makes that the root. False without archives.

    Several archives, such as `train.zip` and `test.zip`, become folders next to each other, and so do tables and
    annotations that are next to an archive.
    """
    is_whole = is_archive(search.project)
    archives = [search.project] if is_whole else _archives(search, search.root)
    if not archives:
        return False
    base = search.project.parent if is_whole else search.root
    shutil.rmtree(search.work(UNPACKED), ignore_errors=True)
    folder, left = search.work(UNPACKED), _Left()
    targets = [folder / without_suffix(archive.relative_to(base)) for archive in archives]
    for archive, target in zip(archives, targets, strict=True):
        _unpack(search, archive, target, archive, left, MAX_LEVELS)
    root = targets[0] if len(archives) == 1 else folder
    if not is_whole:
        _link_notes(search, root)
    search.root = root
    return True


def has_images(search: Search) -> bool:
    return search.root.is_dir() and bool(search.below(search.root, image_reading.SUFFIXES))


def _link_notes(search: Search, folder: Path) -> None:
    """Links to the tables and annotations in the project, where its archives were unpacked."""
    for note in search.below(search.root, NOTES, depth=2):
        link = folder / note.relative_to(search.root)
        if not os.path.lexists(link) and not any(part.is_file() for part in link.parents):
            link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            link.symlink_to(note.resolve())
            search.linked[link] = note


def inside(path: str) -> str:
    """The path of an image in the index, as people know it: without the folder in which archives were unpacked.

    That folder is not in the project, so only absolute paths lead into it: a relative one is the user's own.
    """
    return (path.startswith("/") and path.partition(f"/derived/{UNPACKED}/")[2]) or path


def _unpack(search: Search, archive: Path, folder: Path, shown_as: Path, left: _Left, levels: int) -> None:
    """Also unpacks the archives in an archive without images, each to where it was."""
    try:
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        search.skip(shown_as, f"can't be unpacked: a file is called {folder.name}, as its folder would be")
        return
    search.unpacked[folder] = shown_as
    _Unpacking(search, archive, folder, shown_as, left).run()
    if levels <= 1 or search.below(folder, image_reading.SUFFIXES):
        return
    for inner in _archives(search, folder):
        aside = folder.parent / ASIDE
        inner.rename(aside)
        target = without_suffix(inner)
        _unpack(search, aside, target, shown_as / inner.relative_to(folder), left, levels - 1)
        aside.unlink()


def _archives(search: Search, folder: Path) -> list[Path]:
    found = search.below(folder, (".zip", ".tar", ".gz", ".tgz"))
    return [path for path in found if unpacking.is_archive(path.name) and path.is_file()]


def format_of(search: Search) -> str:
    """Which archives the root was unpacked from: `zip` or `tar`."""
    return "zip" if any(_suffix_of(path) == "zip" for path in search.unpacked.values()) else "tar"


class _Unpacking:
    """One archive. What is not unpacked is listed with the reason. Messages call it `shown_as`."""

    def __init__(self, search: Search, archive: Path, folder: Path, shown_as: Path, left: _Left) -> None:
        self._search = search
        self._file = archive
        self._archive = shown_as
        self._folder = folder
        self._left = left
        self._budget = MAX_BYTES
        self._takes_archives = False

    def run(self) -> None:
        self._budget = min(MAX_BYTES, shutil.disk_usage(self._folder).free // 2)
        try:
            with unpacking.opened(
                self._file, self._archive.name, self._most_bytes(), max_files=self._left.files
            ) as archive:
                self._left.files -= len(archive.entries)
                if not any(_suffix(entry) in image_reading.SUFFIXES for entry in archive.entries):
                    self._takes_archives = True
                self._extract_all(archive)
        except ArchiveTooLarge:
            self._search.problems.append(
                f"{self._archive} can't be unpacked: {TOO_LARGE}, or unpacks to more than {MAX_RATIO} times its size."
            )
        except BadArchive as refused:
            self._search.problems.append(f"{self._archive} can't be unpacked: {refused.detail['problem']}.")
        except Exception as error:  # as above
            if is_disk_full(error):
                raise OutOfSpace(cause=f"{self._archive} can't be unpacked: {error}") from error
            self._search.problems.append(
                f"{self._archive} can't be unpacked: it is not a valid {_suffix_of(self._archive)} file"
                f" ({cause(error)})."
            )

    def _most_bytes(self) -> int:
        """What a tar file may hold, which has to be unpacked to be listed."""
        return min(self._budget, max(unpacking.FREE_RATIO_BYTES, MAX_RATIO * self._file.stat().st_size))

    def _extract_all(self, archive: Archive) -> None:
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

    def _destination(self, entry: ArchiveEntry) -> Path | None:
        """Where a file goes; None for what is skipped."""
        parts = entry.key
        if entry.is_folder or any(
            (part.startswith(".") and part != "..") or part.lower() in SYSTEM_FOLDERS for part in parts
        ):
            return None  # hidden files, and what macOS adds
        if (problem := entry_problem(entry)) is not None:
            self._skip(entry, problem)
        elif entry.size > image_reading.MAX_FILE_BYTES and not _is_archive(entry):
            self._skip(entry, f"huge: {entry.size // 2**20} MiB")
        elif (problem := _expansion_problem(entry)) is not None:
            self._skip(entry, problem)
        elif _suffix(entry) not in SUFFIXES and not (self._takes_archives and _is_archive(entry)):
            self._skip(entry, "not an image, mask, table or annotation file")
        else:
            return self._folder.joinpath(*parts)
        return None

    def _extract(self, archive: Archive, entry: ArchiveEntry, path: Path) -> None:
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
            raise BadArchive(name=self._archive.name, problem=TOO_LARGE)

    def _skip(self, entry: ArchiveEntry, reason: str, *, bad: bool = False) -> None:
        name = unicodedata.normalize("NFC", entry.name)
        self._search.skip(self._archive / shown(name).lstrip("/"), reason, bad=bad)


def _expansion_problem(entry: ArchiveEntry) -> str | None:
    """Only zip files know the packed size of each file; all of a tar file counts towards the limit on the disk."""
    return None if entry.packed is None else expansion_problem(entry.size, entry.packed, beyond=MAX_PACKED_MASK)


def _is_archive(entry: ArchiveEntry) -> bool:
    return bool(entry.key) and unpacking.is_archive(entry.key[-1])


def _suffix_of(archive: Path) -> str:
    return "zip" if archive.suffix.lower() == ".zip" else "tar"


def _suffix(entry: ArchiveEntry) -> str:
    return PurePosixPath(entry.key[-1]).suffix.lower() if entry.key else ""
