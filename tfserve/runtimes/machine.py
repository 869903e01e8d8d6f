"""The processors of this machine."""

from __future__ import annotations

import os
import re

from tfserve.errors import Invalid

_CPU = re.compile(r"(?:/?device:|/)?cpu:0", re.IGNORECASE)


def cores() -> int:
    """How many threads can compute at the same time in this process."""
    return len(os.sched_getaffinity(0))


def check_cpu(device: str, library: str) -> None:
    """Raises `Invalid` for any device except the CPU, the only one supported with `library`."""
    if _CPU.fullmatch(device) is None:
        raise Invalid(
            f"{library} runs models on '/cpu:0' only, got {device!r}. To use a GPU, set runtime to tensorflow."
        )
