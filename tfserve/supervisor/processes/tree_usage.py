"""How much memory workers use, together with the processes that they started: one pass over `/proc` for all of them."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class ResourceUsage:
    """Of a process and its descendants. `memory_bytes` counts memory that forked processes share once for each."""

    memory_bytes: int = 0
    pids: list[int] = field(default_factory=list)

    @property
    def processes(self) -> int:
        return len(self.pids)


def measure(roots: Iterable[int]) -> dict[int, ResourceUsage]:
    """The usage of each process and its descendants."""
    children = defaultdict[int, list[int]](list)
    for name in os.listdir("/proc"):  # noqa: PTH208 - 200 times a second faster than Path
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                children[int(fields[1])].append(int(name))
    return {root: _of(root, children) for root in roots}


def _of(root: int, children: dict[int, list[int]]) -> ResourceUsage:
    found, pending = ResourceUsage(), [root]
    while pending:
        pid = pending.pop()
        pending += children.get(pid, [])
        with contextlib.suppress(OSError, ValueError):
            _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_bytes().split())
            found.memory_bytes += (resident - shared) * _PAGE_BYTES
            found.pids.append(pid)
    return found


def exact_memory(pids: Iterable[int]) -> int:
    """The memory of these processes without files, in which each page counts once. Slower to read."""
    return sum(map(_proportional, pids))


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
        anonymous = lines.get("Pss_Anon") or lines.get("Anonymous") or "0 kB"
        return int(anonymous.split()[0]) * 1024
    return 0
