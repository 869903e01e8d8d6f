"""Rotates the audit log, so that it cannot fill the disk. The web processes open it for every line."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

MAX_BYTES = 64 * 1024 * 1024
KEPT = 5
EVERY_S = 600.0


def rotate_regularly(path: Path | None) -> None:
    """Rotates now and every ten minutes, for as long as the event loop runs."""
    if path is None:
        return
    with contextlib.suppress(OSError):  # the next time
        rotate(path, MAX_BYTES)
    asyncio.get_running_loop().call_later(EVERY_S, rotate_regularly, path)


def rotate(path: Path, max_bytes: int) -> None:
    """`audit.jsonl` → `audit.jsonl.1` → … `.5`, if it is larger than `max_bytes`. Raises `OSError`."""
    if not path.exists() or path.stat().st_size <= max_bytes:
        return
    for number in range(KEPT, 0, -1):
        older = path if number == 1 else _numbered(path, number - 1)
        if older.exists():
            older.replace(_numbered(path, number))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
