"""Settings of glibc's malloc for processes that handle tensors.

By default, glibc returns large allocations to the system as soon as they are freed. Then every tensor and every body
would get fresh pages, which the system has to find and zero: copying 3 MB would take twenty times as long.
"""

from __future__ import annotations

import os

MIB = 1024 * 1024

_DEFAULTS = {
    "MALLOC_MMAP_THRESHOLD_": 32 * MIB,
    # what each arena of glibc may keep at its end
    "MALLOC_TRIM_THRESHOLD_": 64 * MIB,
}


def environment() -> dict[str, str]:
    """Variables for the environment of a new process. Those that the operator has set are kept."""
    return {name: os.environ.get(name, str(value)) for name, value in _DEFAULTS.items()}
