"""One process that holds a deployed model version, and how it is started."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from tfserve.errors import TFserveError
from tfserve.ipc.messages import BecomeModel, Demand, ModelLoaded, ReadSamples, WarmUpStep
from tfserve.models import formats
from tfserve.supervisor.processes.child import Exit
from tfserve.supervisor.processes.launchers import ANYWHERE, Spare
from tfserve.supervisor.processes.worker import Worker, WorkerDied

log = logging.getLogger(__name__)

READ_BY_TENSORFLOW = (*formats.CONVERTIBLE, formats.META_GRAPH, formats.FROZEN_GRAPH)
"""The formats for which a worker with TensorFlow loaded saves time."""

MAX_WARM_UP_DEATHS = 2
"""After this many deaths in its warm-up, a model is loaded without one."""

SAMPLES_S = 0.5
"""Maximum time to wait for the samples of a busy worker."""
PREPARED_S = 30.0
"""The same if files have to be decoded, which only happens in the background."""

ALL_STEPS = "all"
"""The worker's name for the whole warm-up."""

_SERVER = f"{os.getpid()}-{secrets.token_hex(8)}"
_numbers = itertools.count(1)


def new_address() -> str:
    """An abstract Unix socket: it disappears with its process and has no limit on the length of a path."""
    return f"\0tfserve-{_SERVER}-{next(_numbers)}"


class DiedOfEveryInput(WorkerDied):
    """The process died in its warm-up, and so did the next one with another input."""


@dataclass(eq=False)
class Replica:
    """One process with the model, and the address at which web connects to it."""

    worker: Worker
    address: str
    loaded: ModelLoaded
    #: warm-up steps that killed processes before it, each with a sentence about it
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.worker.loaded_bytes = self.loaded.memory_bytes

    @property
    def alive(self) -> bool:
        return self.worker.alive

    async def stop(self) -> None:
        await self.worker.stop()

    def killed_by(self) -> dict[str, str]:
        """The step of the warm-up that its death interrupted, if it completed the warm-up while it served."""
        step, exit_ = self.worker.warm_up_step, self.worker.child.ended.result()
        if step is None or step.has_ended or not exit_.counts:
            return {}
        return {step.step: _skipped_because(step, exit_)}

    async def samples(self, *, prepared: bool) -> list[bytes]:
        """Predictions that it has computed; `prepared` with files decoded. None of them if it is busy."""
        try:
            async with asyncio.timeout(PREPARED_S if prepared else SAMPLES_S):
                return (await self.worker.ask(ReadSamples(prepared=prepared))).asks
        except (TimeoutError, TFserveError, WorkerDied):
            log.info("the model process %s gives no samples", self.worker.child.pid)
            return []


async def start_replica(spare: Spare, request: BecomeModel, format_: str, demand: Demand = ANYWHERE) -> Replica:
    """Starts a process and loads the model. Raises the error that the worker replies with, or `WorkerDied`.

    Some libraries end the process where others refuse an input, for example when they divide by a synthetic zero. So a
    model is loaded again without the warm-up step that killed its process. If every input does that, this raises
    `DiedOfEveryInput`. A converted model is not loaded again, because TensorFlow may compute what kills it.
    """
    return await spare.on_another(demand, lambda: _start(spare, request, format_, demand))


async def _start(spare: Spare, request: BecomeModel, format_: str, demand: Demand) -> Replica:
    skipped: dict[str, str] = {}
    has_computed = False
    while True:
        worker = await _new_worker(spare, request, format_, demand)
        try:
            loaded = await worker.ask(replace(request, skip=[*request.skip, *skipped]))
            return Replica(worker, loaded.address or request.address, loaded, skipped)
        except WorkerDied as death:
            step = worker.warm_up_step
            has_computed |= step is not None and step.has_ended
            if step is None or step.has_ended or request.source or len(skipped) > MAX_WARM_UP_DEATHS:
                raise
            skipped[step.step] = _skipped_because(step, death.exit)
            if len(skipped) == MAX_WARM_UP_DEATHS:
                if not has_computed and not step.problem:
                    raise DiedOfEveryInput(death.exit, death.last_lines) from None
                skipped[ALL_STEPS] = ""
        except BaseException:
            worker.kill("its model could not be loaded")
            raise
        finally:
            spare.fill()


def _skipped_because(step: WarmUpStep, exit_: Exit) -> str:
    what = step.problem or f"its process ended: {exit_.sentence}"
    return f"not warmed up with {step.step}: {what}. A request like that ends the model's process"


async def _new_worker(spare: Spare, request: BecomeModel, format_: str, demand: Demand) -> Worker:
    if request.options.runtime in ("auto", "tensorflow") and format_ in READ_BY_TENSORFLOW:
        return await spare.take(needs_tensorflow=True, refills=False, demand=demand)
    return await (spare.take_light(request.options.runtime, demand) if request.source else spare.start_cold(demand))
