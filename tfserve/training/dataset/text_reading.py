"""Text files as programs of all systems write them: in UTF-8 or UTF-16, with or without a mark, or in Windows-1252."""

from __future__ import annotations

from pathlib import Path

_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read(path: Path) -> str:
    """Raises `OSError`, and `UnicodeDecodeError` if the file is not text."""
    return decoded(path.read_bytes())


def decoded(data: bytes) -> str:
    """Raises `UnicodeDecodeError` if this is not text."""
    if data[:2] in _MARKS:
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:
            raise
        return data.decode("cp1252", errors="replace")
