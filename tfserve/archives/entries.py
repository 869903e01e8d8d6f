"""An entry of an archive, and the checks that hold for every archive: of a data set, and of an upload."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tfserve.errors import Invalid, OutOfSpace, TooLarge

MAX_NAME_BYTES = 255
"""What Linux file systems allow for one part of a path."""
MAX_PATH_BYTES = 1024
MAX_DEPTH = 50
MAX_RATIO = 100
"""How many times its packed size something may have once it is unpacked."""

JUNK_FOLDERS = ("__macosx",)
JUNK_FILES = (".ds_store", "thumbs.db")
"""In lower case: what macOS and Windows add to archives. It is not unpacked."""


class BadArchive(Invalid):
    """{name} can't be unpacked: {problem}."""


class NotInside(Invalid):
    """{name!r} can't be the path of a file in a folder: {problem}."""


class ArchiveTooLarge(TooLarge):
    """{name} unpacks to {size} bytes or more (limit: {limit}, max_upload_bytes)."""


class ArchiveNoRoom(OutOfSpace):
    """{name} unpacks to {size} bytes, and {room} are left for your uploads on the disk and in your quota. DELETE \
/upload/<id> removes an upload."""


@dataclass(frozen=True)
class ArchiveEntry:
    """A file, a folder, or `what` else an archive may contain."""

    index: int
    name: str
    """As the archive has it."""
    size: int
    packed: int | None = None
    """Its size in the archive, if that is known for each file."""
    is_folder: bool = False
    what: str = ""
    """What it is, if it is neither a file nor a folder that can be unpacked: "a link", "encrypted"."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of its path. Some programs for Windows write backslashes."""
        return tuple(part for part in self.name.replace("\\", "/").split("/") if part not in ("", "."))

    def path_in(self, folder: Path) -> Path:
        """Where to write it. Raises `NotInside`, so that an unchecked name can't lead outside."""
        problem = name_problem(self.name) or ("it is empty" if not self.parts else None)
        if problem is not None:
            raise NotInside(name=self.name[:100], problem=problem)
        return folder.joinpath(*self.parts)

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for names that look the same."""
        return tuple(unicodedata.normalize("NFC", part) for part in self.parts)

    @property
    def is_junk(self) -> bool:
        lower = [part.lower() for part in self.parts]
        is_file = bool(lower) and (lower[-1] in JUNK_FILES or lower[-1].startswith("._"))
        return any(part in JUNK_FOLDERS for part in lower) or is_file


def entry_problem(entry: ArchiveEntry) -> str | None:
    """Why an entry can't be unpacked, whatever the rest of the archive is like."""
    if (problem := name_problem(entry.name)) is not None:
        return problem
    if entry.what:
        return entry.what
    if not entry.parts and not entry.is_folder:
        return "its name is empty"
    return "its size is negative" if entry.size < 0 else None


def name_problem(name: str) -> str | None:
    """Why a name from elsewhere can't be the path of a file in a folder."""
    path = name.replace("\\", "/")
    parts = PurePosixPath(path).parts
    if ".." in parts or path.startswith("/") or (parts and parts[0][1:2] == ":"):
        return "its path leads outside"
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return "its name has control characters"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "its name is not in UTF-8"
    if max(sizes, default=0) > MAX_NAME_BYTES or sum(sizes) + len(sizes) > MAX_PATH_BYTES:
        return f"its name is too long (limit: {MAX_NAME_BYTES} bytes, and {MAX_PATH_BYTES} for the whole path)"
    return f"its path has {len(parts)} folders (limit: {MAX_DEPTH})" if len(parts) > MAX_DEPTH else None


def expansion_problem(size: int, packed: int, *, beyond: int) -> str | None:
    """Why something is a bomb. Sizes up to `beyond` bytes may have any ratio."""
    if size > beyond and size > MAX_RATIO * max(1, packed):
        return f"unpacks to {size // max(1, packed)} times its size"
    return None


def conflict(entries: Iterable[ArchiveEntry]) -> tuple[ArchiveEntry, str] | None:
    """The first entry that can't exist next to those before it, and why."""
    files: set[tuple[str, ...]] = set()
    folders: set[tuple[str, ...]] = set()
    for entry in entries:
        key = entry.key
        above = {key[:depth] for depth in range(1, len(key))}
        if above & files or (key in folders if not entry.is_folder else key in files):
            return entry, "it is both a file and a folder"
        if key in files:
            return entry, "a duplicate file name"
        folders |= above
        (folders if entry.is_folder else files).add(key)
    return None
