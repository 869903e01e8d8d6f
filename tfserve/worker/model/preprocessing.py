"""Preprocesses requests: threads decode files while the model computes other requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from tfserve.ipc.predictions import ComputeRequest, Refusal
from tfserve.runtimes import machine
from tfserve.worker.model.computation import Computation
from tfserve.worker.model.request_queue import Asker, RequestQueue, Waiting


class Preprocessing:
    """The queue before the model's queue. Paused while `has_enough()` is true."""

    def __init__(
        self, computation: Computation, *, pass_on: Callable[[Waiting], None], has_enough: Callable[[], bool]
    ) -> None:
        self._computation = computation
        self._pass_on = pass_on
        self._has_enough = has_enough
        self._waiting = RequestQueue()
        #: requests in a thread that have not been cancelled
        self._in_hand: set[Waiting] = set()
        self._busy = 0
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(machine.cores(), thread_name_prefix="prepare")

    def put(self, line: Asker, request_id: int, ask: ComputeRequest) -> None:
        group = (ask.urgency,)  # nothing is batched here, so only the urgency matters
        self._waiting.put(Waiting(line, request_id, ask, None, group, time.perf_counter_ns()))
        self.go_on()

    def drop(self, line: Asker, request_id: int) -> None:
        """Drops a request. The result of one that a thread is working on is discarded."""
        self._waiting.drop(line, request_id)
        self._in_hand -= {each for each in self._in_hand if each.asker is line and each.id == request_id}

    def drop_all(self, line: Asker) -> None:
        self._waiting.drop_all(line)
        self._in_hand -= {each for each in self._in_hand if each.asker is line}

    def go_on(self) -> None:
        """Gives requests to idle threads."""
        while self._busy < machine.cores() and not self._has_enough():
            group = self._waiting.next_group()
            if group is None:
                return
            (request,) = self._waiting.take(group, 1)
            self._in_hand.add(request)
            self._busy += 1
            future = self._loop.run_in_executor(self._threads, self._prepare, request.ask)
            future.add_done_callback(partial(self._done, request))

    def _prepare(self, ask: ComputeRequest) -> tuple[ComputeRequest | Refusal, int]:
        started_ns = time.perf_counter_ns()
        made = self._computation.prepare(ask)
        return made, time.perf_counter_ns() - started_ns

    def _done(self, request: Waiting, done: asyncio.Future[tuple[ComputeRequest | Refusal, int]]) -> None:
        self._busy -= 1
        made, took_ns = done.result()
        if request in self._in_hand:  # else it was cancelled
            self._in_hand.remove(request)
            if isinstance(made, Refusal):
                request.asker.answer(request.id, made)
                request.asker.flush()
            else:
                size = sum(tensor.data.nbytes for tensor in made.tensors)
                sample = request.ask if self._computation.samples.wants(1) is not None else None
                self._pass_on(replace(request, ask=made, prepared_ns=took_ns, prepared_bytes=size, sample=sample))
        self.go_on()
