"""How processes that carry tensors get their memory from the system.

By itself glibc gives large pieces back as soon as they are free. So every tensor and every body would come in fresh
pages, which the system has to find and to fill with zeros: copying 3 MB takes twenty times as long as it could.
"""

from __future__ import annotations

import os

MIB = 1024 * 1024

_WISHES = {
    "MALLOC_MMAP_THRESHOLD_": 32 * MIB,
    # So much may be kept, at the end of each of glibc's arenas.
    "MALLOC_TRIM_THRESHOLD_": 64 * MIB,
}


def environment() -> dict[str, str]:
    """Variables for a process that is to be started. What the operator has set is left alone."""
    return {name: os.environ.get(name, str(value)) for name, value in _WISHES.items()}
