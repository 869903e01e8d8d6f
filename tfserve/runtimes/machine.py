"""The processors of this machine."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from tfserve.errors import Invalid

_CPU = re.compile(r"(?:/?device:|/)?cpu:0", re.IGNORECASE)

_IDLE, _WAITING = 3, 4
"""Columns of /proc/stat: without work, and waiting for a disk."""


def cores() -> int:
    """How many threads can compute at the same time in this process."""
    return len(os.sched_getaffinity(0))


def time_of_cores_ns() -> int:
    """What the cores of this process, added up, have not worked for other processes so far: its own use, and idling."""
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    idle = 0
    with Path("/proc/stat").open() as file:
        for line in file:
            if not line.startswith("cpu"):
                break
            name, *ticks = line.split()
            if name in names:
                idle += int(ticks[_IDLE]) + int(ticks[_WAITING])
    return idle * (1_000_000_000 // os.sysconf("SC_CLK_TCK")) + time.process_time_ns()


def check_cpu(device: str, library: str) -> None:
    """Raises `Invalid` for any device except the CPU, the only one supported with `library`."""
    if _CPU.fullmatch(device) is None:
        raise Invalid(
            f"{library} runs models on '/cpu:0' only, got {device!r}. To use a GPU, set runtime to tensorflow."
        )
