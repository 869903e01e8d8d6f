"""Requests whose inputs are made ready first: files are decoded in threads while the model computes others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from tfserve.ipc.predictions import Ask, Refusal
from tfserve.runtimes import machine
from tfserve.worker.computation import Computation
from tfserve.worker.waiting import Asker, Waiting, WaitingRoom


class Preparation:
    """A waiting room before the model's. Nothing is made ready while `has_enough` says that enough is."""

    def __init__(
        self, computation: Computation, *, pass_on: Callable[[Waiting], None], has_enough: Callable[[], bool]
    ) -> None:
        self._computation = computation
        self._pass_on = pass_on
        self._has_enough = has_enough
        self._waiting = WaitingRoom()
        #: those that somebody still waits for, of the requests that a thread has
        self._in_hand: set[Waiting] = set()
        self._busy = 0
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(machine.cores(), thread_name_prefix="prepare")

    def put(self, line: Asker, request_id: int, ask: Ask) -> None:
        group = (ask.urgency,)  # nothing is computed together here, so there is nothing else to be told apart
        self._waiting.put(Waiting(line, request_id, ask, None, group, time.perf_counter_ns()))
        self.go_on()

    def drop(self, line: Asker, request_id: int) -> None:
        """Forgets a request. What a thread has in hand is thrown away when it is ready."""
        self._waiting.drop(line, request_id)
        self._in_hand -= {each for each in self._in_hand if each.asker is line and each.id == request_id}

    def drop_all(self, line: Asker) -> None:
        self._waiting.drop_all(line)
        self._in_hand -= {each for each in self._in_hand if each.asker is line}

    def go_on(self) -> None:
        """Gives the threads what they can take."""
        while self._busy < machine.cores() and not self._has_enough():
            group = self._waiting.next_group()
            if group is None:
                return
            (request,) = self._waiting.take(group, 1)
            self._in_hand.add(request)
            self._busy += 1
            future = self._loop.run_in_executor(self._threads, self._prepare, request.ask)
            future.add_done_callback(partial(self._done, request))

    def _prepare(self, ask: Ask) -> tuple[Ask | Refusal, int]:
        begun_ns = time.perf_counter_ns()
        made = self._computation.prepare(ask)
        return made, time.perf_counter_ns() - begun_ns

    def _done(self, request: Waiting, done: asyncio.Future[tuple[Ask | Refusal, int]]) -> None:
        self._busy -= 1
        made, took_ns = done.result()
        if request in self._in_hand:  # else nobody waits for it any more
            self._in_hand.remove(request)
            if isinstance(made, Refusal):
                request.asker.answer(request.id, made)
                request.asker.flush()
            else:
                size = sum(tensor.data.nbytes for tensor in made.tensors)
                self._pass_on(replace(request, ask=made, prepared_ns=took_ns, prepared_bytes=size))
        self.go_on()
