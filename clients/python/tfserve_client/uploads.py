"""Uploads: in pieces, so that a broken connection costs one piece."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tfserve_client.core import Core, given, result_in
from tfserve_client.errors import Invalid, TFserveError, Unreachable
from tfserve_client.flows import Flow, Pause, Request, Work, operation

PIECE_BYTES = 8 * 2**20
FAILURES = 5
"""Failures in a row without a further byte, after which an upload gives up."""
CONTINUED_AFTER = (408, 409, 503)
"""A slow connection, an outdated offset, and a request before that has not ended yet."""

Info = dict[str, Any]
"""An upload: {id, path, name, state, offset, size, sha256, …}."""
Progress = Callable[[int, int], Any]
"""Gets the bytes that have arrived, and those of the whole file."""


class Uploads(Core):
    """Files that the server keeps for a client: models, scripts, datasets."""

    @operation
    def upload(
        self, path: str | Path, *, name: str | None = None, unpack: bool = True, progress: Progress | None = None,
        resume: str | None = None,
    ) -> Flow[str]:  # fmt: skip
        """Upload a file, or a folder as an archive, and return `upload:<id>`, which all methods take as a path.

        Archives (.zip, .tar, .tar.gz, .tgz) are unpacked unless `unpack` is false. The server compares the checksum.
        Continues after a broken connection, and with `resume=<id>` where an earlier upload of the same file ended.
        """
        path = Path(path)
        if not path.is_dir():
            return (yield from _upload(self, path, name or path.name, unpack, progress, resume))
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "folder.tar"
            yield Work(partial(_pack, path, archive))
            name = f"{name or path.resolve().name}.tar"
            return (yield from _upload(self, archive, name, True, progress, resume))

    @operation
    def create_upload(
        self, name: str, size: int, *, sha256: str | None = None, unpack: bool | None = None
    ) -> Flow[Info]:
        """Announce a file of `size` bytes, which `append_to_upload` sends in pieces."""
        return self._result(Request("POST", "/upload/", _options(name, size, sha256, unpack)))

    @operation
    def append_to_upload(self, id: str, offset: int, piece: bytes) -> Flow[Info]:  # noqa: A002
        """Send the next piece, which begins at `offset`."""
        return self._result(_append(id, offset, piece))

    @operation
    def show_upload(self, id: str) -> Flow[Info]:  # noqa: A002
        """State and offset of an upload."""
        return self._get(f"/upload/{id.removeprefix('upload:')}")

    @operation
    def list_uploads(self) -> Flow[Info]:
        """Your uploads, oldest first, and what they take of the quota: {uploads, used_bytes, quota_bytes}."""
        return self._get("/upload/")

    @operation
    def delete_upload(self, id: str) -> Flow[bool]:  # noqa: A002
        """Delete an upload, unless a deployment, a job or a training uses it."""
        return self._result(Request("DELETE", f"/upload/{id.removeprefix('upload:')}", idempotent=True))


def may_continue(error: TFserveError, failures: int) -> bool:
    """Whether an upload reads its offset and continues, after this many failures without a further byte."""
    return failures <= FAILURES and (isinstance(error, Unreachable) or error.status in CONTINUED_AFTER)


def _upload(
    core: Core, path: Path, name: str, unpack: bool, progress: Progress | None, resume: str | None
) -> Flow[str]:
    sha256, size = yield Work(partial(_checksum, path))
    info = yield from _begin(core, _options(name, size, sha256, unpack), resume)
    failures = 0
    while info["state"] == "receiving":  # with all bytes, an empty piece makes the server try again to complete it
        piece = yield Work(partial(_read, path, info["offset"]))
        if not piece and info["offset"] < size:
            raise Invalid(
                f"{path} has only {info['offset']} of {size} bytes now: it was shortened during its upload. Upload it"
                " again when no program changes it."
            )
        try:
            before = info["offset"]
            info = result_in((yield from core._send(_append(info["id"], before, piece))))
            failures = 0
        except TFserveError as error:
            now = yield from _now(core, info)
            failures = 0 if now["offset"] > before else failures + 1
            if not may_continue(error, failures):
                raise
            if failures:
                yield Pause(failures)  # until the server can be reached again
            info = now
        if progress is not None:
            progress(size if info["state"] == "complete" else info["offset"], size)
    if info["state"] != "complete":
        raise Invalid(f"Upload {info['id']} was refused: {info['reason']}", detail=info)
    return str(info["path"])


def _begin(core: Core, options: dict[str, Any], resume: str | None) -> Flow[Info]:
    if resume is None:
        created: Info = yield from core._result(Request("POST", "/upload/", options))
        return created
    info: Info = yield from core._get(f"/upload/{resume.removeprefix('upload:')}")
    if (info["size"], info["sha256"]) != (options["size"], options["sha256"]):
        raise Invalid(f"Upload {info['id']} is of another file ({info['name']}). Upload this one without `resume`.")
    return info


def _now(core: Core, info: Info) -> Flow[Info]:
    """The state of an upload, or what was known if the server can't be reached."""
    with suppress(Unreachable):
        info = yield from core._get(f"/upload/{info['id']}")
    return info


def _append(upload_id: str, offset: int, piece: bytes) -> Request:
    return Request("PATCH", f"/upload/{upload_id}", {"offset": offset}, content=piece, wait_s=None)


def _options(name: str, size: int, sha256: str | None, unpack: bool | None) -> dict[str, Any]:
    return given(name=name, size=size, sha256=sha256, unpack=None if unpack is None else str(unpack).lower())


def _checksum(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)


def _pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w", dereference=True) as tar:
        tar.add(folder, folder.resolve().name)
