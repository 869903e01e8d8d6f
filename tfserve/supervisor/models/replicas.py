"""The processes that hold one deployed model version: loaded, watched, and replaced when they die."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from tfserve.db.models import Deployment as Row
from tfserve.ipc.messages import BecomeModel, ModelLoaded, ModelOptions, ModelVersion, WarmUpStep
from tfserve.models import formats
from tfserve.models.runtime_reports import ENOUGH_SAMPLES, TENSORFLOW, Report
from tfserve.supervisor.processes.worker import Spare, Worker, WorkerDied

READ_BY_TENSORFLOW = (*formats.CONVERTIBLE, formats.META_GRAPH, formats.FROZEN_GRAPH)
"""Formats that a worker is warm for."""

MAX_WARM_UP_DEATHS = 2
"""A model that kills more processes in its warm-up is loaded without one."""

ALL_STEPS = "all"
"""Of the warm-up, as the worker knows it."""

_SERVER = f"{os.getpid()}-{secrets.token_hex(8)}"
_numbers = itertools.count(1)


def new_address() -> str:
    """A Unix socket without a file: it is gone with its process, and no path is too long for it."""
    return f"\0tfserve-{_SERVER}-{next(_numbers)}"


class DiedOfEveryInput(WorkerDied):
    """The model's process ended in its warm-up, and so did the next one with another input."""


@dataclass(eq=False)
class Replica:
    """One process with the model, and where web reaches it."""

    worker: Worker
    address: str
    loaded: ModelLoaded
    #: the steps of the warm-up that processes before it did not survive, each with a sentence about it
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        return self.worker.alive

    async def stop(self) -> None:
        await self.worker.stop()


async def load(spare: Spare, question: BecomeModel, format_: str) -> Replica:
    """A new process with the model of the question. Raises what is wrong with the model, or `WorkerDied`.

    The latter is `DiedOfEveryInput` when it will happen again. Some libraries end the process where others refuse an
    input, such as a division by a synthetic zero. So a model is loaded again without the step of its warm-up that
    killed it, unless every input does. One that was converted is not: TensorFlow may compute what kills it.
    """
    skipped: dict[str, str] = {}
    has_computed = False
    while True:
        worker = await _new_worker(spare, question, format_)
        try:
            loaded = await worker.ask(replace(question, skip=[*question.skip, *skipped]))
            return Replica(worker, question.address, loaded, skipped)
        except WorkerDied as death:
            step = worker.warm_up_step
            has_computed |= step is not None and step.has_ended
            if step is None or step.has_ended or question.source or len(skipped) > MAX_WARM_UP_DEATHS:
                raise
            skipped[step.step] = _survived(step, death)
            if len(skipped) == MAX_WARM_UP_DEATHS:
                if not has_computed and not step.problem:
                    raise DiedOfEveryInput(death.exit, death.last_lines) from None
                skipped[ALL_STEPS] = ""
        except BaseException:
            worker.kill("its model could not be loaded")
            raise


def _survived(step: WarmUpStep, death: WorkerDied) -> str:
    what = step.problem or f"its process ended: {death.exit.sentence}"
    return f"not warmed up with {step.step}: {what}. A request like that ends the model's process"


async def _new_worker(spare: Spare, question: BecomeModel, format_: str) -> Worker:
    if question.options.runtime in ("auto", "tensorflow") and format_ in READ_BY_TENSORFLOW:
        return await spare.take(needs_tensorflow=True)
    return await spare.start_cold()


