"""The lines of a TOML document's keys, which Python's parser does not report."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cached_property
from typing import Any


class Lines:
    """Finds the line of a key in a valid TOML document."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _numbers(self) -> dict[tuple[str, ...], int]:
        """Line by key. Only a document with problems is read again for it."""
        numbers: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(self._text.splitlines(), start=1):
            stripped = line.strip()
            key: tuple[str, ...] = ()
            if stripped.startswith("["):
                key = table = _path_of(stripped) or table
            elif "=" in stripped and (inner := _path_of(f"{stripped.partition('=')[0]} = 0")):
                key = (*table, *inner)
            for length in range(1, len(key) + 1):
                numbers.setdefault(key[:length], number)
        return numbers

    def of(self, key: tuple[str, ...]) -> int | None:
        """The line of a key, or of the closest table around it that has one."""
        while key:
            if key in self._numbers:
                return self._numbers[key]
            key = key[:-1]
        return None


def _path_of(line: str) -> tuple[str, ...]:
    """The path of the one key in a line of TOML; empty if the line is part of something longer."""
    try:
        found: Mapping[str, Any] = tomllib.loads(line)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return ()
    path: list[str] = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        path.append(name)
    return tuple(path)
