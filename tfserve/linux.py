"""Linux system calls for managing child processes and memory that Python's standard library lacks."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

AUTOGROUP = Path("/proc/self/autogroup")

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> None:
    """Makes the kernel kill this process when its parent ends for any reason."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


class Use(NamedTuple):
    """The resident memory of a process, and its CPU time."""

    memory_bytes: int = 0
    cpu_s: float = 0.0


def stop_signals() -> list[signal.Signals]:
    """Those that ask a server to end. A hang-up that was ignored at the start stays ignored, as `nohup` means it."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


def use_of(pid: int) -> Use:
    """Raises `OSError` if the process is gone."""
    # The process name, in brackets, may contain anything. The third field of proc_pid_stat(5) follows it.
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    user_ticks, system_ticks, resident_pages = int(fields[11]), int(fields[12]), int(fields[21])
    return Use(resident_pages * os.sysconf("SC_PAGE_SIZE"), (user_ticks + system_ticks) / os.sysconf("SC_CLK_TCK"))


async def until_ended(pid: int) -> None:
    """Returns when a process has ended, also one that is not a child of this process."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def adopt_orphans() -> None:
    """Makes this process the parent of descendants that are orphaned."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def give_way(nice: int) -> None:
    """Lets processes of other sessions compute first.

    Where Linux groups processes by session, niceness only counts inside a group, and the group has one of its own.
    """
    if nice:
        os.nice(nice)
        with contextlib.suppress(OSError):  # it is not there everywhere
            AUTOGROUP.write_text(str(nice))


def give_memory_back() -> None:
    """Returns freed memory to the system, which glibc would keep (see `tfserve.supervisor.processes.malloc_env`)."""
    if hasattr(_libc, "malloc_trim"):  # glibc only
        _libc.malloc_trim(0)


def sync_file_system(path: Path) -> None:
    """Writes everything that is cached of the file system of `path` to its disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "syncfs", str(path))
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
