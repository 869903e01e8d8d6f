"""A job while it waits or runs. Afterwards it is only in the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tfserve.db.writes import Ended, QueueStep
from tfserve.errors import Failure, Kind, TFserveError, Unavailable
from tfserve.ipc.messages import EncodedRequest, JobKind, JobState, JobStatus, Outcome
from tfserve.supervisor.processes.output import JobOutput

#: Kinds that are safe to run again after a death.
REPEATABLE = frozenset({JobKind.CLEAR, JobKind.DEPLOY, JobKind.UPDATE, JobKind.UNDEPLOY, JobKind.PREDICT})
MAX_ATTEMPTS = 2


@dataclass(frozen=True)
class Ending:
    """Why a job is ended from outside, and its state and failure then."""

    state: JobState
    failure: Failure


class EndedEarly(Exception):
    """The job was ended from outside before it had a worker."""


class RunsAfterRestart(Unavailable):
    """The server is stopping. Job {job} of workspace {name!r} (id {id}) is in the queue and will run after the \
restart: GET /jobs/{id} shows what became of it."""


CANCELLED = Ending(JobState.CANCELLED, Failure(code="cancelled", message="The job was cancelled."))
RESTARTED = Ending(JobState.CANCELLED, Failure(code="cancelled", message="The workspace was restarted."))
DESTROYED = Ending(JobState.CANCELLED, Failure(code="cancelled", message="The workspace was destroyed."))
STOPPED = Ending(
    JobState.LOST, Failure(code="lost", message="The server was stopped before the job had ended; it was interrupted.")
)


def may_be_repeated(kind: JobKind, attempts: int) -> bool:
    """Whether a job of this kind that has been tried so often may run again after a death."""
    return kind in REPEATABLE and attempts < MAX_ATTEMPTS


def over_time(limit_s: float) -> Ending:
    message = f"The job ran longer than its time limit of {limit_s:g} seconds."
    return Ending(JobState.FAILED, Failure(code=Kind.TIMED_OUT, message=message))


@dataclass(eq=False, kw_only=True)
class Job:
    """One job of a queue. `ended` is set when its outcome is on the disk."""

    id: int
    number: int
    request: EncodedRequest
    attempts: int = 0
    time_limit_s: float | None = None
    output: JobOutput
    traceparent: str = ""
    #: set when it is to end early
    ending: Ending | None = None
    started: bool = False
    #: set when the server stops before the job has ended: the error for those who wait for it
    postponed: asyncio.Future[TFserveError] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    ended: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    async def wait(self, timeout_s: float | None) -> None:
        """Returns when the job has ended or the time is over. Raises why it will not end before the server stops."""
        either: list[asyncio.Future[Any]] = [self.ended, self.postponed]
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self.postponed.done() and not self.ended.done():
            raise self.postponed.result()

    def ended_by(self, ending: Ending) -> Outcome:
        """The outcome if the job does not succeed before it is ended."""
        return Outcome.failed(ending.failure, state=ending.state, result=self.no_result)

    def postpone(self, reason: TFserveError) -> None:
        if not self.postponed.done():
            self.postponed.set_result(reason)
        self.output.grew.fire()  # for those who follow the output

    @property
    def kind(self) -> JobKind:
        return self.request.kind

    @property
    def size(self) -> int:
        """Of its request, in bytes."""
        return len(self.request.json)

    @property
    def may_be_repeated(self) -> bool:
        return may_be_repeated(self.kind, self.attempts)

    @property
    def no_result(self) -> bytes:
        return self.kind.no_result

    @property
    def state(self) -> JobState:
        if self.ended.done():
            return self.ended.result().state
        return JobState.RUNNING if self.started else JobState.QUEUED

    def status(self, *, waited_s: float = 0.0) -> JobStatus:
        outcome = self.ended.result() if self.ended.done() else None
        return JobStatus(
            job=self.number, id=self.id, kind=self.kind, state=self.state, waited_s=waited_s, outcome=outcome
        )

    def to_ended(self, outcome: Outcome) -> Ended:
        return Ended(self.id, self.kind, outcome)

    def step(
        self, *, started: bool = False, requeued: bool = False, put_aside: bool = False, outcome: Outcome | None = None
    ) -> QueueStep:
        """The record of a step in the life of a job that is in no workspace's queue."""
        return QueueStep(
            workspace_id=0,
            started=[self.id] * started,
            requeued=[self.id] * requeued,
            put_aside=[self.id] * put_aside,
            ended=[self.to_ended(outcome)] if outcome is not None else [],
        )
