"""How many jobs of each token wait or run. Jobs from before a restart of the server are not counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tfserve.errors import Overloaded
from tfserve.supervisor.jobs.job import Job


class TooManyJobs(Overloaded):
    """This token has {count} jobs that wait or run, the maximum (token_jobs). Wait until some have finished."""


class TokenJobs:
    """The unfinished jobs by the owner of their requests, which is empty without authentication."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unfinished: Counter[str] = Counter()
        #: submissions that are being recorded
        self._submitting: Counter[str] = Counter()

    def refuse_when_full(self, owner: str) -> None:
        """Raises `TooManyJobs`."""
        count = self._unfinished[owner] + self._submitting[owner]
        if owner and self._limit and count >= self._limit:
            raise TooManyJobs(count=count)

    @contextmanager
    def submitting(self, owner: str) -> Iterator[None]:
        """Within, a submission counts that is being recorded."""
        self._submitting[owner] += 1
        try:
            yield
        finally:
            self._submitting[owner] -= 1
            self._submitting += Counter()  # forgets owners without submissions

    def add(self, owner: str, job: Job) -> None:
        if owner:
            self._unfinished[owner] += 1
            job.ended.add_done_callback(lambda _: self._remove(owner))

    def _remove(self, owner: str) -> None:
        self._unfinished[owner] -= 1
        self._unfinished += Counter()  # forgets owners without jobs
