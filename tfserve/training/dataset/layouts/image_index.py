"""Finds image files by what tables and annotations call them: rarely the exact path on this machine."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tfserve.training.dataset.layouts.parts import part_of_path
from tfserve.training.dataset.search import same_form

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
NO_NUMBER = -1
MAX_DIGITS = 18
_UPLOADED = re.compile(r"(?P<folder>.*/)?(?P<prefix>[0-9a-f]{8}-)(?P<name>[^/]+)")
"""What Label Studio puts before the names of files that were uploaded to it."""
_UPLOADS = re.compile(r"(.*/)?(data|media)/upload/[0-9]+/")
"""Label Studio's folders of uploaded files."""
_LOCAL = "/data/local-files/?d="
"""Before the path of a file that Label Studio reads from a folder."""


class ImageIndex:
    """Image files below `root`, by the end of their paths, in any Unicode normal form, with or without suffix.

    `IMG_1.jpg` may also mean `IMG_1.JPG`, if the project has no file with exactly this name.
    """

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self.files = list(files)
        self._parts = {file: _parts(same_form(file.relative_to(root).as_posix())) for file in files}
        self._folders = {folder for parts in self._parts.values() for folder in parts[:-1]}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        self._by_folded: dict[str, list[Path]] = defaultdict(list)
        self._by_number: dict[int, list[Path]] = defaultdict(list)
        for file, parts in self._parts.items():
            self._by_name[parts[-1]].append(file)
            self._by_stem[PurePosixPath(parts[-1]).stem].append(file)
            self._by_folded[parts[-1].casefold()].append(file)
            self._by_number[_number(PurePosixPath(parts[-1]).stem)].append(file)
        self._by_number.pop(NO_NUMBER, None)
        self._has_prefixes = any(_UPLOADED.fullmatch(name) and not name[:8].isdigit() for name in self._by_name)
        #: names in tables → the files that were found without what seems to be a prefix of Label Studio
        self.without_prefix: dict[str, Path] = {}

    def find(self, name: str, near: Path | None = None) -> Path | None:
        """The matching file; None unless exactly one matches. `near` is the folder of the file that names it."""
        name = name.rpartition(_LOCAL)[2]
        found = self._find(name, near)
        return self._uploaded(name, near) if found is None else found

    def _uploaded(self, name: str, near: Path | None) -> Path | None:
        """The file that was uploaded to Label Studio, without its prefix there.

        Elsewhere than in Label Studio's folders, eight digits may be a date, and a project whose files have such
        prefixes means them.
        """
        match = _UPLOADED.fullmatch(_path_of_url(name.strip()).replace("\\", "/"))
        if match is None or self._has_prefixes:
            return None
        folder, prefix, own = match.group("folder") or "", match.group("prefix"), match.group("name")
        is_of_label_studio = _UPLOADS.fullmatch(folder) is not None
        if not is_of_label_studio and prefix[:-1].isdigit():
            return None
        found = self._find(folder + own, near)
        if found is not None and not is_of_label_studio:
            self.without_prefix[name] = found
        return found

    def _find(self, name: str, near: Path | None) -> Path | None:
        parts = _parts(same_form(_path_of_url(name.strip()).replace("\\", "/")))
        if not parts:
            return None
        found = self._by_name.get(parts[-1]) or self._by_folded.get(parts[-1].casefold())
        if found is None:
            found = self._by_stem.get(parts[-1], [])
            parts = (*parts[:-1], "")
        found = [file for file in found if self._may_be(self._parts[file][:-1], parts[:-1])]
        if len(found) < 2:
            return found[0] if found else None
        return self._closest(found, parts, near)

    def remarks(self, source: str) -> list[str]:
        """What `source`, a table, should be checked for."""
        if not self.without_prefix:
            return []
        name, file = next(iter(self.without_prefix.items()))
        return [
            f"{len(self.without_prefix)} names in {source} have a prefix as Label Studio writes it and were found"
            f" without it, such as {name[:100]} ({self.relative(file)})."
        ]

    def numbered(self, name: str) -> Path | None:
        """The only file whose name is this number, be it with zeros before it: spreadsheets drop them."""
        found = self._by_number.get(_number(name.strip()), [])
        return found[0] if len(found) == 1 else None

    def _may_be(self, folders: Sequence[str], given: Sequence[str]) -> bool:
        """Whether a file in these folders can be meant by a path with the folders `given`.

        Folders of another machine are ignored. Those that this project has are: `val/1.jpg` is not `train/1.jpg`.
        """
        if given and given[-1] in self._folders and given[-1] not in folders:
            return False
        named, own = part_of_path(PurePosixPath(*given, "x")), part_of_path(PurePosixPath(*folders, "x"))
        return not named or not own or named == own

    def relative(self, file: Path) -> PurePosixPath:
        return PurePosixPath(*self._parts[file])

    def _closest(self, found: Sequence[Path], parts: Sequence[str], near: Path | None) -> Path | None:
        """Of several files with this name, the one whose folders fit best."""

        def fit(file: Path) -> tuple[int, bool]:
            return _common_end(self._parts[file][:-1], parts[:-1]), near is not None and file.is_relative_to(near)

        best = max(map(fit, found))
        fitting = [file for file in found if fit(file) == best]
        exact = [file for file in fitting if len(self._parts[file]) == len(parts)]
        chosen = fitting if len(fitting) == 1 else exact
        return chosen[0] if len(chosen) == 1 else None


def _path_of_url(name: str) -> str:
    """`https://a.org/my%20cup.jpg?w=9` is `/my cup.jpg`; other names stay."""
    if not _URL.match(name):
        return name
    try:
        return unquote(urlsplit(name).path)
    except ValueError:
        return name


def _number(name: str) -> int:
    return int(name) if name.isascii() and name.isdigit() and len(name) <= MAX_DIGITS else NO_NUMBER


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count
