"""Text files as programs of all systems write them: in UTF-8 or UTF-16, with or without a mark, or in Windows-1252."""

from __future__ import annotations

from pathlib import Path

_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SAMPLE = 256


def read(path: Path) -> str:
    """Raises `OSError`, and `UnicodeDecodeError` if the file is not text."""
    return decoded(path.read_bytes())


def decoded(data: bytes) -> str:
    """Raises `UnicodeDecodeError` if this is not text."""
    if data[:2] in _MARKS:
        return data.decode("utf-16")
    if (encoding := _wide(data[:_SAMPLE])) is not None:
        return data.decode(encoding)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:
            raise
        return data.decode("cp1252", errors="replace")


def _wide(data: bytes) -> str | None:
    """The form of UTF-16 without a mark: every other byte of most text is 0."""
    for encoding, zeros, others in (("utf-16-le", data[1::2], data[::2]), ("utf-16-be", data[::2], data[1::2])):
        if len(zeros) > 2 and zeros.count(0) > len(zeros) / 2 and not others.count(0):
            return encoding
    return None
