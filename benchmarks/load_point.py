"""One measurement: a server under the load of wrk, what wrk saw, and the processor time that it took."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import wrk
from benchmarks.participants import Running
from benchmarks.requests import Request

WARM_UP_SHARE = 0.25


@dataclass
class Point:
    """`cpu_us` is the processor time for one request by role, `client_us` that of wrk. Times are medians and p99."""

    rate: float
    p50_ms: float
    p99_ms: float | None
    failed: int = 0
    cpu_us: dict[str, float] = field(default_factory=dict)
    client_us: float = 0.0

    @property
    def server_us(self) -> float:
        return sum(self.cpu_us.values())


def measure(running: Running, request: Request, folder: Path, *, connections: int, seconds: float) -> Point:
    """After a warm-up. The processor time is divided by all requests of wrk, so failed ones count as well."""
    running.settle()
    wrk.run(running.url, request, folder, connections=connections, seconds=seconds * WARM_UP_SHARE)
    running.settle()  # what the warm-up left behind is answered before the clock starts
    server, client = running.tree.cpu_s_by_role(), client_s()
    seen = wrk.run(running.url, request, folder, connections=connections, seconds=seconds)
    client_us = (client_s() - client) / seen.requests * 1e6
    after = running.tree.cpu_s_by_role()
    cpu_us = {role: max(0.0, after[role] - server[role]) / seen.requests * 1e6 for role in after}
    return Point(seen.rate, seen.p50_ms, seen.p99_ms, seen.failed, cpu_us, client_us)


def client_s() -> float:
    """Processor time of the children that have ended: here, of wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
