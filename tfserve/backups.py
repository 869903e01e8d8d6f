"""The archive of `tfserve backup`: a tar file with the database, the data folder, and a checksum of every file.

    tfserve-backup.json      `Manifest`
    database/…               see `tfserve.db.copies`
    data/…                   the files of the data folder
    checksums.json           name → SHA-256; its presence shows that the archive is complete

An archive to be restored may be damaged or hostile: only regular files and folders below the two folders are accepted,
and every file is new in a folder that was empty. So nothing can be written elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import msgspec

from tfserve.errors import Conflict, Invalid

FORMAT = 1
MANIFEST, CHECKSUMS = "tfserve-backup.json", "checksums.json"
DATABASE, DATA = "database", "data"
RESTORING = ".restoring"
"""The folder inside of a data folder that exists while it is being restored."""
EXCLUDED = frozenset(
    {"tfserve.sqlite3", "tfserve.sqlite3-wal", "tfserve.sqlite3-shm", "tfserve.sqlite3-journal", "server.lock",
     "processes", "local_token", "local_token.new", "token-allowances", RESTORING}
)  # fmt: skip
"""Names in a data folder that belong to the running server, or are copied as the database."""
MAX_MANIFEST_BYTES = 1024 * 1024
CHUNK = 1024 * 1024

T = TypeVar("T")


class BackupUnusable(Invalid):
    """The backup {file} can't be restored: {problem}"""


class RestoreInterrupted(Conflict):
    """The restore of the data folder {folder} was interrupted. Empty the folder and run tfserve restore again."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`database` is sqlite or postgresql. `data_dir` is the path of the data folder on the server."""

    format: int = FORMAT
    tfserve: str
    created_at: str
    database: str
    data_dir: str


@dataclass
class Summary:
    """What was written or restored. `left_out` lists links, sockets and device files."""

    files: int = 0
    size: int = 0
    left_out: list[str] = field(default_factory=list)


def refuse_interrupted_restore(folder: Path) -> None:
    """Raises `RestoreInterrupted`."""
    if (folder / RESTORING).exists():
        raise RestoreInterrupted(folder=str(folder))


# --- writing


def write(file: IO[bytes], manifest: Manifest, database: Path, folder: Path) -> Summary:
    """Writes an archive with the files in the folder `database` and of the data folder. Raises `OSError`."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        writer = _Writer(archive)
        writer.add_bytes(MANIFEST, msgspec.json.encode(manifest))
        writer.add_folder(DATABASE, database, frozenset())
        writer.add_folder(DATA, folder, EXCLUDED)
        writer.add_bytes(CHECKSUMS, msgspec.json.encode(writer.checksums))
    return writer.summary


class _Writer:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self.checksums: dict[str, str] = {}
        self.summary = Summary()

    def add_bytes(self, name: str, content: bytes) -> None:
        self._add_content(_file_info(name, len(content)), io.BytesIO(content))

    def add_folder(self, name: str, folder: Path, excluded: frozenset[str]) -> None:
        """Files that disappear meanwhile are left out: only temporary ones and those of destroyed workspaces do."""
        for path in sorted(folder.iterdir()):
            if path.name in excluded:
                continue
            inside = f"{name}/{path.name}"
            with contextlib.suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode):
                    self._add_directory(inside, path)
                elif stat.S_ISREG(mode):
                    self._add_file(inside, path)
                else:
                    self.summary.left_out.append(str(path))

    def _add_directory(self, name: str, path: Path) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o700
        self._archive.addfile(info)
        self.add_folder(name, path, frozenset())

    def _add_file(self, name: str, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(fd)
            info = _file_info(name, found.st_size)
            info.mode = found.st_mode & 0o700
            info.mtime = int(found.st_mtime)
            self._add_content(info, file)
        self.summary.files += 1
        self.summary.size += info.size

    def _add_content(self, info: tarfile.TarInfo, file: IO[bytes]) -> None:
        content = _Hashed(file, info.size)
        self._archive.addfile(info, content)  # type: ignore[arg-type]  # it only reads
        self.checksums[_as_text(info.name)] = content.digest.hexdigest()


class _Hashed:
    """Reads exactly `size` bytes, although a program may append to the file or truncate it, and hashes them."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        data = self._file.read(size).ljust(size, b"\0")
        self._left -= size
        self.digest.update(data)
        return data


def _file_info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


