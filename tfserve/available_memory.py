"""How much memory a new process can get: of the machine, and of the control groups (containers) of this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

_GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60
"""Version 1 of control groups reports at least this number for a group without a limit."""


def of_process() -> int:
    """The smallest of what the machine and each control group have left, in bytes."""
    return min([int(psutil.virtual_memory().available), *(free_of(folder) for folder in control_groups())])


def total() -> int:
    """The memory of the machine, or the smaller limit of a control group."""
    limits = [_number(folder / name) for folder in control_groups() for name in _LIMITS]
    return min([int(psutil.virtual_memory().total), *(limit for limit in limits if limit is not None)])


def control_groups(root: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> Iterator[Path]:
    """The folders of the groups that limit the memory of this process, the innermost first."""
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            base = root / "memory" if controllers else root
            folder = base / path.lstrip("/")
            yield from (each for each in (folder, *folder.parents) if each.is_relative_to(base) and each.is_dir())


_LIMITS = ("memory.max", "memory.limit_in_bytes")


def free_of(folder: Path) -> int:
    """Pages of files count as free, because the kernel drops them first."""
    for limit_name, used_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None and used is not None:
            return max(0, limit - used + _cache(folder / "memory.stat", cache_name))
    return _NO_LIMIT


def _number(file: Path) -> int | None:
    """None without a limit."""
    with contextlib.suppress(OSError, ValueError):
        value = int(file.read_text())
        return value if value < _NO_LIMIT else None
    return None


def _cache(file: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return next(int(value) for key, value in map(str.split, file.read_text().splitlines()) if key == name)
    return 0
