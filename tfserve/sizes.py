"""Sizes in bytes as people write them: `512MiB`, `2 GB`, `1073741824`."""

from __future__ import annotations

import re

from tfserve.errors import Invalid

_UNITS = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse(text: str, name: str) -> int:
    """The bytes of a size; 0 for an empty text. Raises `Invalid`, in which `name` is the field or setting."""
    if not text.strip():
        return 0
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise Invalid(f"{name} must be a size such as 512MiB, 2GB or 1073741824 (bytes), got {text!r}")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def parse_share(text: str, name: str) -> float:
    """The share of a percentage, such as 0.75 for `75%`; 0 for anything else. Raises `Invalid`."""
    if not text.strip().endswith("%"):
        return 0.0
    number = text.strip()[:-1].strip()
    if not number.isascii() or not number.isdigit() or not 0 < int(number) <= 100:
        raise Invalid(f"{name} must be a size such as 4GiB, or a share from 1% to 100%, got {text!r}")
    return int(number) / 100


def show(size_bytes: float) -> str:
    """For people, in MiB or GiB."""
    mib = size_bytes / 2**20
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
