"""Uploads of `tfserve.client`: in pieces, so that a broken connection costs one piece."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from tfserve.client_connection import Connection, ServerRefused, ServerUnreachable, read

PIECE_BYTES = 8 * 2**20
ATTEMPTS = 5
"""Attempts in a row without a further byte."""
_TRY_AGAIN = (408, 409, 503)
"""A slow connection, an outdated offset, and a request before that has not ended yet."""

Info = dict[str, Any]


def upload(connection: Connection, path: Path, *, name: str | None, unpack: bool) -> str:
    """Raises `ServerRefused`, `ServerUnreachable`, `OSError`."""
    if not path.is_dir():
        return _upload_file(connection, path, name or path.name, unpack=unpack)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "folder.tar"
        with tarfile.open(archive, "w", dereference=True) as tar:
            tar.add(path, path.resolve().name)
        return _upload_file(connection, archive, f"{name or path.resolve().name}.tar", unpack=True)


def _upload_file(connection: Connection, path: Path, name: str, *, unpack: bool) -> str:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        options = {"name": name, "size": size, "sha256": sha256, "unpack": str(unpack).lower()}
        info = read(connection.send("POST", "/upload/", params=options), Info)
        failures = 0
        while info["state"] == "receiving":
            file.seek(info["offset"])
            piece = file.read(PIECE_BYTES)
            try:
                info, failures = _append(connection, info, piece), 0
            except (ServerRefused, ServerUnreachable) as error:
                failures += 1
                if failures > ATTEMPTS or (isinstance(error, ServerRefused) and error.status not in _TRY_AGAIN):
                    raise
                time.sleep(failures)  # until the server can be reached again
                info = _now(connection, info)
        return str(info["path"])


def _append(connection: Connection, info: Info, piece: bytes) -> Info:
    response = connection.send(
        "PATCH", f"/upload/{info['id']}", params={"offset": info["offset"]}, content=piece, timeout=None
    )
    return read(response, Info)


def _now(connection: Connection, info: Info) -> Info:
    """Its state, or what was known if the server can't be reached."""
    try:
        return read(connection.send("GET", f"/upload/{info['id']}"), Info)
    except ServerUnreachable:
        return info
