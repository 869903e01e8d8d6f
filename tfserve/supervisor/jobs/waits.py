"""Waits for jobs by their ids, whatever runs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tfserve.ipc.messages import Message, WaitJob, WaitOutput
from tfserve.supervisor.jobs.job import Job


class JobWaits:
    """`tables` have the jobs that wait or run, by id."""

    def __init__(self, *tables: Mapping[int, Job]) -> None:
        self._tables = tables

    @property
    def handlers(self) -> Mapping[type[Message], Callable[[Any], Awaitable[Any]]]:
        return {WaitJob: self._wait_job, WaitOutput: self._wait_output}

    async def _wait_job(self, request: WaitJob) -> None:
        job = self._find(request.job_id)
        if job is not None:
            await job.wait(request.wait_s)

    async def _wait_output(self, request: WaitOutput) -> bool:
        job = self._find(request.job_id)
        if job is None:
            return True
        if job.output.size <= request.offset and not job.ended.done():
            if job.postponed.done():
                raise job.postponed.result()
            await job.output.grew.wait(request.wait_s)
        return job.ended.done()

    def _find(self, job_id: int) -> Job | None:
        return next((table[job_id] for table in self._tables if job_id in table), None)
