"""Runs the jobs of one workspace in order, and records each step before the next.

A `Runner` executes a kind of job; the dispatcher decides when, and handles deaths of workers and jobs that end early.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from tfserve.db.writes import QueueStep
from tfserve.errors import Failure, Kind, TFserveError, TimedOut
from tfserve.ipc.messages import JobKind, JobState, Outcome
from tfserve.supervisor.events import Signal
from tfserve.supervisor.jobs.deaths import last_death, outcome_of_death, runs_after_restart
from tfserve.supervisor.jobs.job import (
    CANCELLED,
    STOPPED,
    Ending,
    Job,
    RunsAfterRestart,
    over_time,
)
from tfserve.supervisor.jobs.journal import Journal, NotRecorded
from tfserve.supervisor.jobs.runner import Runner
from tfserve.supervisor.processes.worker import WorkerDied

log = logging.getLogger(__name__)

MAX_BATCH_JOBS = 64
MAX_BATCH_BYTES = 16 * 1024 * 1024


class Dispatcher:
    """The queue of one workspace and the one task that works on it."""

    def __init__(
        self,
        workspace_id: int,
        *,
        name: str,
        journal: Journal,
        runners: Mapping[JobKind, Runner],
        changed: Signal,
        grace_s: float,
    ) -> None:
        self.waiting: deque[Job] = deque()
        self.running: list[Job] = []
        #: size of the requests that wait or run
        self.waiting_bytes = 0
        self.last_started = -1
        self.last_finished = -1
        self.finished_count = 0
        #: jobs that have ended since the server began
        self.outcomes: Counter[tuple[JobKind, JobState]] = Counter()
        self.given_up_reason: str | None = None
        self._workspace_id = workspace_id
        self._name = name
        self._journal = journal
        self._runners = runners
        self._changed = changed
        self._grace_s = grace_s
        self._held = False
        #: whether nothing runs any more before the server is started again
        self._stopping = False
        self._work = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self._task = asyncio.get_running_loop().create_task(self._dispatch())

    @property
    def idle(self) -> bool:
        """Whether a new job would run at once."""
        return not (self.running or self.waiting or self._held or self.given_up_reason)

    def put(self, job: Job) -> None:
        """Queues a job that is already recorded; one that is recorded as started runs next."""
        self.waiting.append(job)
        if self._stopping:
            self._postpone([job])
        self.waiting_bytes += job.size
        job.ended.add_done_callback(lambda _: self._gone(job))
        self._work.set()

    async def end(self, number: int, ending: Ending = CANCELLED) -> Job | None:
        """Ends a job that waits or runs, and returns it when it has ended; None when it is neither.

        Raises `TimedOut` when it can't be ended for certain (a thread stuck in C) and has not ended by itself.
        """
        for job in self.waiting:
            if job.number == number:
                self.waiting.remove(job)
                await self._record(ended=[(job, job.ended_by(ending))])
                return job
        for job in self.running:
            if job.number == number:
                await self._end_running(job, ending, self._grace_s)
                return job
        return None

    def hold(self) -> None:
        """Starts no more jobs."""
        self._held = True

    def resume(self) -> None:
        """Starts jobs again, after a hold or after the workspace was given up."""
        self._held = False
        self.given_up_reason = None
        self._work.set()

    async def end_running(self, ending: Ending, grace_s: float = 0.0) -> None:
        """Gives what runs `grace_s` seconds to end by itself, then ends it at once. Call it while the queue is held.

        Raises `TimedOut` when it can't be ended for certain (a thread stuck in C) and has not ended by itself.
        """
        if not self.running or await self._is_calm(grace_s):
            return
        jobs = list(self.running)
        for job in jobs:  # all of them, before any of them ends: they may share a process
            job.ending = job.ending or ending
        for job in jobs:
            self._interrupt(job, job.ending or ending, grace_s=0.0)
        if not await self._is_calm(None if self._runners[jobs[0].kind].can_kill else self._grace_s):
            raise self._stuck(jobs[0])

    async def _is_calm(self, timeout_s: float | None) -> bool:
        """Whether nothing runs any more, within the time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._calm.wait()
        except TimeoutError:
            return False
        return True

    async def close(self, ending: Ending, grace_s: float = 0.0) -> None:
        """Ends what runs, and starts nothing any more; what waits stays recorded as waiting."""
        self.hold()
        if ending is STOPPED:
            self._stopping = True
            self._postpone(self.waiting)
        with contextlib.suppress(TimedOut):
            await self.end_running(ending, grace_s)
        await self.stop()

    async def stop(self) -> None:
        """Ends the loop, whatever it does. Call it while the queue is held."""
        self._task.cancel()
        await asyncio.wait([self._task])
        with contextlib.suppress(NotRecorded):
            if never_run := [job for job in self.waiting if job.started]:
                await self._record(requeued=never_run)

    def _postpone(self, jobs: Iterable[Job]) -> None:
        """Those who wait for these jobs get the error that they run after the restart."""
        for job in jobs:
            job.postpone(RunsAfterRestart(job=job.number, id=job.id, name=self._name))

    # --- the loop

    async def _dispatch(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            jobs = self._take()
            try:
                await self._start(jobs)
                while jobs:
                    outcomes = await self._run(jobs)
                    jobs = await self._step(jobs, outcomes)
            except NotRecorded as error:  # the server stops: the next one finds these jobs as running
                for job in jobs:
                    job.postpone(error)
                self.waiting.extendleft(job for job in reversed(self.running) if job not in jobs)
                self._set_running([])
                return

    def _take(self) -> list[Job]:
        """The jobs to run next: one job, or consecutive predictions."""
        if self._held or self.given_up_reason or not self.waiting:
            return []
        jobs = [self.waiting.popleft()]
        size = jobs[0].size
        while self.waiting and len(jobs) < MAX_BATCH_JOBS and self._goes_with(jobs[0], self.waiting[0]):
            size += self.waiting[0].size
            if size > MAX_BATCH_BYTES:
                break
            jobs.append(self.waiting.popleft())
        self._set_running(jobs)
        return jobs

    def _goes_with(self, first: Job, other: Job) -> bool:
        """Whether two jobs may run together: predictions, neither of which was in a death or has its own limit."""
        return all(
            job.kind == JobKind.PREDICT
            and job.attempts <= job.started
            and job.time_limit_s is None
            and self._runners[job.kind].may_share(job)
            for job in (first, other)
        )

    def _set_running(self, jobs: list[Job]) -> None:
        self.running = jobs
        if jobs:
            self._calm.clear()
        else:
            self._calm.set()

    async def _start(self, jobs: Sequence[Job]) -> None:
        if any(not job.started for job in jobs):
            await self._record(started=[job for job in jobs if not job.started])
        self._started(jobs)

    def _started(self, jobs: Sequence[Job]) -> None:
        if jobs:
            self.last_started = jobs[-1].number
            self._changed.fire()

    async def _step(self, jobs: Sequence[Job], outcomes: Sequence[Outcome | None]) -> list[Job]:
        """Records how the jobs ended together with the start of the next ones, and returns those."""
        ended = [(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True) if outcome is not None]
        again = [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome is None]
        for job in again:
            job.started = False
        self.waiting.extendleft(reversed(again))
        if self._stopping:
            self._postpone(again)
        following = self._take() if not again else []
        await self._record(ended=ended, requeued=again, started=[job for job in following if not job.started])
        if again:
            self._set_running([])
            following = self._take()
            await self._start(following)
        elif not following:
            self._set_running([])
        self._started(following)
        return following

    async def _run(self, jobs: list[Job]) -> Sequence[Outcome | None]:
        """The outcomes; None for a job that is to be repeated."""
        runner = self._runners[jobs[0].kind]
        limit_s = jobs[0].time_limit_s
        timer = self._loop.call_later(limit_s, self._over_time, jobs[0]) if limit_s is not None else None
        try:
            outcomes = await runner.run(jobs)
            runner.worked()
            ended = [_overruled(job, outcome) for job, outcome in zip(jobs, outcomes, strict=False)]
            return [*ended, *[None] * (len(jobs) - len(ended))]  # the others did not fit, and run again
        except WorkerDied as death:
            return self._after_death(runner, jobs, death)
        except TFserveError as error:
            # A job that only ran together with the one that was to end is not to blame.
            blamed = [job for job in jobs if job.ending is not None] or jobs
            failed = [Outcome.failed(error.to_failure(), result=job.no_result) for job in jobs]
            return [
                _overruled(job, outcome) if job in blamed else None for job, outcome in zip(jobs, failed, strict=True)
            ]
        except Exception:
            log.exception("job %s of workspace %s broke its runner", jobs[0].number, self._name)
            broken = Failure(
                code=Kind.INTERNAL, message="Internal server error while running this job. See the server's log."
            )
            return [Outcome.failed(broken, result=job.no_result) for job in jobs]
        finally:
            if timer is not None:
                timer.cancel()

    def _after_death(self, runner: Runner, jobs: Sequence[Job], death: WorkerDied) -> list[Outcome | None]:
        is_intended = any(job.ending is not None for job in jobs)
        # A job that only shared the process with the one that was to end is not to blame.
        repeated = {job.id for job in jobs if is_intended or runner.may_repeat(job)}
        if not is_intended and (reason := runner.died(jobs, death.exit)) is not None:
            self.give_up(last_death(reason, death))
        return [outcome_of_death(job, death, may_repeat=job.id in repeated) for job in jobs]

    def give_up(self, reason: str) -> None:
        self.given_up_reason = reason
        self._changed.fire()

    # --- ending what runs

    async def _end_running(self, job: Job, ending: Ending, grace_s: float) -> None:
        self._interrupt(job, ending, grace_s)
        runner = self._runners[job.kind]
        done, _ = await asyncio.wait([job.ended], timeout=None if runner.can_kill else self._grace_s)
        if not done:
            raise self._stuck(job)

    def _stuck(self, job: Job) -> TimedOut:
        return TimedOut(
            f"Job {job.number} was interrupted but has not ended within {self._grace_s:g} seconds. It runs in a"
            " thread, which can't be killed; it ends when its code returns to Python."
        )

    def _interrupt(self, job: Job, ending: Ending, grace_s: float) -> None:
        if job.ending is None:
            job.ending = ending
        runner = self._runners[job.kind]
        runner.interrupt(job)
        if runner.can_kill:
            kill = self._loop.call_later(grace_s, runner.kill, job.ending.failure.message)
            job.ended.add_done_callback(lambda _: kill.cancel())

    def _over_time(self, job: Job) -> None:
        if not job.ended.done():
            assert job.time_limit_s is not None
            self._interrupt(job, over_time(job.time_limit_s), self._grace_s)

    # --- recording

    async def _record(
        self,
        *,
        ended: Sequence[tuple[Job, Outcome]] = (),
        requeued: Sequence[Job] = (),
        started: Sequence[Job] = (),
    ) -> None:
        """Returns when it is on the disk. Wakes those who wait for the jobs that have ended."""
        ended = [(job, _with_output(job, outcome)) for job, outcome in ended]
        variables = [(outcome.variables, outcome.types) for _, outcome in ended if outcome.variables is not None]
        step = QueueStep(
            workspace_id=self._workspace_id,
            ended=[job.to_ended(outcome) for job, outcome in ended],
            requeued=[job.id for job in requeued],
            started=[job.id for job in started],
            variables=variables[-1] if variables else None,
        )
        jobs = sorted({job.number for job in (*(job for job, _ in ended), *requeued, *started)})
        await self._journal.insist(step, f"workspace {self._name}: job {', '.join(map(str, jobs))}")
        for job in started:
            job.started = True
            job.attempts += 1
        for job, outcome in ended:
            self._ended(job, outcome)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        job.output.close()
        if not job.ended.done():
            job.ended.set_result(outcome)
        if job.started:
            self.last_finished = job.number
        self.finished_count += 1
        self.outcomes[job.kind, outcome.state] += 1
        self._changed.fire()

    def _gone(self, job: Job) -> None:
        self.waiting_bytes -= job.size

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


def _overruled(job: Job, outcome: Outcome) -> Outcome | None:
    """The outcome of a job that may have ended early because of its `ending`; None if it returns to the queue."""
    if job.ending is None or outcome.state == JobState.SUCCEEDED:
        return outcome
    if runs_after_restart(job):
        return None
    return replace(outcome, state=job.ending.state, error=msgspec.json.encode(job.ending.failure))


def _with_output(job: Job, outcome: Outcome) -> Outcome:
    """Adds the output of a script to its outcome."""
    if job.kind != JobKind.SCRIPT or not job.started:
        return outcome
    printed = {"stdout": job.output.tail(1), "stderr": job.output.tail(2)}
    return replace(outcome, detail=msgspec.json.encode(printed))
