"""Control groups, version 2: the kernel limits memory and processes of each worker, and ends it when it has none left.

They need a group of the server's own that it may write to: in a container, or with `Delegate=` in the unit of systemd.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from pathlib import Path

from tfserve.ipc.messages import Limits

log = logging.getLogger(__name__)

_ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("memory", "pids")
_THREADS_PER_PROCESS = 64
"""The kernel counts threads. TensorFlow and its libraries have some dozens in a process."""


class ControlGroup:
    """The group of one worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def kills(self) -> int:
        """How many of its processes the kernel ended because of the memory limit."""
        with contextlib.suppress(OSError, ValueError):
            events = dict(line.split() for line in (self._folder / "memory.events").read_text().splitlines())
            return int(events.get("oom_kill", 0))
        return 0

    def peak_bytes(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int((self._folder / "memory.peak").read_text())
        return 0

    def remove(self) -> None:
        """Its processes have ended, except for some that the server is about to end: then the group stays, unused."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class ControlGroups:
    """Groups for workers below the server's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    @classmethod
    def open(cls, root: Path = _ROOT, own: Path = Path("/proc/self/cgroup")) -> ControlGroups | None:
        """None where the server has no group of its own that it may write to."""
        try:
            (line,) = [line for line in own.read_text().splitlines() if line.startswith("0::")]
            folder = root / line.removeprefix("0::").lstrip("/")
            if not set(_CONTROLLERS) <= set((folder / "cgroup.controllers").read_text().split()):
                return None
            _move_own_processes(folder)
            (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in _CONTROLLERS))
        except (OSError, ValueError) as error:
            log.debug("no control groups: %s", error)
            return None
        return cls(folder)

    def add(self, pid: int, limits: Limits) -> ControlGroup | None:
        """A group for a process with these limits; None if it can't be made."""
        folder = self._folder / f"tfserve-worker-{os.getpid()}-{next(self._numbers)}"
        try:
            folder.mkdir()
            (folder / "memory.max").write_text(str(limits.memory_bytes or "max"))
            (folder / "memory.oom.group").write_text("1")
            (folder / "pids.max").write_text(str(limits.processes * _THREADS_PER_PROCESS or "max"))
            with contextlib.suppress(OSError):  # without swap there is no such file
                (folder / "memory.swap.max").write_text("0" if limits.memory_bytes else "max")
            (folder / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            log.warning("no control group for process %s, so it is measured: %s", pid, error)
            with contextlib.suppress(OSError):
                folder.rmdir()
            return None
        return ControlGroup(folder)


def _move_own_processes(folder: Path) -> None:
    """A group with processes can't have groups with limits, so the server moves into a group of its own.

    Raises `OSError` if other programs are in the group: it is not the server's.
    """
    present = {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    if not present:
        return
    session = os.getsid(0)
    if strangers := {pid for pid in present if pid != os.getpid() and os.getsid(pid) != session}:
        raise OSError(f"the group has {len(strangers)} processes of other programs")
    inner = folder / "tfserve-server"
    inner.mkdir(exist_ok=True)
    for pid in present:
        (inner / "cgroup.procs").write_text(str(pid))
