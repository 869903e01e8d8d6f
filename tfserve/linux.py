"""What Linux offers to keep a family of processes together and small, and Python has no name for."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Asks the kernel to kill this process when its parent ends, however it ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def use_of(pid: int) -> tuple[int, float]:
    """The resident memory of a process in bytes, and its CPU time in seconds. Raises `OSError` when it is gone."""
    # Its name, in brackets, may hold anything. The third field of proc_pid_stat(5) comes first behind it.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    user_ticks, system_ticks, resident_pages = int(fields[11]), int(fields[12]), int(fields[21])
    return resident_pages * os.sysconf("SC_PAGE_SIZE"), (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK")


def adopt_orphans() -> None:
    """Makes this process the new parent of every descendant whose own parent ends."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def give_memory_back() -> None:
    """Gives the system what this process has freed; glibc keeps it else (see `tfserve.supervisor.allocation`)."""
    if hasattr(_libc, "malloc_trim"):  # which other C libraries do not have
        _libc.malloc_trim(0)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