@dataclass(eq=False)
class Deployment:
    """One model version, and the processes that hold it."""

    id: int
    path: str
    weights: str | None
    device: str
    options: ModelOptions
    version: int
    format: str
    signatures: dict[str, Any]
    replicas: list[Replica] = field(default_factory=list)
    runtime: str = ""
    image: dict[str, Any] | None = None
    warm_up: str = ""
    memory_bytes: int = 0
    is_stateful: bool = False
    #: steps of the warm-up that killed a process, each with a sentence about it
    skipped: dict[str, str] = field(default_factory=dict)
    #: what the model's runtime says its users must know, and what the supervisor adds to that
    model_remarks: list[str] = field(default_factory=list)
    own_remarks: list[str] = field(default_factory=list)
    state: Row.State = Row.State.ACTIVE
    reason: str = ""
    #: the faster runtime that computes it, None while the file itself is served
    chosen: Report | None = None
    #: what was found out about runtimes, and what is being done about it
    report: Report | None = None
    choice: str = ""
    #: with a chosen runtime: TensorFlow's process beside it, while it is needed
    full: Replica | None = None
    served: list[str] | None = None
    #: processes that serve no longer but still answer, and what waits for their end
    leaving: set[Replica] = field(default_factory=set)
    retiring: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def from_row(cls, row: Row) -> Deployment:
        """A deployment of before the server's restart: it has to be loaded again."""
        return cls(
            id=row.pk, path=row.path, weights=row.weights, device=row.device, options=options_of(row.options),
            version=row.version or 1, format=row.format, signatures=row.signatures, state=Row.State.LOADING,
            model_remarks=row.remarks,
        )  # fmt: skip

    @property
    def remarks(self) -> list[str]:
        """What users of the model must know, as plain sentences, each once."""
        found = [*self.model_remarks, *filter(None, self.skipped.values()), *self.own_remarks]
        if self.is_stateful and self.options.replicas > 1 and not self.options.stateless:
            found.append(f"each of its {self.options.replicas} processes has a state of its own")
        return list(dict.fromkeys(found))

    @property
    def shown_options(self) -> ModelOptions:
        """Without the example to warm up with, which may be large."""
        has_example = isinstance(self.options.warm_up, dict)
        return replace(self.options, warm_up=True) if has_example else self.options

    @property
    def living(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.alive]

    @property
    def addresses(self) -> list[str]:
        return [replica.address for replica in self.living]

    @property
    def all_living(self) -> list[Replica]:
        return [*self.living, *([self.full] if self.full is not None and self.full.alive else [])]

    @property
    def everything(self) -> list[Replica]:
        """Every process of this version that is left, whatever it does."""
        return [each for each in {*self.all_living, *self.leaving} if each.alive]

    @property
    def asked_runtime(self) -> str:
        """The one runtime that was asked for, or `auto`."""
        by_precision = {"int8": "litert", "bf16": "openvino"}  # the one runtime that computes so
        return by_precision.get(self.options.precision, self.options.runtime)

    @property
    def asks_for_conversion(self) -> bool:
        """Whether it may have to be converted before it can be loaded as was asked."""
        return self.asked_runtime not in ("auto", "tensorflow") and self.format in formats.CONVERTIBLE

    @property
    def may_be_converted(self) -> bool:
        """Whether runtimes are to be compared: a faster one is looked for, or the requested one was not compared."""
        if self.report is not None and self.report.needs_samples and not self.has_enough_samples:
            return False
        if self.asks_for_conversion:
            return self.report is not None and self.report.needs_samples
        return (
            self.options.runtime == "auto" and self.options.precision == "float32" and self.chosen is None
            and self.format in formats.CONVERTIBLE and self.weights is None and "gpu" not in self.device.lower()
            and not self.is_stateful
        )  # fmt: skip

    @property
    def has_enough_samples(self) -> bool:
        """Whether so many requests were answered that a comparison by them makes sense."""
        return sum(replica.worker.samples_seen for replica in self.living) >= ENOUGH_SAMPLES

    def back_to_auto(self, because: str) -> bool:
        """Gives the chosen runtime up, if that is possible: the file itself is served again."""
        if self.chosen is None or self.asks_for_conversion:
            return False
        self.choice = f"{self.chosen.chosen} was given up: {because}"
        self.chosen = self.served = None
        return True

    def take_in(self, replica: Replica) -> None:
        """A process that is ready serves from now on."""
        self.replicas.append(replica)
        loaded = replica.loaded
        self.runtime, self.warm_up, self.memory_bytes = loaded.runtime, loaded.warm_up, loaded.memory_bytes
        self.model_remarks, self.is_stateful = loaded.remarks, loaded.is_stateful
        self.skipped.update(replica.skipped)
        self.image = self.image or loaded.image
        self.served = list(loaded.signatures) if self.chosen is not None else None

    def question(
        self, workspace: str, *, sample: bytes | None, samples: Sequence[bytes], limit_s: float,
        chosen: Report | None, in_full: bool = False,
    ) -> BecomeModel:  # fmt: skip
        """What one more process has to be asked for this version; `in_full` with TensorFlow, whatever was chosen."""
        path, options, source, guard = self.path, self.options, "", None
        if in_full or (chosen is not None and chosen.chosen == TENSORFLOW):
            options = replace(options, runtime="tensorflow", precision="float32")
        elif chosen is not None:
            path, source, guard = chosen.path, self.path, chosen.guard
            options = replace(options, runtime=chosen.chosen, image=options.image or self.image)
        return BecomeModel(
            workspace=workspace, path=path, source=source, weights=self.weights, device=self.device, sample=sample,
            samples=list(samples), address=new_address(), options=options, time_limit_s=limit_s, guard=guard,
            skip=list(self.skipped),
        )  # fmt: skip

    def told(self) -> ModelVersion:
        """What web must know of it."""
        return ModelVersion(
            id=self.id, version=self.version, state=self.state, addresses=self.addresses, format=self.format,
            runtime=self.runtime, signatures=self.signatures, options=self.shown_options, image=self.image,
            reason=self.reason, path=self.path, served=self.served, remarks=self.remarks,
            full_addresses=[self.full.address] if self.full is not None and self.full.alive else [],
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """What `get_status` and the pages tell."""
        living = self.living
        return {
            "path": self.path,
            "weights": self.weights,
            "version": self.version,
            "state": self.state,
            "reason": self.reason,
            "format": self.format,
            "runtime": self.runtime,
            "choice": self.choice,
            "served": list(self.signatures) if self.served is None else self.served,
            "trials": self.report.trials if self.report is not None else [],
            "device": self.device,
            "pid": living[0].worker.child.pid if living else None,
            "replicas": [replica.worker.child.pid for replica in living],
            "options": self.shown_options,
            "memory_bytes": self.memory_bytes,
            "warm_up": self.warm_up,
            "remarks": self.remarks,
            "signatures": self.signatures,
        }


def options_of(stored: dict[str, Any]) -> ModelOptions:
    """Options as they were recorded; what a newer version of this program does not know is left out."""
    return ModelOptions(**{name: value for name, value in stored.items() if name in ModelOptions.__struct_fields__})
