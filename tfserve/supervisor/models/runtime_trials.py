"""Which runtime is to compute a model: found out aside, one candidate at a time, each in a process of its own.

A conversion that crashes, hangs or eats memory costs only its candidate. What was found is kept by the model's content.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tfserve.errors import TFserveError
from tfserve.ipc.messages import Convert, IdentifyModel, Request
from tfserve.models.runtime_reports import CANDIDATES, NEED_TENSORFLOW, TENSORFLOW, Conversions, Report, Trial
from tfserve.supervisor.processes.worker import Spare, Worker, WorkerDied

log = logging.getLogger(__name__)

R = TypeVar("R")

TRIAL_S = 300.0
"""A candidate that takes longer is given up."""

Tell = Callable[[str], None]


class Choices:
    """Finds the runtime for one model after the other; trials of several at a time would only disturb each other."""

    def __init__(self, folder: Path, spare: Spare) -> None:
        self._conversions = Conversions(folder)
        self._conversions.clear_aside()
        self._spare = spare
        #: what was asked for does not wait behind what is only tried
        self._turns = {True: asyncio.Lock(), False: asyncio.Lock()}

    async def find(
        self, path: str, *, precision: str, asked: str, in_background: bool, samples: Sequence[bytes], tell: Tell
    ) -> Report:
        """What is known of the model, or is found out now. Raises `TFserveError`, `WorkerDied`.

        `in_background` when nobody waits for it.
        """
        async with self._turns[in_background]:
            key = await self._identify(path, precision)
            known = self._conversions.find(key, asked=asked)
            if known is not None:
                return known
            return await self._find_out(key, path, precision, asked, samples, tell)

    async def _find_out(
        self, key: str, path: str, precision: str, asked: str, samples: Sequence[bytes], tell: Tell
    ) -> Report:
        work = await asyncio.to_thread(self._conversions.begin, key)
        try:
            trials = []
            for candidate in (TENSORFLOW, *CANDIDATES[precision]):
                if asked not in ("auto", candidate) and candidate != TENSORFLOW:
                    continue
                tell(f"trying {candidate}")
                question = Convert(
                    candidate=candidate, path=path, key=key, work_folder=str(work), precision=precision,
                    samples=list(samples), was_requested=asked == candidate,
                )  # fmt: skip
                trials.append(await self._try(question))
                if asked == "auto" and not trials[0].compared:
                    break  # there is nothing to compare with
            return await asyncio.to_thread(self._conversions.end, key, work, trials, precision=precision, asked=asked)
        except BaseException:
            self._conversions.abandon(work)
            raise

    async def _identify(self, path: str, precision: str) -> str:
        worker = await self._spare.start_cold()
        return await _answered(worker, IdentifyModel(path=path, precision=precision))

    async def _try(self, question: Convert) -> Trial:
        """Whatever goes wrong with a candidate is what was found out about it."""
        if question.candidate in NEED_TENSORFLOW:
            worker = await self._spare.take(needs_tensorflow=True)
        else:
            worker = await self._spare.start_cold()
        try:
            async with asyncio.timeout(TRIAL_S):
                return (await _answered(worker, question)).trial
        except TimeoutError:
            reason = f"it took longer than {TRIAL_S:g} s"
        except WorkerDied as death:
            reason = f"its process died: {death}"
        except TFserveError as error:
            reason = error.message
        return Trial(runtime=question.candidate, ok=False, reason=reason)


async def _answered(worker: Worker, question: Request[R]) -> R:
    """The answer of a process that is there for this one question."""
    try:
        return await worker.ask(question)
    finally:
        worker.kill("it has answered, or nobody waits for it")
