"""Copies a remote file or folder to a local folder, within limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tfserve.archives.entries import ArchiveEntry, conflict, name_problem
from tfserve.errors import Forbidden, Invalid, NotFound, OutOfSpace, TFserveError, TooLarge, Unavailable
from tfserve.remote_sources import RemoteSource

CHUNK_BYTES = 2**20
MAX_FILES = 20_000
PROTOCOLS = {"https": "http", "s3": "s3", "gs": "gs", "hf": "hf"}
"""fsspec's names."""
EXTRAS = {"https": "remote", "s3": "remote", "gs": "gcs", "hf": "huggingface"}


class ExtraMissing(Invalid):
    """path: {scheme}:// needs an extra package. Install it on the server with: pip install 'tfserve[{extra}]'"""


class RemoteNotFound(NotFound):
    """{source} has no file."""


class RemoteRefused(Forbidden):
    """{source} refused access: {cause}. The server uses the credentials in its environment."""


class RemoteFailed(Unavailable):
    """{source} can't be read: {cause}"""


class RemoteTooLarge(TooLarge):
    """{source} has more than {limit} {what}."""


class RemoteNoRoom(OutOfSpace):
    """{source} has more than the {room} bytes that are left for your uploads on the disk and in your quota. DELETE \
/upload/<id> removes an upload."""


class FileSystem(Protocol):
    """The part of fsspec that is used."""

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, Any]]: ...
    def open(self, path: str, mode: str, **options: Any) -> Any: ...


@dataclass(frozen=True)
class FetchLimits:
    """In bytes. `room` is what the disk and the quota leave."""

    max_bytes: int
    room: int


@dataclass(frozen=True)
class RemoteFile:
    """One file, with its name below the source."""

    name: str
    path: str


def fetch(source: RemoteSource, allowed: Sequence[RemoteSource], folder: Path, limits: FetchLimits) -> list[str]:
    """Writes file n to `folder/n`. Returns their names below the source.

    Raises `ExtraMissing`, `RemoteNotFound`, `RemoteRefused`, `RemoteFailed`, `RemoteTooLarge`, `RemoteNoRoom`,
    `Invalid`.
    """
    try:
        file_system = _file_system(source, allowed)
    except ImportError:
        raise ExtraMissing(scheme=source.scheme, extra=EXTRAS[source.scheme]) from None
    try:
        files = _files(file_system, source)
        _check(files, source)
        left = min(limits.max_bytes, limits.room)
        for index, file in enumerate(files):
            left = _copy(file_system, file, folder / str(index), left, source, limits)
    except TFserveError:
        raise
    except Exception as error:  # each kind of source raises the errors of its own libraries
        raise _translated(error, source) from None
    return [file.name for file in files]


def _file_system(source: RemoteSource, allowed: Sequence[RemoteSource]) -> FileSystem:
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True}
    if source.scheme == "https":
        from tfserve.remote_files.public_https import client_of

        options["get_client"] = client_of(allowed)
    file_system: FileSystem = fsspec.filesystem(PROTOCOLS[source.scheme], **options)
    return file_system


def _files(file_system: FileSystem, source: RemoteSource) -> list[RemoteFile]:
    if source.scheme == "https":
        return [RemoteFile(source.name, source.url)]
    path = f"{source.place}{source.path}".rstrip("/")
    found = sorted(each for each, info in file_system.find(path, detail=True).items() if info.get("type") == "file")
    if not found:
        raise RemoteNotFound(source=source)
    if found == [path]:
        return [RemoteFile(source.name, path)]
    return [RemoteFile(each.removeprefix(f"{path}/"), each) for each in found if not each.endswith("/")]


def _check(files: Sequence[RemoteFile], source: RemoteSource) -> None:
    if len(files) > MAX_FILES:
        raise RemoteTooLarge(source=source, limit=MAX_FILES, what="files")
    for file in files:
        if (problem := name_problem(file.name)) is not None:
            raise Invalid(f"{source} has a file whose name can't be used, {file.name[:100]!r}: {problem}.")
    if conflict([ArchiveEntry(index, file.name, 0) for index, file in enumerate(files)]) is not None:
        raise Invalid(f"{source} has two files whose names differ only in a way that this server does not keep.")


def _copy(
    file_system: FileSystem, file: RemoteFile, target: Path, left: int, source: RemoteSource, limits: FetchLimits
) -> int:
    """Returns how many bytes are left of the limits."""
    whole = {"block_size": 0} if source.scheme == "https" else {}  # in one request, not in ranges
    with file_system.open(file.path, "rb", **whole) as remote, target.open("xb") as local:
        while chunk := remote.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0 and limits.room < limits.max_bytes:
                raise RemoteNoRoom(source=source, room=limits.room)
            if left < 0:
                raise RemoteTooLarge(source=source, limit=limits.max_bytes, what="bytes (max_upload_bytes)")
            local.write(chunk)
    return left


def _translated(error: Exception, source: RemoteSource) -> TFserveError:
    causes = [*_causes(error)]
    for each in causes:  # fsspec reports every problem of an HTTPS request as a missing file
        if isinstance(each, TFserveError):
            return each
    main = next((each for each in causes if not isinstance(each, FileNotFoundError)), error)
    status = next((found for each in causes if (found := getattr(each, "status", None)) is not None), None)
    if isinstance(error, PermissionError) or status in (401, 403):
        return RemoteRefused(source=source, cause=_sentence(main, source))
    if isinstance(error, FileNotFoundError) and (source.scheme != "https" or status in (404, 410)):
        return RemoteNotFound(source=source)
    return RemoteFailed(source=source, cause=_sentence(main, source))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _sentence(error: BaseException, source: RemoteSource) -> str:
    """One line, without the query of the address."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text.replace(source.query, "…")[:300] if source.query else text[:300]
