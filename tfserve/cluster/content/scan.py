"""Lists the files below a root with their digests, without leaving the allowed folders.

A link to a place below the root stays a link. One to another allowed folder is followed, as if the files were here. Any
other link is listed as it is: its target is not read. Sockets, pipes and devices are left out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tfserve.cluster.content.digests import Digests, Stamp
from tfserve.cluster.content.errors import ContentChanged, UnreadableFile
from tfserve.ipc.messages import ContentEntry

FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a file is hashed that changes meanwhile."""


@dataclass(frozen=True)
class ScannedEntry:
    """An entry, and the file on this machine."""

    entry: ContentEntry
    path: str
    stamp: Stamp | None = None


def without(*patterns: str) -> Callable[[str], bool]:
    """Whether a relative path is to be listed: no part of it matches a pattern such as `.*.writing`."""
    return lambda path: not any(fnmatchcase(part, pattern) for part in path.split("/") for pattern in patterns)


def scan(
    root: Path,
    digests: Digests,
    *,
    paths: Iterable[str] = ("",),
    roots: Sequence[Path] = (),
    includes: Callable[[str], bool] = lambda _: True,
    with_times: bool = False,
) -> list[ScannedEntry]:
    """Everything at `paths` below the root, sorted by path. Missing paths are left out.

    Links are followed into `roots` only. Raises `UnreadableFile`, `ContentChanged`.
    """
    walk = _Walk(root, roots, includes)
    places = {found.path: found for path in paths for found in walk.below(path)}
    known = digests.below(root)
    hashed: list[tuple[str, Stamp, bytes]] = []
    listed = [_with_digest(each, known, hashed, with_times=with_times) for each in places.values()]
    if hashed:
        digests.remember(hashed)
    return sorted(listed, key=lambda found: found.entry.path)


@dataclass(frozen=True)
class _Place:
    path: str
    real: str
    stat: os.stat_result
    target: str = ""


class _Walk:
    def __init__(self, root: Path, roots: Sequence[Path], includes: Callable[[str], bool]) -> None:
        self._root = root
        self._real_root = os.path.realpath(root)
        self._roots = [os.path.realpath(each) for each in roots]
        self._includes = includes

    def below(self, path: str) -> Iterator[_Place]:
        """The entries at a relative path, and the folders above it."""
        parts = path.split("/") if path else []
        for depth in range(1, len(parts)):
            above = self._root.joinpath(*parts[:depth])
            if above.is_dir():
                yield _Place("/".join(parts[:depth]), str(above), above.stat())
        if path:
            yield from self._entry(path, ())
        else:
            yield from self._children("", (self._real_root,))

    def _children(self, path: str, above: tuple[str, ...]) -> Iterator[_Place]:
        folder = self._root / path
        try:
            names = sorted(each.name for each in folder.iterdir())
        except OSError as error:
            raise UnreadableFile(path=str(folder), cause=error.strerror) from error
        for name in names:
            yield from self._entry(f"{path}/{name}" if path else name, above)

    def _entry(self, path: str, above: tuple[str, ...]) -> Iterator[_Place]:
        if not self._includes(path):
            return
        real = str(self._root / path)
        try:
            path.encode()
            status = os.lstat(real)
        except UnicodeEncodeError:
            log.warning("%r is not copied to other machines, because its name is not UTF-8", real)
            return
        except OSError:
            return  # removed meanwhile
        if stat.S_ISLNK(status.st_mode):
            yield from self._link(path, real, status, above)
        elif stat.S_ISDIR(status.st_mode):
            yield _Place(path, real, status)
            yield from self._children(path, (*above, os.path.realpath(real)))
        elif stat.S_ISREG(status.st_mode):
            yield _Place(path, real, status)

    def _link(self, path: str, real: str, status: os.stat_result, above: tuple[str, ...]) -> Iterator[_Place]:
        target = os.path.realpath(real)
        written = str(Path(real).readlink())
        if _is_below(target, self._real_root):
            folder = os.path.realpath(Path(real).parent)
            yield _Place(path, real, status, os.path.relpath(target, folder))
            return
        if not any(_is_below(target, root) for root in self._roots) or not Path(target).exists() or target in above:
            yield _Place(path, real, status, written)
            return
        followed = Path(target).stat()
        if stat.S_ISDIR(followed.st_mode):
            yield _Place(path, target, followed)
            yield from self._children(path, (*above, target))
        elif stat.S_ISREG(followed.st_mode):
            yield _Place(path, target, followed)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _with_digest(
    place: _Place,
    known: dict[str, tuple[Stamp, bytes]],
    hashed: list[tuple[str, Stamp, bytes]],
    *,
    with_times: bool,
) -> ScannedEntry:
    if place.target:
        return ScannedEntry(ContentEntry(path=place.path, target=place.target), place.real)
    mode = stat.S_IMODE(place.stat.st_mode) & 0o777
    if stat.S_ISDIR(place.stat.st_mode):
        return ScannedEntry(ContentEntry(path=place.path, mode=mode), place.real)
    stamp, digest = known.get(place.real, (None, b""))
    if stamp != Stamp.of(place.stat):
        stamp, digest = digest_of(place.real)
        hashed.append((place.real, stamp, digest))
    entry = ContentEntry(place.path, stamp.size, mode, digest, mtime_ns=stamp.mtime_ns if with_times else 0)
    return ScannedEntry(entry, place.real, stamp)


def digest_of(path: str) -> tuple[Stamp, bytes]:
    """The SHA-256 of a file that does not change meanwhile. Raises `UnreadableFile`, `ContentChanged`."""
    try:
        with os.fdopen(os.open(path, FLAGS), "rb", buffering=0) as file:
            for _ in range(ATTEMPTS):
                file.seek(0)
                before = Stamp.of(os.fstat(file.fileno()))
                digest = hashlib.file_digest(file, "sha256").digest()
                after = Stamp.of(os.fstat(file.fileno()))
                if (after.mtime_ns, after.size, file.tell()) == (before.mtime_ns, before.size, before.size):
                    return before, digest
    except OSError as error:
        raise UnreadableFile(path=path, cause=error.strerror) from error
    raise ContentChanged(path=path)
