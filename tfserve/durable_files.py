"""Writes files that are on the disk, whole, when the function returns."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_durably(file: Path, content: bytes) -> None:
    """Replaces the file in one step. Raises `OSError`."""
    aside = file.with_name(f".{file.name}")
    with aside.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    aside.replace(file)
    sync_folder(file.parent)


def write_private(path: Path, content: bytes) -> None:
    """Replaces the file in one step. Only this user may read it."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
