"""Keeps the processes of workspaces within their limits, and ends a worker that exceeds one.

Where version 2 of control groups is writable, the kernel enforces memory and processes (`control_groups`). Elsewhere
there is no event for them, so they are measured: the less of a limit is left, the more often. CPU threads are limited
by the processors that a worker may run on: TensorFlow, OpenMP and others make as many threads as there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
from msgspec.structs import astuple

from tfserve import available_memory, paths
from tfserve.config import Settings
from tfserve.errors import Invalid
from tfserve.ipc.messages import Limits
from tfserve.sizes import show
from tfserve.supervisor.processes import tree_usage
from tfserve.supervisor.processes.control_groups import ControlGroup, ControlGroups

log = logging.getLogger(__name__)

GROWTH_BYTES_S = 2 * 2**30
"""Measured: how fast a process can fill memory."""
MIN_MEMORY_BYTES = 256 * 2**20
"""What a worker with TensorFlow needs to start."""
MIN_INTERVAL_S = 0.25
MAX_INTERVAL_S = 5.0
DISK_INTERVAL_S = 10.0


@dataclass(frozen=True)
class Exceeded:
    """A limit that a worker exceeded."""

    name: str
    used: int
    limit: int

    @property
    def sentence(self) -> str:
        used, limit = (str, str) if self.name == "process limit" else (show, show)
        what = {"memory limit": "of memory", "disk limit": "in the workspace's folder"}.get(self.name, "processes")
        return f"{self.name} exceeded: it used {used(self.used)} {what} (limit: {limit(self.limit)})"


class Limited(Protocol):
    """A worker's process."""

    pid: int
    exceeded: Exceeded | None
    #: called once when the process has ended
    find_exceeded: Callable[[], Exceeded | None] | None

    @property
    def alive(self) -> bool: ...

    def kill(self, because: str) -> None: ...


@dataclass(eq=False)
class _Folder:
    """Of a workspace, with its size when it was measured last, and when that was."""

    path: Path
    bytes: int | None = None
    measured_s: float = 0.0


@dataclass(eq=False)
class _Watched:
    child: Limited
    limits: Limits
    folder: _Folder | None


def of_server(settings: Settings) -> Limits:
    """The limits of every workspace."""
    share = int(available_memory.total() * settings.workspace_memory_share)
    return Limits(
        memory_bytes=share or settings.workspace_memory_bytes,
        threads=settings.workspace_threads,
        processes=settings.workspace_processes,
        disk_bytes=settings.workspace_disk_bytes,
        output_bytes=settings.max_output_bytes,
        job_time_s=settings.max_job_s,
    )


def merged(own: Limits, defaults: Limits) -> Limits:
    """The limits of a workspace: its own, and those of the server for the others."""
    return Limits(*(mine or theirs for mine, theirs in zip(astuple(own), astuple(defaults), strict=True)))


def check(own: Limits, defaults: Limits) -> None:
    """Raises `Invalid` if a workspace would have more than the server allows."""
    for name in Limits.__struct_fields__:
        mine, theirs = getattr(own, name), getattr(defaults, name)
        if theirs and mine > theirs:
            raise Invalid(f"The limit {name} of a workspace can't exceed that of the server ({theirs}), got {mine}.")
    if 0 < own.memory_bytes < MIN_MEMORY_BYTES:
        raise Invalid(f"A workspace needs at least {show(MIN_MEMORY_BYTES)} of memory, got {show(own.memory_bytes)}.")


