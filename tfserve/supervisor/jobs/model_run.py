"""A deferred prediction or a batch while it waits or runs, and what its queue needs of the batch process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfserve.errors import Overloaded
from tfserve.ipc.connections import Connection
from tfserve.supervisor.jobs.job import Job
from tfserve.supervisor.web_processes import WebProcess


class TooManyDeferred(Overloaded):
    """{count} deferred predictions and batches wait or run, the maximum of this server (max_deferred). Wait until \
some have ended."""


class TooManyDeferredBytes(Overloaded):
    """The bodies of the deferred predictions that wait or run have more than {limit} bytes together \
(max_deferred_bytes). Wait until some have ended."""


StartProcess = Callable[[Callable[[Connection], None]], WebProcess]
"""Starts the batch process, which calls the argument with its connection whenever it is ready."""


@dataclass(eq=False)
class ModelRun:
    """One job while it waits or runs."""

    job: Job
    model: str
    folder: Path
    size: int
    #: progress to write, while the one before is being written
    unsaved: dict[str, Any] | None = None
    saving: asyncio.Task[None] | None = None
