"""The record of an upload: a small JSON file in its folder, which is only ever replaced as a whole."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from tfserve.durable_files import write_durably

RECORD = "record.json"


class UploadState(StrEnum):
    """`receiving → complete | refused`."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    REFUSED = "refused"


class Record(msgspec.Struct, kw_only=True, frozen=True):
    """What is known about an upload. Times are seconds since 1970."""

    id: str
    owner: str
    name: str
    created_at: float
    state: UploadState = UploadState.RECEIVING
    is_resumable: bool = False
    size: int | None = None
    """Bytes to be sent, if the client has announced them."""
    sha256: str | None = None
    """Of what is sent: as the client has announced it, and in the end as it is."""
    unpack: bool = True
    reason: str = ""
    """Why it was refused."""
    stored_bytes: int = 0
    """The size of the files, once it is complete."""
    files: int = 0
    top: str = ""
    """The path in its folder `content` that the upload as a whole means."""


def read_record(folder: Path) -> Record | None:
    """The record in an upload's folder, or None if it is missing or can't be read."""
    try:
        return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None


def write_record(folder: Path, record: Record) -> None:
    """Replaces the record. It is on the disk when this returns. Raises `OSError`."""
    write_durably(folder / RECORD, msgspec.json.encode(record))
