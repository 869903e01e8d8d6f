"""The limits of a workspace."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What each process of a workspace, with everything that it starts, may use; 0 for no limit.

    `disk_bytes` is the size of the workspace's folder, `output_bytes` what is kept of a job's output, `job_time_s` how
    long a script may run.
    """

    memory_bytes: int = 0
    threads: int = 0
    processes: int = 0
    disk_bytes: int = 0
    output_bytes: int = 0
    job_time_s: float = 0.0