class Limiter:
    """Applies limits to workers when they get their role: those of the workspace, otherwise those of the server."""

    def __init__(self, defaults: Limits, groups: ControlGroups | None = None) -> None:
        self.defaults = defaults
        self._groups = groups
        self._own: dict[str, tuple[Limits, _Folder]] = {}
        self._watched: set[_Watched] = set()
        self._measuring: asyncio.Task[None] | None = None
        #: set when another process has to be measured
        self._added = asyncio.Event()

    def set(self, workspace: str, limits: Limits, folder: Path) -> None:
        self._own[workspace] = limits, _Folder(folder)

    def limits_of(self, workspace: str) -> Limits:
        return self._own.get(workspace, (self.defaults, None))[0]

    def memory_bytes(self, workspace: str) -> int:
        """What a process of the workspace may use; 0 for no limit."""
        return self.limits_of(workspace).memory_bytes

    def forget(self, workspace: str) -> None:
        self._own.pop(workspace, None)

    def apply(self, child: Limited, workspace: str, *, has_scripts: bool) -> None:
        """Limits a process from now on. Only processes that run scripts write to the workspace's folder."""
        limits, folder = self._own.get(workspace, (self.defaults, None))
        _limit_processors(child.pid, limits.threads, workspace)
        group = self._groups.add(child.pid, limits) if self._groups is not None else None
        if group is not None:
            child.find_exceeded = lambda: _of_group(group, limits)
        else:
            _limit_allocations(child.pid, limits.memory_bytes)
        measured = Limits(
            memory_bytes=0 if group is not None else limits.memory_bytes,
            processes=0 if group is not None else limits.processes,
            disk_bytes=limits.disk_bytes if has_scripts and folder is not None else 0,
        )
        if measured != Limits():
            self._watched.add(_Watched(child, measured, folder))
            self._added.set()
            self._measure()

    def _measure(self) -> None:
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.get_running_loop().create_task(self._measure_regularly())

    async def _measure_regularly(self) -> None:
        """Ends with the last limited process."""
        interval_s = MIN_INTERVAL_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._added.wait()
            self._added.clear()
            self._watched = {each for each in self._watched if each.child.alive}
            if not self._watched:
                return
            try:
                used = tree_usage.measure([each.child.pid for each in self._watched])
                interval_s = min([MAX_INTERVAL_S, *(_check(each, used[each.child.pid]) for each in self._watched)])
                await self._check_disks()
            except (OSError, psutil.Error):  # a process that ended meanwhile
                log.debug("the processes of workspaces could not be measured", exc_info=True)

    async def _check_disks(self) -> None:
        """Ends scripts whose folder is too large and still grows. One that is too large already may be tidied up."""
        now = asyncio.get_running_loop().time()
        for each in list(self._watched):
            limit, folder = each.limits.disk_bytes, each.folder
            if not limit or folder is None or (folder.bytes is not None and now - folder.measured_s < DISK_INTERVAL_S):
                continue
            before, folder.measured_s = folder.bytes, now
            folder.bytes = await asyncio.to_thread(_size, folder.path)
            if before is not None and folder.bytes > max(limit, before):
                _end(each.child, Exceeded("disk limit", folder.bytes, limit))


def _check(watched: _Watched, used: tree_usage.ResourceUsage) -> float:
    """Ends a worker that exceeds a limit; otherwise returns after how many seconds it could do so."""
    limits, child = watched.limits, watched.child
    if limits.processes and used.processes > limits.processes:
        _end(child, Exceeded("process limit", used.processes, limits.processes))
    if not limits.memory_bytes:
        return MAX_INTERVAL_S
    if used.memory_bytes > limits.memory_bytes:
        exact = tree_usage.exact_memory(used.pids)  # memory that forked processes share counts once
        if exact > limits.memory_bytes:
            _end(child, Exceeded("memory limit", exact, limits.memory_bytes))
    left = limits.memory_bytes - used.memory_bytes
    return max(MIN_INTERVAL_S, left / GROWTH_BYTES_S)


def _end(child: Limited, exceeded: Exceeded) -> None:
    child.exceeded = child.exceeded or exceeded
    child.kill(exceeded.sentence)


def _of_group(group: ControlGroup, limits: Limits) -> Exceeded | None:
    """Whether the kernel ended the processes of a group, which is removed."""
    try:
        if group.kills():
            return Exceeded("memory limit", group.peak_bytes() or limits.memory_bytes, limits.memory_bytes)
        return None
    finally:
        group.remove()


def _size(folder: Path) -> int:
    with contextlib.suppress(OSError):  # files that a script deletes meanwhile
        return paths.size_bytes(folder) or 0
    return 0


def _limit_processors(pid: int, threads: int, workspace: str) -> None:
    """Workspaces start at different processors, so that they do not all share the first."""
    allowed = sorted(os.sched_getaffinity(0))
    if not 0 < threads < len(allowed):
        return
    first = zlib.crc32(workspace.encode())
    chosen = {allowed[(first + n) % len(allowed)] for n in range(threads)}
    for thread in _threads(pid):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, chosen)


def _threads(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        yield from map(int, os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208


def _limit_allocations(pid: int, memory_bytes: int) -> None:
    """One allocation that is far too large fails at once, before it is measured.

    TensorFlow reserves more memory than it uses, so this limit is only for what could never be meant.
    """
    if memory_bytes:
        limit = 2 * memory_bytes + 4 * 2**30
        with contextlib.suppress(OSError, ValueError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
            resource.prlimit(pid, resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))