def _as_text(name: str) -> str:
    """The name without the lone surrogates by which Python represents bytes that are not UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


# --- reading


def extract(path: Path, into: Path) -> tuple[Manifest, Summary]:
    """Extracts an archive into the empty folder `into`. Raises `BackupUnusable`, `OSError`."""
    try:
        with tarfile.open(path, "r:") as archive:
            return _Reader(path, archive, into).read()
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise BackupUnusable(file=str(path), problem=f"it is not a complete tar file ({error}).") from error


class _Reader:
    def __init__(self, path: Path, archive: tarfile.TarFile, into: Path) -> None:
        self._path = path
        self._archive = archive
        self._into = into
        self._checksums: dict[str, str] = {}
        self._summary = Summary()

    def read(self) -> tuple[Manifest, Summary]:
        members = iter(self._archive)
        manifest = self._manifest(next(members, None))
        for member in members:
            if member.name == CHECKSUMS:
                self._compare(self._json(member, dict[str, str]))
                return manifest, self._summary
            self._check(member)
            self._extract(member)
        raise self._refusal("it is incomplete.")

    def _manifest(self, member: tarfile.TarInfo | None) -> Manifest:
        if member is None or member.name != MANIFEST:
            raise self._refusal(f"it is not a backup of TFserve: expected {MANIFEST} as its first file.")
        if (found := self._json(member, _Format).format) != FORMAT:
            raise self._refusal(f"its format is {found}, and this version reads format {FORMAT}. Install its version.")
        return self._json(member, Manifest)

    def _json(self, member: tarfile.TarInfo, type_: type[T]) -> T:
        content = self._content(member)
        if member.name == MANIFEST and member.size > MAX_MANIFEST_BYTES:
            raise self._refusal(f"{MANIFEST} is too large.")
        data = content.read()
        self._checksums[member.name] = hashlib.sha256(data).hexdigest()
        try:
            return msgspec.json.decode(data, type=type_)
        except msgspec.MsgspecError as error:
            raise self._refusal(f"{member.name} is damaged ({error}).") from None

    def _content(self, member: tarfile.TarInfo) -> IO[bytes]:
        is_plain = member.isreg() and not member.issparse() and member.size >= 0
        content = self._archive.extractfile(member) if is_plain else None
        if content is None:
            raise self._refusal(f"{member.name!r} is not a regular file or folder.")
        return content

    def _check(self, member: tarfile.TarInfo) -> None:
        parts = member.name.split("/")
        if parts[0] not in (DATABASE, DATA) or len(parts) < 2 or not all(map(_is_plain, parts)):
            raise self._refusal(f"the path {member.name!r} does not belong into a backup.")
        if parts[0] == DATA and parts[1] in EXCLUDED:
            raise self._refusal(f"{member.name!r} belongs to a running server.")

    def _extract(self, member: tarfile.TarInfo) -> None:
        target = self._into / PurePosixPath(member.name)
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            if member.isdir():
                target.mkdir(mode=0o700)
            else:
                self._extract_file(member, target)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            raise self._refusal(f"the path {member.name!r} is there twice, or is not in a folder.") from None

    def _extract_file(self, member: tarfile.TarInfo, target: Path) -> None:
        digest, content = hashlib.sha256(), self._content(member)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600 | member.mode & 0o700)
        with os.fdopen(fd, "wb") as file:
            while data := content.read(CHUNK):
                digest.update(data)
                file.write(data)
        self._checksums[_as_text(member.name)] = digest.hexdigest()
        self._summary.files += member.name.startswith(f"{DATA}/")
        self._summary.size += member.size

    def _compare(self, expected: dict[str, str]) -> None:
        self._checksums.pop(CHECKSUMS)
        for name in sorted(expected.keys() | self._checksums.keys()):
            if expected.get(name) != self._checksums.get(name):
                raise self._refusal(f"{name!r} is damaged or missing.")

    def _refusal(self, problem: str) -> BackupUnusable:
        return BackupUnusable(file=str(self._path), problem=problem)


class _Format(msgspec.Struct):
    format: int


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part


# --- restoring in one step


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Callable[[], Any]]:
    """Restores into an empty folder: yields a function that moves the extracted files into place.

    The block extracts into `folder / RESTORING`. As long as that exists, no server starts. If the block raises, the
    folder is emptied again.
    """
    staging = folder / RESTORING
    staging.mkdir(mode=0o700)
    before = {path.name for path in folder.iterdir()}

    def move() -> None:
        for source in (staging / DATA, staging / DATABASE):
            for path in source.iterdir() if source.exists() else ():
                path.rename(folder / path.name)

    try:
        yield move
        os.sync()
        _remove(staging)
    except BaseException:
        for path in folder.iterdir():
            if path.name not in before:
                _remove(path)
        _remove(staging)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
