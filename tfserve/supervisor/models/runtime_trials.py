"""Finds the best runtime for a model: tries one candidate at a time, each in its own process.

A conversion that crashes, hangs or takes too much memory only costs its candidate. Reports are stored by the content of
the model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from tfserve.errors import TFserveError
from tfserve.ipc.messages import AUTO, Convert, IdentifyModel, Request
from tfserve.models import fingerprint
from tfserve.models.formats import Located
from tfserve.models.runtime_reports import (
    CANDIDATES,
    NEED_TENSORFLOW,
    TENSORFLOW,
    Conversions,
    Report,
    RuntimeTrial,
    Served,
    contenders,
)
from tfserve.supervisor.models import model_files
from tfserve.supervisor.processes.launchers import ANYWHERE, FullNode, Spare
from tfserve.supervisor.processes.worker import Worker, WorkerDied

log = logging.getLogger(__name__)

R = TypeVar("R")

READ_AT_ONCE_BYTES = 256 * 1024 * 1024
"""Maximum size of a model whose bytes are compared before it is loaded: a tenth of a second to half a second."""
TRIAL_S = 300.0
"""The time limit of a candidate."""
MOST_ROUNDS, SETTLED = 3, 0.95
"""How often the fastest candidates are timed again at most, and the ratio to the former time that ends it."""

OnProgress = Callable[[str], None]


class RuntimeTrials:
    """Handles one model at a time, because parallel trials would distort each other's times."""

    def __init__(self, folder: Path, spare: Spare) -> None:
        self._conversions = Conversions(folder)
        self._conversions.clear_aside()
        self._spare = spare
        #: a requested conversion does not wait for one in the background
        self._locks = {True: asyncio.Lock(), False: asyncio.Lock()}

    async def served_before(self, model: Located, options: bytes) -> tuple[Report, Served] | None:
        """The runtime that was chosen for the same files, and how they were deployed then; None if that is not known.

        Large files are not read for this: they are loaded by TensorFlow and compared again by their bytes later.
        """

        def look() -> tuple[Report, Served] | None:
            if not self._conversions.has_any() or fingerprint.size_bytes(model) > READ_AT_ONCE_BYTES:
                return None
            return self._conversions.served(fingerprint.key(model), options)

        try:
            return await model_files.in_own_thread(look, str(model.path))
        except TFserveError:
            return None

    async def converted(self, path: str) -> tuple[Report, Served | None] | None:
        """The report on the converted model at this path, and how that was deployed. None without a report."""
        return await asyncio.to_thread(self._conversions.of, path)

    async def remember(self, report: Report, served: Served) -> None:
        """Keeps how a chosen runtime was deployed, for the next deployment of the same files."""
        try:
            await asyncio.to_thread(self._conversions.set_served, report, served)
        except OSError as error:
            log.warning("the deployment of %s can't be kept: %s", report.path, error)

    async def find(
        self, path: str, *, precision: str, requested: str, in_background: bool, samples: Sequence[bytes],
        on_progress: OnProgress,
    ) -> Report:  # fmt: skip
        """The stored report about the model, or a new one. Raises `TFserveError`, `WorkerDied`.

        `requested` is a runtime or `auto`; `in_background` means that no caller waits.
        """
        async with self._locks[in_background]:
            key = await self._identify(path, precision)
            known = await asyncio.to_thread(self._conversions.find, key, asked=requested)
            if known is not None:
                return known
            return await self._compare(key, path, precision, requested, samples, on_progress)

    async def _compare(
        self, key: str, path: str, precision: str, requested: str, samples: Sequence[bytes], on_progress: OnProgress
    ) -> Report:
        work = await asyncio.to_thread(self._conversions.begin, key)
        try:
            trials = []
            for candidate in (TENSORFLOW, *CANDIDATES[precision]):
                if requested not in (AUTO, candidate) and candidate != TENSORFLOW:
                    continue
                on_progress(f"trying {candidate}")
                request = Convert(
                    candidate=candidate, path=path, key=key, work_folder=str(work), precision=precision,
                    samples=list(samples), was_requested=requested != AUTO,
                )  # fmt: skip
                trials.append(await self._try(request))
                if requested == AUTO and not trials[0].compared:
                    break  # there is nothing to compare with
            if requested == AUTO:
                on_progress("timing the fastest ones in turns")
                await self._time_in_turns(trials, request)
            return await asyncio.to_thread(
                self._conversions.end, key, work, trials, precision=precision, asked=requested
            )
        except BaseException:
            self._conversions.abandon(work)
            raise

    async def _time_in_turns(self, trials: list[RuntimeTrial], request: Convert) -> None:
        """Times the contenders again, one after another, until that no longer makes any of them clearly faster.

        The first measurements were far apart, so that other work on the machine may have met only some of them.
        """
        failed: set[str] = set()
        for _ in range(MOST_ROUNDS):
            is_settled = True
            for former in [each for each in contenders(trials) if each.runtime not in failed]:
                again = await self._try(replace(request, candidate=former.runtime, again=former, samples=[]))
                if not again.ok:  # what was measured before counts
                    failed.add(former.runtime)
                    continue
                trials[trials.index(former)] = again
                is_settled = is_settled and again.cost_s > SETTLED * former.cost_s
            if is_settled:
                return

    async def _identify(self, path: str, precision: str) -> str:
        async def ask() -> str:
            return await _request_once(
                await self._spare.start_cold(), IdentifyModel(path=path, precision=precision)
            )  # fmt: skip

        return await self._spare.on_another(ANYWHERE, ask)

    async def _try(self, request: Convert) -> RuntimeTrial:
        """Any error of a candidate is the result of its trial. One that is lost with its node is tried again."""
        trial = await self._try_once(request)
        return trial if trial is not None else await self._try_once(request) or _lost(request)

    async def _try_once(self, request: Convert) -> RuntimeTrial | None:
        """None if its process was lost with its node."""
        return await self._spare.on_another(ANYWHERE, lambda: self._convert(request))

    async def _convert(self, request: Convert) -> RuntimeTrial | None:
        if request.candidate == TENSORFLOW or (request.again is None and request.candidate in NEED_TENSORFLOW):
            worker = await self._spare.take(needs_tensorflow=True)
        else:
            worker = await self._spare.start_cold()
        try:
            async with asyncio.timeout(TRIAL_S):
                return (await _request_once(worker, request)).trial
        except TimeoutError:
            reason = f"it took longer than {TRIAL_S:g} s"
        except WorkerDied as death:
            if death.exit.lost is not None:
                return None
            reason = f"its process died: {death}"
        except FullNode:  # says nothing about the candidate
            raise
        except TFserveError as error:
            reason = error.message
        return RuntimeTrial(runtime=request.candidate, ok=False, reason=reason)


def _lost(request: Convert) -> RuntimeTrial:
    return RuntimeTrial(runtime=request.candidate, ok=False, reason="its process was lost with its node, twice")


async def _request_once(worker: Worker, request: Request[R]) -> R:
    """The response of a process that exists for this one request."""
    try:
        return await worker.ask(request)
    finally:
        worker.kill("its trial is over")
