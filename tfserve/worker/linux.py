"""What a worker asks of Linux and of the C library: to die with its parent, and to take along what it started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_CLONE_FS = 0x200
_START_TIME_FIELD = 19  # of /proc/<pid>/stat, counted after the name in brackets
_KILL_ROUNDS = 10  # each finds what was forked during the one before

Moment = tuple[int, int]
"""Kernel ticks since boot, and within a tick (10 ms) the highest process id given out until then."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]


def die_soon_after_parent(parent_pid: int) -> None:
    """The kernel ends this process a second after its parent. Exits if that is gone already; 0 is unknown.

    Not at once, since the second is for `end_group`: whoever dies by SIGKILL leaves its own children behind. The
    C function `alarm` is the handler of SIGHUP and takes its number, 1, for seconds. So this works even when no
    Python code can run.
    """
    _libc.signal(signal.SIGHUP, ctypes.cast(_libc.alarm, ctypes.c_void_p))
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
    if parent_pid and os.getppid() != parent_pid:
        os._exit(1)


def unshare_folder() -> bool:
    """Gives the calling thread a working directory of its own. False where the kernel does not allow it."""
    return bool(_libc.unshare(_CLONE_FS) == 0)


def flush_c_streams() -> None:
    """Writes out what C code has printed and still buffers."""
    _libc.fflush(None)


def end_group() -> None:
    """Kills this process and everything that it started, at once."""
    try:
        kill_descendants()
    finally:  # also in an interpreter that a script has broken
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


def now() -> Moment:
    """The present, comparable with the start of processes."""
    ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
    return ticks, int(Path("/proc/loadavg").read_text().split()[-1])


def kill_descendants(since: Moment = (0, 0)) -> None:
    """Kills the processes below this one that were started since then, and theirs, and reaps them."""
    for _ in range(_KILL_ROUNDS):
        victims = [child for child in _living_descendants() if _started_at(child.pid) > since]
        if not victims:
            return
        for child in victims:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(victims, timeout=1)


def _living_descendants() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def _started_at(pid: int) -> Moment:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1, pid
    return int(stat.rpartition(")")[2].split()[_START_TIME_FIELD]), pid
