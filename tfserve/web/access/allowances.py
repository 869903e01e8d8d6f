"""How many requests each token may still send now: in this process, or in a file that all web processes map.

The shared file is a table of slots. No lock protects it: two processes that count at the same instant may count one
request less. A lock would let a process that is stopped hold up all others.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

FILE = "token-allowances"
"""In the data folder."""
SLOTS, PROBES = 4096, 8
_SLOT = struct.Struct("<Qdd")


class Allowance(NamedTuple):
    """`left` requests at the time `since`, in seconds of the monotonic clock."""

    left: float
    since: float


class Allowances(Protocol):
    """The allowance of each owner, by the name of the owner."""

    def read(self, owner: str) -> Allowance | None: ...

    def write(self, owner: str, allowance: Allowance) -> None: ...


class OwnAllowances:
    """Of one process."""

    def __init__(self) -> None:
        self._known: dict[str, Allowance] = {}

    def read(self, owner: str) -> Allowance | None:
        return self._known.get(owner)

    def write(self, owner: str, allowance: Allowance) -> None:
        self._known[owner] = allowance


class SharedAllowances:
    """Of all processes that map the same file. `full_after_s` is how long a token sends nothing until it may send all.

    Raises `OSError` if the file can't be made.
    """

    def __init__(self, file: Path, full_after_s: float, clock: Callable[[], float]) -> None:
        self._full_after_s = full_after_s
        self._clock = clock
        self._places: dict[str, tuple[int, int]] = {}
        size = SLOTS * _SLOT.size
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)  # on a full disk, writing to a hole would end the process
            self._table = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def read(self, owner: str) -> Allowance | None:
        key, at = self._place(owner)
        found, left, since = _SLOT.unpack_from(self._table, at)
        return None if found != key or self._is_full(since) else Allowance(left, since)

    def write(self, owner: str, allowance: Allowance) -> None:
        key, at = self._place(owner)
        _SLOT.pack_into(self._table, at, key, *allowance)

    def _place(self, owner: str) -> tuple[int, int]:
        """The key of the owner, and where its slot begins. It is looked for again if another owner has taken it."""
        known = self._places.get(owner)
        if known is not None and _SLOT.unpack_from(self._table, known[1])[0] == known[0]:
            return known
        key = _key(owner)
        self._places[owner] = found = (key, self._slot_for(key) * _SLOT.size)
        return found

    def _slot_for(self, key: int) -> int:
        """That of the key, else a free one, else the one that was used least recently."""
        oldest = (float("inf"), 0)
        for number in ((key + probe) % SLOTS for probe in range(PROBES)):
            found, _, since = _SLOT.unpack_from(self._table, number * _SLOT.size)
            if found == key:
                return number
            oldest = min(oldest, (0.0 if self._is_full(since) else since, number))
        return oldest[1]

    def _is_full(self, since: float) -> bool:
        """Whether the time is so long ago that the allowance is full again, or before the machine started."""
        return not 0 <= self._clock() - since < self._full_after_s


def _key(owner: str) -> int:
    """Not 0, which marks a slot that was never used."""
    return int.from_bytes(hashlib.blake2b(owner.encode(), digest_size=8).digest()) or 1
