"""The processors of this machine."""

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
    """Raises `Invalid` for any device except the CPU, the only one supported with `library`."""
    if _CPU.fullmatch(device) is None:
        raise Invalid(
            f"{library} runs models on '/cpu:0' only, got {device!r}. To use a GPU, set runtime to tensorflow."
        )


def processor() -> str:
    """An identifier that differs between processors with different results or speed."""
    try:
        cpu_info = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpu_info = ""
    return " ".join([platform.machine(), *dict.fromkeys(_NAMED.findall(cpu_info)), str(cores())])
