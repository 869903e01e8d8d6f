"""The versions in a model's folder, and whether their files have changed since they were last examined."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.ipc.messages import MAX_VERSION, DeclaredModel
from tfserve.models import formats
from tfserve.models.formats import SAVED_MODEL, Located
from tfserve.paths import resolve

MAX_FILES = 10_000
"""Maximum number of files of one folder that are compared."""
MAX_LINKS = 40
MAX_FOLDERS = 1000
"""Maximum number of watched folders of one version."""


@dataclass(frozen=True)
class VersionFolders:
    """The path of each version; None for a model without numbered versions."""

    versions: dict[int | None, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Fingerprint:
    """Identifies the state of some files. `newest` is the time of the last change."""

    key: int
    newest: float


def find(model: DeclaredModel, roots: Sequence[Path]) -> VersionFolders:
    """The versions that exist. Raises `PathRefused`, `Invalid`, `OSError`."""
    folder = Path(model.path)
    real = resolve(model.path, start=Path("/"), roots=roots)
    numbers = _numbers(real) if real.is_dir() else []
    if not numbers and not _needs_versions(model):
        return VersionFolders({None: folder})
    if not real.is_dir():
        raise Invalid(f"{model.path} is not a folder of numbered versions: it {_what(real)}.")
    if (real / "saved_model.pb").exists() and not _needs_versions(model):
        return VersionFolders({None: folder})
    return VersionFolders({int(name): folder / name for name in numbers})


def _needs_versions(model: DeclaredModel) -> bool:
    return model.versions is not None or bool(model.labels) or model.default is not None


def _numbers(folder: Path) -> list[str]:
    """The names of the numbered folders. Of two that are the same number (5 and 05), the shorter one counts."""
    names = [
        each.name for each in os.scandir(folder)
        if each.name.isascii() and each.name.isdigit() and len(each.name) < 20 and each.is_dir()
    ]  # fmt: skip
    shortest = {int(name): name for name in sorted(names, key=len, reverse=True)}
    return [name for number, name in shortest.items() if number <= MAX_VERSION]


def _what(path: Path) -> str:
    return "is a file" if path.exists() else "does not exist"


def check_complete(located: Located) -> None:
    """Raises `Invalid` if files of a model are missing that are only read when it is loaded."""
    variables = located.path / "variables"
    if located.format == SAVED_MODEL and variables.is_dir() and any(variables.iterdir()):
        formats.check_checkpoint(str(variables / "variables"), f"The SavedModel {located.path}")


def fingerprint(path: Path) -> Fingerprint:
    """Of a folder with all files in it, or of a file and its neighbours with the same name. Raises `OSError`."""
    entries = []
    newest = 0.0
    for file in _files(path):
        try:
            found = file.stat()
        except OSError:
            found = file.lstat()
        entries.append((str(file), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
        newest = max(newest, found.st_ctime)
    return Fingerprint(hash(tuple(sorted(entries))), newest)


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        names = sorted(each.name for each in path.parent.iterdir() if each.name.startswith(path.stem or path.name))
        yield from (path.parent / name for name in names[:MAX_FILES])
        return
    for folder in folders_in(path):
        yield folder
        yield from (Path(entry.path) for entry in islice(os.scandir(folder), MAX_FILES))


def folders_in(path: Path) -> Iterator[Path]:
    """A folder and all below it. Nothing if it is not a folder."""
    return (Path(folder) for folder, _, _ in islice(os.walk(path), MAX_FOLDERS))


def folders_above(path: Path) -> set[Path]:
    """A folder, the folders of the links on the way to it, or the closest folder above it that exists."""
    folders = {path} if path.is_dir() else set()
    for _ in range(MAX_LINKS):
        folders.add(_closest(path.parent))
        folders.update(_closest(each.parent) for each in path.parents if each.is_symlink())
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return folders


def _closest(folder: Path) -> Path:
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
