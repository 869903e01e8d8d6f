"""The interface between the dispatcher and what executes jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tfserve.ipc.messages import Outcome
from tfserve.supervisor.jobs.job import Job
from tfserve.supervisor.processes.child import Exit


class Runner(Protocol):
    """Runs some kinds of job for one workspace."""

    #: whether a running job of this kind can be ended for certain, by ending its process
    can_kill: bool

    async def run(self, jobs: Sequence[Job]) -> Sequence[Outcome]:
        """The outcomes of the jobs, in their order, or of the first of them. Raises `WorkerDied`, `TFserveError`."""
        ...

    def may_repeat(self, job: Job) -> bool:
        """Whether a job may run a second time after its worker died under it."""
        ...

    def may_share(self, job: Job) -> bool:
        """Whether a prediction may run together with others."""
        ...

    def worked(self) -> None:
        """Jobs have ended without the death of a worker."""
        ...

    def died(self, jobs: Sequence[Job], exit_: Exit) -> str | None:
        """Counts an unexpected death. Returns why the workspace must be given up; None if it continues."""
        ...

    def interrupt(self, job: Job) -> None:
        """Asks a running job to end."""
        ...

    def kill(self, because: str) -> None:
        """Ends the process that runs the job."""
        ...
