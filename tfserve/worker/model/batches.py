"""Forms batches of queued requests, and computes as many of them at once as pay off (`concurrency`).

A short computation runs on the event loop, because switching threads would cost more. A long one runs in a thread, so
that the next requests are read meanwhile. A request that is alone is computed with all cores.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tfserve.errors import TFserveError
from tfserve.ipc.messages import ModelOptions
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Refusal
from tfserve.runtimes import concurrent, machine
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.concurrency import Finished, Setting, Tuner, Way
from tfserve.worker.model.preprocessing import Preprocessing
from tfserve.worker.model.request_queue import Asker, Group, RequestQueue, Waiting

log = logging.getLogger(__name__)

SHORT_NS = 400_000
"""Shorter batches are computed on the loop."""

IDLE_S = 5.0
"""After this time without a request, cached memory is returned to the system."""
COPY_IDLE_S = 60.0
"""After this time without a request, a copy of the model is given up. Making one may take seconds of a core."""

MAX_PREPARED_BYTES = 64 * 1024 * 1024
BATCH_SHARE = 1 / 4
"""The share of the time limit that a batch may take: where batches are compared with single requests, it takes twice
that, and the requests that wait for it must end in time too."""
LONG_SHARE = 1 / 8
"""Computations that take a larger share of the time limit run one at a time: with fewer threads they take longer."""

Answers = list[ComputeResult | Refusal]


@dataclass(eq=False)
class Batch:
    """Requests that are computed together. `others` and `rows_there` are those of `concurrency.Finished`."""

    requests: list[Waiting]
    rows: int
    is_narrow: bool
    others: int
    rows_there: int


class Batches:
    """Computes queued requests. `notify` is called with the setting at first, and when it changes."""

    def __init__(
        self, computation: Computation, options: ModelOptions, *, time_limit_s: float, is_on_cpu: bool = True,
        notify: Callable[[Setting], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._computation = computation
        self._most_at_once = (options.computations or machine.cores()) if is_on_cpu else 1
        self._ways = _ways(
            self._most_at_once, is_fixed=bool(options.computations), is_shareable=computation.is_shareable
        )
        self._is_fixed = bool(options.computations)
        self._tuner = Tuner(self._ways, max(1, options.max_batch_size), machine.time_of_cores_ns)
        self._max_delay_ns = int(options.max_delay_s * 1e9)
        self._long_ns = int(time_limit_s * 1e9 * LONG_SHARE)
        self._longest_batch_ns = int(time_limit_s * 1e9 * BATCH_SHARE)
        self._notify = notify
        self._waiting = RequestQueue()
        self._preparation = Preprocessing(computation, pass_on=self._put_prepared, has_enough=self._has_enough)
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(self._most_at_once, thread_name_prefix="model")
        self._running: set[Batch] = set()
        self._is_planned = False
        self._patience: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._typical_ns = SHORT_NS * 2
        #: may be copied for more computations; false while that is done, or if it failed
        self._may_narrow = self._most_at_once > 1
        self._copy_way: Way | None = None
        #: the last one, which the loop alone would not keep
        self._task: asyncio.Task[None] | None = None
        notify(self._tuner.chosen)

    @property
    def running_since_ns(self) -> int | None:
        """When the oldest call of the model began that has not ended. Any thread may ask."""
        return self._computation.running_since_ns

    def put(self, line: Asker, request_id: int, ask: ComputeRequest) -> None:
        if self._computation.prepares(ask):
            self._preparation.put(line, request_id, ask)
            return
        group, rows = self._computation.sort(ask)
        self._waiting.put(Waiting(line, request_id, ask, rows, group, time.perf_counter_ns()))
        self._plan()

    def drop(self, line: Asker, request_id: int) -> None:
        self._preparation.drop(line, request_id)
        self._waiting.drop(line, request_id)
        self._preparation.go_on()  # there may be room again, and nothing left to compute

    def drop_all(self, line: Asker) -> None:
        self._preparation.drop_all(line)
        self._waiting.drop_all(line)
        self._preparation.go_on()

    def _put_prepared(self, request: Waiting) -> None:
        request.group, request.rows = self._computation.sort(request.ask)
        self._waiting.put(request)
        self._plan()

    def _has_enough(self) -> bool:
        """Whether further preprocessing would only use memory: encoded files are small, decoded ones are large."""
        return self._waiting.prepared_bytes >= MAX_PREPARED_BYTES

    # --- batches

    def _plan(self) -> None:
        """Starts the next batches, once the sockets have been read."""
        if self._patience is not None:  # new requests may fill the batch, or be more urgent
            self._patience.cancel()
            self._patience, self._is_planned = None, False
        if not self._is_planned and self._waiting:
            self._is_planned = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_planned, self._patience = False, None
        if self._typical_ns < SHORT_NS:
            batch = self._next_batch(1)
            if batch is not None:
                self._done(batch, self._compute(batch))
            return
        at_once = self._tuner.setting.way.computations if self._typical_ns < self._long_ns else 1
        while (batch := self._next_batch(at_once)) is not None:
            future = self._loop.run_in_executor(self._threads, self._compute, batch)
            future.add_done_callback(partial(self._done_aside, batch))

    def _next_batch(self, at_once: int) -> Batch | None:
        """The next batch, which counts as running; None without requests, or if they have to wait."""
        free = at_once - len(self._running)
        group = self._waiting.next_group() if free > 0 else None
        if group is None:
            return None
        max_rows = self._max_rows(group)
        if self._must_wait(group, max_rows):
            return None
        if free > 1 and not self._max_delay_ns:  # all cores have something to do, unless a delay is to fill batches
            max_rows = min(max_rows, -(-self._waiting.rows_if_shared(group, max_rows) // free))
        batch = self._new_batch(self._waiting.take(group, max_rows))
        self._running.add(batch)
        self._preparation.go_on()
        return batch

    def _max_rows(self, group: Group) -> int:
        """The most rows of a batch. The first request of a group is computed alone, which shows what a row takes."""
        most = self._tuner.setting.max_batch
        if len(self._waiting) == 1:
            return most
        row_ns = self._computation.row_ns(group)
        return max(1, min(most, self._longest_batch_ns // row_ns)) if row_ns else 1

    def _must_wait(self, group: Group, max_rows: int) -> bool:
        """Whether more requests may come to fill a batch; then it is computed at the latest when the delay is over."""
        if not self._max_delay_ns or self._waiting.rows_if_shared(group, max_rows) >= max_rows:
            return False
        left_ns = self._waiting.oldest_ns(group) + self._max_delay_ns - time.perf_counter_ns()
        if left_ns <= 0:
            return False
        self._is_planned = True
        self._patience = self._loop.call_later(left_ns / 1e9, self._next)
        return True

    def _new_batch(self, requests: list[Waiting]) -> Batch:
        is_alone = not self._running and not self._waiting
        running = sum([len(each.requests) for each in self._running])
        rows = sum([request.rows or 1 for request in requests])
        rows_there = rows + sum([each.rows for each in self._running]) + len(self._waiting) * rows // len(requests)
        return Batch(
            requests,
            rows,
            is_narrow=not is_alone and self._tuner.setting.way == self._copy_way,
            others=len(requests) - 1 + len(self._waiting) + running,
            rows_there=rows_there,
        )

    def _compute(self, batch: Batch) -> tuple[Answers, int]:
        started_ns = time.perf_counter_ns()
        answers = self._computation.run(batch.requests, is_narrow=batch.is_narrow)
        return answers, time.perf_counter_ns() - started_ns

    def _done_aside(self, batch: Batch, done: asyncio.Future[tuple[Answers, int]]) -> None:
        answers, took_ns = done.result()
        finished = Finished(batch.rows, took_ns, batch.others, batch.rows_there)
        if self._tuner.add(time.perf_counter_ns(), finished):
            self._notify(self._tuner.chosen)
        if self._tuner.is_sustained and self._may_narrow:
            self._may_narrow = False
            self._task = self._loop.create_task(self._narrow())
        self._done(batch, (answers, took_ns))

    def _done(self, batch: Batch, computed: tuple[Answers, int]) -> None:
        answers, took_ns = computed
        self._running.remove(batch)
        self._typical_ns += (took_ns - self._typical_ns) // 4
        for request, answer in zip(batch.requests, answers, strict=True):
            request.asker.answer(request.id, answer)
        for asker in {request.asker for request in batch.requests}:
            asker.flush()
        self._plan()
        if self._rest is None:
            self._rest = self._loop.call_later(IDLE_S, self._tidy)

    # --- copies of the model

    async def _narrow(self) -> None:
        """Copies the model for computations with fewer threads each; without a copy, nothing changes."""
        at_once = self._most_at_once
        try:
            copied = await self._loop.run_in_executor(None, self._computation.narrowed, at_once)
        except TFserveError as error:
            log.info("the model is not copied for concurrent computations: %s", error)
            return
        except Exception:
            log.exception("the model could not be copied for concurrent computations")
            return
        self._computation.use(copied)
        self._copy_way = Way(at_once, concurrent.share(at_once))
        ways = [way for way in self._ways if way.computations == at_once or not self._is_fixed]
        self._tuner.set_ways([*ways, self._copy_way])
        self._notify(self._tuner.chosen)
        self._loop.call_later(COPY_IDLE_S, self._end_copy)

    def _end_copy(self) -> None:
        """Gives the copy up if it has not been needed for long; otherwise it is asked again later."""
        left_ns = self._computation.last_run_ns + int(COPY_IDLE_S * 1e9) - time.perf_counter_ns()
        if self._running or self._waiting or left_ns > 0:
            self._loop.call_later(max(left_ns / 1e9, IDLE_S), self._end_copy)
            return
        self._tuner.set_ways(self._ways)
        self._copy_way, self._may_narrow = None, True
        copied = self._computation.use(None)
        if copied is not None:  # nothing runs, so no thread uses it
            self._loop.run_in_executor(None, copied.close)
        self._task = self._loop.create_task(self._release())

    def _tidy(self) -> None:
        """Runs once after a busy period."""
        self._rest = None
        is_idle = not self._waiting and not self._running
        if not is_idle or time.perf_counter_ns() - self._computation.last_run_ns < IDLE_S * 1e9:
            self._rest = self._loop.call_later(IDLE_S, self._tidy)
            return
        self._tuner.rest()
        self._task = self._loop.create_task(self._release())

    async def _release(self) -> None:
        """Returns memory in a thread, because a request may arrive meanwhile. It is computed without the copy."""
        copied, way = self._computation.use(None), self._copy_way
        try:
            await self._loop.run_in_executor(None, self._computation.release_memory, copied)
        except Exception:
            log.exception("memory could not be released")
        if copied is None:
            return
        if self._copy_way is way:
            self._computation.use(copied)
        else:  # it was given up meanwhile
            await self._loop.run_in_executor(None, copied.close)


def _ways(most: int, *, is_fixed: bool, is_shareable: bool) -> list[Way]:
    """The ways to compute without a copy of the model, the most promising last."""
    cores = machine.cores()
    if most == 1 or not is_shareable:
        return [Way(1, cores)]
    counts = [most] if is_fixed else [count for count in _powers_of_two(most) if count > 1]
    return [*([] if is_fixed else [Way(1, cores)]), *(Way(count, cores) for count in counts)]


def _powers_of_two(most: int) -> list[int]:
    """Up to a number, and the number itself."""
    return sorted({most, *(1 << n for n in range(most.bit_length()))})
