"""One version of a deployed model: its options, its properties and its processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.json import encode
from msgspec.structs import replace

from tfserve.db.models import Deployment as Row
from tfserve.ipc.messages import AUTO, SPREAD, BecomeModel, Concurrency, Demand, ModelOptions, ModelVersion
from tfserve.models import formats
from tfserve.models.runtime_reports import ENOUGH_SAMPLES, TENSORFLOW, Report, Served
from tfserve.supervisor.models.replicas import Replica, new_address


class Asleep(msgspec.Struct, omit_defaults=True):
    """What is recorded of a sleeping deployment in addition to its row: how web presents it, and how it is woken."""

    runtime: str = ""
    image: dict[str, Any] | None = None
    served: list[str] | None = None
    is_stateful: bool = False
    memory_bytes: int = 0
    warm_up: str = ""
    choice: str = ""
    skipped: dict[str, str] = {}
    own_remarks: list[str] = []
    chosen: Report | None = None
    report: Report | None = None
    located: str = ""
    files_changed_at: float = 0.0


RUNTIME_OF_PRECISION = {"int8": "litert", "bf16": "openvino"}
"""The only runtime that supports a precision."""


@dataclass(eq=False)
class Deployment:
    """One model version."""

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
    #: warm-up steps that killed a process, each with a sentence about it
    skipped: dict[str, str] = field(default_factory=dict)
    #: what users of the model must know: from its runtime, and from the supervisor
    model_remarks: list[str] = field(default_factory=list)
    own_remarks: list[str] = field(default_factory=list)
    state: Row.State = Row.State.ACTIVE
    reason: str = ""
    #: whether the server deployed it by itself, because it is declared
    is_declared: bool = False
    #: the version in the folder `path` that was the highest when it was deployed; empty if `path` is the model
    located: str = ""
    #: when its files were last changed before it was deployed; 0 if that is not known
    files_changed_at: float = 0.0
    #: the report about the faster runtime that serves it, None while the file itself is served
    chosen: Report | None = None
    #: the last report about its runtimes, and the state of the choice
    report: Report | None = None
    choice: str = ""
    #: with a chosen runtime: the extra process with TensorFlow, while it is needed
    full: Replica | None = None
    served: list[str] | None = None
    #: draining processes, and the tasks that end them
    leaving: set[Replica] = field(default_factory=set)
    retiring: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def from_row(cls, row: Row) -> Deployment:
        """A deployment from before the server's restart, which has to be loaded again; a sleeping one when it wakes."""
        found = cls(
            id=row.pk, path=row.path, weights=row.weights, device=row.device, options=options_of(row.options),
            version=row.version or 1, format=row.format, signatures=row.signatures, state=Row.State.LOADING,
            model_remarks=row.remarks, is_declared=row.declared,
        )  # fmt: skip
        if row.asleep is not None:
            with contextlib.suppress(msgspec.ValidationError):  # another release recorded it: it is loaded now
                found._take_over(msgspec.convert(row.asleep, Asleep))
                found.state = Row.State.SLEEPING
        return found

    def asleep(self) -> Asleep:
        """What to record when it sleeps."""
        return Asleep(**{name: getattr(self, name) for name in Asleep.__struct_fields__})

    def _take_over(self, asleep: Asleep) -> None:
        for name in Asleep.__struct_fields__:
            setattr(self, name, getattr(asleep, name))

    @property
    def is_asleep(self) -> bool:
        """Whether it has no process until a request needs it."""
        return self.state == Row.State.SLEEPING

    @property
    def model_path(self) -> str:
        """The path of the model itself."""
        return self.located or self.path

    @property
    def remarks(self) -> list[str]:
        """What users of the model must know, as plain sentences, each once."""
        found = [*self.model_remarks, *filter(None, self.skipped.values()), *self.own_remarks]
        limits = self.options.autoscale or None
        if self.keeps_state and limits is not None and limits.max > 1:
            found.append(
                f"each of its up to {limits.max} processes has a state of its own, which ends with it (autoscale)"
            )
        elif self.keeps_state and self.options.replicas > 1:
            found.append(f"each of its {self.options.replicas} processes has a state of its own")
        if self.keeps_state and self.options.idle_after_s is not msgspec.UNSET and self.options.idle_after_s > 0:
            found.append(f"its state is lost after {self.options.idle_after_s:g} s without a prediction (idle_after)")
        return list(dict.fromkeys(found))

    @property
    def keeps_state(self) -> bool:
        """Whether its next outputs depend on former requests."""
        return self.is_stateful and not self.options.stateless

    @property
    def shown_options(self) -> ModelOptions:
        """The options without the example for the warm-up, which may be large."""
        has_example = isinstance(self.options.warm_up, dict)
        return replace(self.options, warm_up=True) if has_example else self.options

    @property
    def living(self) -> list[Replica]:
        """Those on machines that are about to stop come last."""
        return sorted((each for each in self.replicas if each.alive), key=lambda each: each.worker.node_stops)

    @property
    def staying(self) -> list[Replica]:
        """The living ones that need no replacement."""
        return [each for each in self.living if not each.worker.node_stops]

    @property
    def on_stopping_machines(self) -> list[Replica]:
        return [each for each in self.all_living if each.worker.node_stops]

    @property
    def demand(self) -> Demand:
        """What its next process needs, and where the others are."""
        needed = {} if self.options.resources is msgspec.UNSET else self.options.resources
        siblings = Counter(replica.worker.node for replica in self.living)
        return Demand(resources=needed, placement=self.options.placement or SPREAD, siblings=dict(siblings))

    @property
    def addresses(self) -> list[str]:
        return [replica.address for replica in self.living]

    @property
    def all_living(self) -> list[Replica]:
        return [*self.living, *([self.full] if self.full is not None and self.full.alive else [])]

    @property
    def everything(self) -> list[Replica]:
        """Every living process of this version, including draining ones."""
        return [each for each in {*self.all_living, *self.leaving} if each.alive]

    @property
    def concurrency(self) -> Concurrency | None:
        """That of its first process: each finds its own, but they get the same load."""
        return next(filter(None, (replica.worker.concurrency for replica in self.living)), None)

    @property
    def requested_runtime(self) -> str:
        """The one runtime that was requested, or `auto`."""
        return RUNTIME_OF_PRECISION.get(self.options.precision, self.options.runtime)

    @property
    def requests_conversion(self) -> bool:
        """Whether it may have to be converted before the requested runtime can load it."""
        return self.requested_runtime not in (AUTO, TENSORFLOW) and self.format in formats.CONVERTIBLE

    @property
    def may_be_converted(self) -> bool:
        """Whether to compare runtimes: to find a faster one, or because the requested one has not been compared."""
        if self.report is not None and self.report.needs_samples and not self.has_enough_samples:
            return False
        if self.report is not None and self.report.compared and self.report.chosen == TENSORFLOW:
            return False
        if self.requests_conversion:
            return self.report is not None and self.report.needs_samples
        return (
            self.options.runtime == AUTO and self.options.precision == "float32" and self.chosen is None
            and self.format in formats.CONVERTIBLE and self.weights is None and "gpu" not in self.device.lower()
            and not self.is_stateful
        )  # fmt: skip

    @property
    def can_begin_converted(self) -> bool:
        """Whether it may begin with a runtime that was chosen before."""
        return self.may_be_converted or (self.requested_runtime == AUTO and self.chosen is not None)

    @property
    def content_options(self) -> bytes:
        """The options that decide which signatures its files have."""
        options = self.options
        return encode([options.image, options.stateless, options.inputs, options.outputs])

    def served_by_tensorflow(self) -> Served:
        """What TensorFlow said of its files, for the next deployment of them."""
        return Served(options=self.content_options, signatures=self.signatures, image=self.image)

    def begin_with(self, report: Report, served: Served) -> None:
        """Begins with the runtime that was chosen for the same files before."""
        self.report = self.chosen = report
        self.signatures, self.image = served.signatures, served.image
        self.choice = f"{report.chosen} was chosen when these files were deployed before{report.exceptions}"

    def begin_as_requested(self, report: Report) -> None:
        """Begins with the runtime that was requested, for which the files were converted."""
        self.set_report(report)
        self.chosen = report
        self.choice = f"{report.chosen} was requested"

    @property
    def has_enough_samples(self) -> bool:
        """Whether enough different requests were computed to compare runtimes with them."""
        return sum(replica.worker.samples_seen for replica in self.living) >= ENOUGH_SAMPLES

    def back_to_auto(self, because: str) -> bool:
        """Gives up the chosen runtime, so that the file itself is served again. False if that is not possible."""
        if self.chosen is None or self.requests_conversion:
            return False
        self.choice = f"{self.chosen.chosen} was given up: {because}"
        self.chosen = self.served = None
        return True

    def found_files(self, changed_at: float) -> None:
        """Gives up a converted model if the files that it was made of have changed."""
        if self.chosen is not None and self.files_changed_at not in (0.0, changed_at):
            self.report = None
            if not self.back_to_auto("the files of the model have changed"):
                self.chosen = self.served = None
        self.files_changed_at = changed_at

    def set_report(self, report: Report) -> None:
        """Takes over a report about runtimes, and what users must know of one that was requested."""
        self.report = report
        if self.requested_runtime != AUTO:
            self.own_remarks = _remarks(report, self.requested_runtime)

    def add(self, replica: Replica) -> None:
        """From now on, this process serves too."""
        self.replicas.append(replica)
        loaded = replica.loaded
        self.runtime, self.warm_up, self.memory_bytes = loaded.runtime, loaded.warm_up, loaded.memory_bytes
        self.model_remarks, self.is_stateful = loaded.remarks, loaded.is_stateful
        self.skipped.update(replica.skipped)
        if self.chosen is None:  # the files may have been replaced since it was deployed
            self.signatures = loaded.signatures
        self.image = self.image or loaded.image
        self.served = list(loaded.signatures) if self.chosen is not None else None

    def load_request(
        self, workspace: str, *, limit_s: float, sample: bytes | None = None, samples: Sequence[bytes] = (),
        chosen: Report | None = None, in_full: bool = False,
    ) -> BecomeModel:  # fmt: skip
        """Makes another process load this version; `in_full` with TensorFlow, whatever was chosen."""
        path, options, source, guard = self.model_path, self.options, "", None
        if in_full or (chosen is not None and chosen.chosen == TENSORFLOW):
            options = replace(options, runtime=TENSORFLOW, precision="float32")
        elif chosen is not None:
            path, source, guard = chosen.path, self.model_path, chosen.guard
            options = replace(options, runtime=chosen.chosen, image=options.image or self.image)
        return BecomeModel(
            workspace=workspace, path=path, path_on_head=path, source=source, weights=self.weights,
            device=self.device, sample=sample, samples=list(samples), address=new_address(), options=options,
            time_limit_s=limit_s, guard=guard, skip=list(self.skipped), deployment=self.id,
        )  # fmt: skip

    def announcement(self) -> ModelVersion:
        """What web processes must know of it."""
        return ModelVersion(
            id=self.id, version=self.version, state=self.state, addresses=self.addresses, format=self.format,
            runtime=self.runtime, signatures=self.signatures, options=self.shown_options, image=self.image,
            reason=self.reason, path=self.path, served=self.served, remarks=self.remarks,
            is_stateful=self.is_stateful and not self.options.stateless,
            concurrency=self.concurrency,
            full_addresses=[self.full.address] if self.full is not None and self.full.alive else [],
        )  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """For `get_status` and the pages."""
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
            "processes": [{"pid": each.worker.child.pid, "node": each.worker.node} for each in living],
            "options": self.shown_options,
            "concurrency": self.concurrency,
            "memory_bytes": 0 if self.is_asleep else self.memory_bytes,
            "warm_up": self.warm_up,
            "remarks": self.remarks,
            "signatures": self.signatures,
        }


def options_of(stored: dict[str, Any]) -> ModelOptions:
    """Options from the database, without those that this version of the program does not know."""
    return msgspec.convert(stored, ModelOptions)


def _remarks(report: Report, requested: str) -> list[str]:
    """What users must know of a runtime that was requested by name."""
    if not report.compared:
        return [f"not compared yet: {requested} serves, but {report.reason(requested)}"]
    if report.chosen != requested:
        reason = report.reason(requested)
        return [f"served by TensorFlow: {requested} was requested but does not agree with it ({reason})"]
    return []
