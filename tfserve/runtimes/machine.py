"""What this machine has for computing."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from tfserve.errors import Invalid

_CPU = re.compile(r"(?:/?device:|/)?cpu:0", re.IGNORECASE)
_NAMED = re.compile(r"^(?:model name|flags|Features)\s*:\s*(.*)$", re.MULTILINE)


def cores() -> int:
    """How many threads can compute at the same time in this process."""
    return len(os.sched_getaffinity(0))


def check_cpu(device: str, library: str) -> None:
    """Raises `Invalid` for any device but the processor, which is all that `library` computes on here."""
    if _CPU.fullmatch(device) is None:
        raise Invalid(
            f"With {library} a model runs on '/cpu:0'; {device!r} was given. On a GPU it needs the runtime tensorflow."
        )


def processor() -> str:
    """Words that differ between processors that may compute differently, or at another speed."""
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    return " ".join([platform.machine(), *dict.fromkeys(_NAMED.findall(told)), str(cores())])
