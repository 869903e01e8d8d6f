"""The processes that hold one deployed model version: loaded, watched, and replaced when they die."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tfserve.control.models import Deployment as Row
from tfserve.errors import Internal
from tfserve.ipc.messages import BecomeModel, ModelLoaded, ModelOptions, ModelVersion
from tfserve.supervisor.workers import Spare, Worker

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


async def load(spare: Spare, question: BecomeModel) -> Replica:
    """A new process with the model of the question. Raises what is wrong with the model, or `WorkerDied`."""
    worker = await spare.take(needs_tensorflow=True)
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
    state: Row.State = Row.State.ACTIVE
    reason: str = ""

    @classmethod
    def from_row(cls, row: Row) -> Deployment:
        """A deployment of before the server's restart: it has to be loaded again."""
        return cls(
            id=row.pk, path=row.path, weights=row.weights, device=row.device, options=options_of(row.options),
            version=row.version or 1, format=row.format, signatures=row.signatures, state=Row.State.LOADING,
        )  # fmt: skip

    @property
    def living(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.alive]

    @property
    def addresses(self) -> list[str]:
        return [replica.address for replica in self.living]

    def take_in(self, replica: Replica) -> None:
        """A process that is ready serves from now on."""
        self.replicas.append(replica)
        loaded = replica.loaded
        self.runtime, self.image, self.warm_up = loaded.runtime, loaded.image, loaded.warm_up
        self.memory_bytes = loaded.memory_bytes

    def question(
        self, workspace: str, *, sample: bytes | None, samples: Sequence[bytes], limit_s: float
    ) -> BecomeModel:
        """What one more process has to be asked for this version."""
        return BecomeModel(
            workspace=workspace, path=self.path, weights=self.weights, device=self.device, sample=sample,
            samples=list(samples), address=new_address(), options=self.options, time_limit_s=limit_s,
        )  # fmt: skip

    def told(self) -> ModelVersion:
        """What web must know of it."""
        return ModelVersion(
            id=self.id, version=self.version, state=self.state, addresses=self.addresses, format=self.format,
            runtime=self.runtime, signatures=self.signatures, options=self.options, image=self.image,
            reason=self.reason, path=self.path,
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
            "device": self.device,
            "pid": living[0].worker.child.pid if living else None,
            "replicas": [replica.worker.child.pid for replica in living],
            "options": self.options,
            "memory_bytes": self.memory_bytes,
            "warm_up": self.warm_up,
            "signatures": self.signatures,
        }


def options_of(stored: dict[str, Any]) -> ModelOptions:
    """Options as they were recorded; what a newer version of this program does not know is left out."""
    return ModelOptions(**{name: value for name, value in stored.items() if name in ModelOptions.__struct_fields__})
