"""The processes that hold one deployed model version: loaded, watched, and replaced when they die."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from tfserve.control.models import Deployment as Row
from tfserve.conversions import Report
from tfserve.errors import Internal
from tfserve.ipc.messages import BecomeModel, ModelLoaded, ModelOptions, ModelVersion
from tfserve.models import formats
from tfserve.supervisor.workers import Spare, Worker

CONVERTIBLE = (formats.SAVED_MODEL, formats.KERAS, formats.HDF5)
"""Formats for which a faster runtime is looked for."""

READ_BY_TENSORFLOW = (*CONVERTIBLE, formats.META_GRAPH, formats.FROZEN_GRAPH)
"""Formats that a worker is warm for."""

_SERVER = f"{os.getpid()}-{secrets.token_hex(8)}"
_numbers = itertools.count(1)


def new_address() -> str:
    """A Unix socket without a file: it is gone with its process, and no path is too long for it."""
    return f"\0tfserve-{_SERVER}-{next(_numbers)}"


@dataclass(eq=False)
class Replica:
    """One process with the model, and where web reaches it."""

    worker: Worker
    address: str
    loaded: ModelLoaded

    @property
    def alive(self) -> bool:
        return self.worker.alive

    async def stop(self) -> None:
        await self.worker.stop()


async def load(spare: Spare, question: BecomeModel, format_: str) -> Replica:
    """A new process with the model of the question. Raises what is wrong with the model, or `WorkerDied`."""
    if question.options.runtime in ("auto", "tensorflow") and format_ in READ_BY_TENSORFLOW:
        worker = await spare.take(needs_tensorflow=True)
    else:
        worker = await spare.start_cold()
    try:
        loaded = await worker.ask(question)
        if not isinstance(loaded, ModelLoaded):
            raise Internal(f"a worker answered {type(loaded).__name__} to a model")
        return Replica(worker, question.address, loaded)
    except BaseException:
        worker.kill("its model could not be loaded")
        raise


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
        return list(dict.fromkeys([*self.model_remarks, *self.own_remarks]))

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
        return self.asked_runtime not in ("auto", "tensorflow") and self.format in CONVERTIBLE

    @property
    def may_be_converted(self) -> bool:
        """Whether a faster runtime may be looked for."""
        return (
            self.options.runtime == "auto" and self.options.precision == "float32" and self.chosen is None
            and self.format in CONVERTIBLE and self.weights is None and "gpu" not in self.device.lower()
        )  # fmt: skip

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
        self.model_remarks = loaded.remarks
        self.image = self.image or loaded.image
        self.served = list(loaded.signatures) if self.chosen is not None else None

    def question(
        self, workspace: str, *, sample: bytes | None, samples: Sequence[bytes], limit_s: float,
        chosen: Report | None, in_full: bool = False,
    ) -> BecomeModel:  # fmt: skip
        """What one more process has to be asked for this version; `in_full` with TensorFlow, whatever was chosen."""
        path, options, source = self.path, self.options, ""
        if in_full:
            options = replace(options, runtime="tensorflow", precision="float32")
        elif chosen is not None:
            path, source = chosen.path, self.path
            options = replace(options, runtime=chosen.chosen, image=options.image or self.image)
        return BecomeModel(
            workspace=workspace, path=path, source=source, weights=self.weights, device=self.device, sample=sample,
            samples=list(samples), address=new_address(), options=options, time_limit_s=limit_s,
        )  # fmt: skip

    def told(self) -> ModelVersion:
        """What web must know of it."""
        return ModelVersion(
            id=self.id, version=self.version, state=self.state, addresses=self.addresses, format=self.format,
            runtime=self.runtime, signatures=self.signatures, options=self.options, image=self.image,
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
            "options": self.options,
            "memory_bytes": self.memory_bytes,
            "warm_up": self.warm_up,
            "remarks": self.remarks,
            "signatures": self.signatures,
        }


def options_of(stored: dict[str, Any]) -> ModelOptions:
    """Options as they were recorded; what a newer version of this program does not know is left out."""
    return ModelOptions(**{name: value for name, value in stored.items() if name in ModelOptions.__struct_fields__})
