"""The deployed models as the web process knows them, and how a prediction reaches one.

The supervisor announces every change, so a prediction never waits for the supervisor.
"""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from tfserve.access.principals import PRINCIPAL
from tfserve.cluster.membership import Membership
from tfserve.errors import Invalid, NotFound, TFserveError, TimedOut, Unavailable, from_failure, nearest
from tfserve.ipc import predictions
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import ModelVersion
from tfserve.ipc.metrics import ModelCounts
from tfserve.ipc.predictions import ComputeRequest, Refusal
from tfserve.paths import without_folders
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Signature
from tfserve.web.http import access_log
from tfserve.web.http.offload import are_heavy, offloaded
from tfserve.web.http.timer_wheel import TimerWheel
from tfserve.web.predictions.pool import ReplicaPool
from tfserve.web.predictions.request import (
    CallerGone,
    PredictionRequest,
    PredictionResult,
    Prepared,
    in_order,
    outputs_in_order,
    rows,
    tensors,
)
from tfserve.web.predictions.signature_checks import default_of, max_body_bytes
from tfserve.web.predictions.waking import SLEEPING, ModelQueueFull, Wake, Waking, expire


class NoSuchModel(NotFound):
    """There is no model {name!r}{hint}. GET /v1/models lists those that are deployed."""


class NoSuchVersion(NotFound):
    """Model {name!r} has no version {version}. Available: {known}."""


class NoSuchLabel(Invalid):
    """Unrecognized servable version label: {label}. Labels of this model: {known}."""


class PredictionLost(Unavailable):
    """The prediction was lost: {reason}. The model is restarting; send the request again."""


MAX_SHOWN = 80
"""Characters of an unknown label that the message repeats."""

_normalized = partial(unicodedata.normalize, "NFC")
"""The name in Unicode form NFC, as names are stored."""

P = TypeVar("P", bound=Prepared)
T = TypeVar("T")


class Model:
    """One version of one workspace's model."""

    def __init__(
        self, name: str, info: ModelVersion, *, timeout_s: float, limit: int, wake: Wake,
        membership: Membership | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.info = info
        self.statistics = ModelCounts()
        self.signatures: dict[str, Signature] = {}
        #: the signature that is meant when none is named: `serving_default`, or the only one
        self.default_signature = DEFAULT_SIGNATURE
        #: larger requests can't fit; None where inputs may have any size
        self.max_body_bytes: int | None = None
        self.in_flight = 0
        #: the version that has taken this one's place
        self.successor: Model | None = None
        self._pool = ReplicaPool(membership)
        #: TensorFlow in parallel with a faster runtime, while it is needed
        self._full_pool = ReplicaPool(membership)
        self._waking = Waking(lambda: wake(self.info.workspace or name, False))
        #: for TensorFlow in parallel with a faster runtime
        self._waking_full = Waking(lambda: wake(self.info.workspace or name, True), ends_with_reply=True)
        self._timeout_s = timeout_s
        self._limit = limit
        self._changed = asyncio.Event()
        self.update(info)

    @property
    def version(self) -> int:
        return self.info.version

    @property
    def state(self) -> str:
        """`loading`, `active`, `sleeping`, `draining` or `failed`."""
        return self.info.state

    @property
    def is_ready(self) -> bool:
        """Whether requests are computed. Those for a sleeping model are, unless the last attempt to wake it failed."""
        if self.info.state == SLEEPING:
            return not self.info.reason
        return self.info.state in ("active", "draining") and self._pool.alive

    def update(self, info: ModelVersion) -> None:
        """Applies what the supervisor announces about this version, once it is connected."""
        remarks = [without_folders(each, info.path) for each in info.remarks]
        self.info = info = msgspec.structs.replace(
            info, reason=without_folders(info.reason, info.path), remarks=remarks
        )
        self._pool.keep(info.addresses)
        self._full_pool.keep(info.full_addresses)
        self.signatures = {name: msgspec.convert(each, Signature) for name, each in info.signatures.items()}
        self.default_signature = default_of(self.signatures)
        self.max_body_bytes = max_body_bytes(self.signatures.values())
        if info.state != SLEEPING:
            self._waking.announced()
        self._changed.set()
        self._changed = asyncio.Event()

    async def connect(self, info: ModelVersion) -> None:
        """Opens the lines to replicas that are new."""
        await self._pool.open(info.addresses)
        await self._full_pool.open(info.full_addresses)

    def signature(self, name: str) -> Signature:
        """Raises `Invalid`, which lists the signatures; `Unavailable` for a version that was never loaded."""
        found = self.signatures.get(name)
        if found is None:
            if self.state == "failed" and not self.signatures:
                raise Unavailable(self._why_not())
            known = ", ".join(map(repr, self.signatures)) or "none"
            raise Invalid(
                f"Model {self.name!r} has no signature {name!r}{nearest(name, self.signatures)}. There are: {known}."
            )
        return found

    async def run(self, read: Callable[[], P], write: Callable[[P, PredictionResult], T], *, is_heavy: bool) -> T:
        """Reads a request, computes it and writes the response. Large ones are read and written in a thread.

        Raises the errors of `predict`, `read` and `write`.
        """
        prepared = await offloaded(read) if is_heavy else read()
        result = await self.predict(prepared.request)
        if are_heavy(result.outputs.values()):
            return await offloaded(partial(write, prepared, result))
        return write(prepared, result)

    async def predict(self, request: PredictionRequest) -> PredictionResult:
        """Computes. Raises a `TFserveError` (invalid, unavailable, timed out, too large, internal), or `CallerGone`."""
        if self.successor is not None and not request.pinned:
            return await self.successor.predict(request)
        started_ns = time.perf_counter_ns()
        if (entry := access_log.CURRENT.get()) is not None:
            entry.protocol = request.protocol
        try:
            return await self._predict(request, started_ns)
        except TFserveError as error:
            self.statistics.failed(request.protocol, error.kind, time.perf_counter_ns() - started_ns)
            if entry is not None:
                entry.error = error.kind
            raise
        except (CallerGone, asyncio.CancelledError):
            self.statistics.dropped(request.protocol, time.perf_counter_ns() - started_ns)
            raise

    async def _predict(self, request: PredictionRequest, started_ns: int) -> PredictionResult:
        signature = self.signatures.get(request.signature) or self.signature(request.signature)
        inputs = in_order(signature, request.inputs)
        names = outputs_in_order(signature, request.outputs) if request.outputs else signature.output_names
        packed = await offloaded(partial(tensors, inputs)) if are_heavy(inputs.values()) else tensors(inputs)
        question = ComputeRequest(request.signature, tuple(inputs), packed, names, request.urgency)
        # Nothing is awaited between this and sending the request, so the model can't sleep in between.
        while self.info.state == SLEEPING:
            request = await self._wake_up(request, self._waking)
        if self.successor is not None and not request.pinned and not self._pool.alive:
            return await self.successor.predict(request)
        answer = await self._ask(question, request, in_full=not self._is_served(question.signature))
        if isinstance(answer, Refusal) and answer.in_full:  # the faster runtime does not compute such values
            if self.successor is not None and not request.pinned:
                return await self.successor.predict(request)
            answer = await self._ask(question, request, in_full=True)
        if isinstance(answer, Refusal):
            failure = answer.failure
            message = without_folders(failure.message, self.info.path)
            raise from_failure(msgspec.structs.replace(failure, message=message))
        self.statistics.succeeded(request.protocol, rows(packed), time.perf_counter_ns() - started_ns, answer)
        outputs = {name: predictions.to_array(each) for name, each in zip(names, answer.tensors, strict=True)}
        if request.outputs:
            outputs = {name: outputs[name] for name in request.outputs}
        return PredictionResult(outputs, self.info.version)

    def _is_served(self, signature: str) -> bool:
        return self.info.served is None or signature in self.info.served

    async def _ask(
        self, question: ComputeRequest, request: PredictionRequest, *, in_full: bool
    ) -> predictions.ComputeResult | Refusal:
        if request.caller is not None and request.caller.is_gone:
            raise CallerGone
        if self.in_flight >= self._limit:
            raise ModelQueueFull(limit=self._limit)
        if in_full and self.info.served is not None and not self._full_pool.alive:
            request = await self._wake_up(request, self._waking_full)
            if request.caller is not None and request.caller.is_gone:
                raise CallerGone
        # The model may be back with TensorFlow by now.
        line = (self._full_pool if in_full and self.info.served is not None else self._pool).least_busy()
        if line is None:
            raise Unavailable(self._why_not())
        changed = self._changed
        try:
            request_id, reply = line.ask(question)
        except ConnectionLost:
            raise await self._lost(changed) from None
        timeout = _timeouts.add(reply, self._timeout_of(request))
        self.in_flight += 1
        try:
            if request.caller is not None:
                request.caller.on_gone = reply.cancel
            return await reply
        except ConnectionLost:
            raise await self._lost(changed) from None
        except (asyncio.CancelledError, TimedOut):
            line.drop(request_id)
            if reply.cancelled() and request.caller is not None and request.caller.is_gone:
                raise CallerGone from None
            raise
        finally:
            timeout.pop(reply, None)
            self.in_flight -= 1

    async def _wake_up(self, request: PredictionRequest, waking: Waking) -> PredictionRequest:
        """Returns when the model is awake, with what is left of the time. Raises the cause if it can't be woken."""
        if self.in_flight >= self._limit:
            raise ModelQueueFull(limit=self._limit)
        self.in_flight += 1
        try:
            return await waking.wait(request, self._timeout_of(request))
        except Unavailable as error:
            raise Unavailable(without_folders(error.message, self.info.path)) from None
        finally:
            self.in_flight -= 1

    def _timeout_of(self, request: PredictionRequest) -> float:
        return self._timeout_s if request.timeout_s is None else min(request.timeout_s, self._timeout_s)

    async def drained(self, addresses: Sequence[str]) -> None:
        """Returns when nothing is in flight to these replicas."""
        await self._pool.drained(addresses)
        await self._full_pool.drained(addresses)

    def close(self) -> None:
        self._pool.close()
        self._full_pool.close()
        self._waking.announced()
        self._waking_full.announced()

    def _why_not(self) -> str:
        if self.state == "loading":
            return f"The model {self.name!r} is loading: {self.info.reason or 'try again shortly'}."
        return f"The model {self.name!r} can't be used: {self.info.reason or 'its worker is gone'}."

    async def _lost(self, changed: asyncio.Event) -> PredictionLost:
        # As a task: this may run in an `EagerCall`, which has no current task for a timeout.
        return PredictionLost(reason=await asyncio.create_task(self._cause_of_death(changed)))

    async def _cause_of_death(self, changed: asyncio.Event) -> str:
        """What the supervisor says of it, which learns it in the same moment."""
        try:
            async with asyncio.timeout(1.0):
                await changed.wait()
        except TimeoutError:
            pass
        return self.info.reason or "the worker that computed this prediction ended"


class LiveModels:
    """All deployed models of the server."""

    def __init__(self, *, timeout_s: float, limit: int, wake: Wake, membership: Membership | None = None) -> None:
        self._new = partial(Model, timeout_s=timeout_s, limit=limit, wake=wake, membership=membership)
        self._by_name: dict[str, list[Model]] = {}
        self._changing = asyncio.Lock()
        #: set, and replaced by a new one, when anything has changed
        self.changed = asyncio.Event()

    def __iter__(self) -> Iterator[Model]:
        """Every version of every model that the caller may know of."""
        return iter([model for name in self.names() for model in self._by_name[name]])

    def counts(self) -> dict[int, ModelCounts]:
        """What this process has counted of each deployment, by its id."""
        return {model.info.id: replace(model.statistics, in_flight=model.in_flight) for model in self}

    def names(self) -> list[str]:
        return PRINCIPAL.get().visible(self._by_name)

    def versions(self, name: str) -> list[Model]:
        """The versions of a model, the one that takes requests first. Raises `NoSuchModel`."""
        name = _normalized(name)
        found = self._by_name.get(name)
        if not found or not PRINCIPAL.get().sees_workspace(name):
            raise NoSuchModel(name=name, hint=nearest(name, self.names()))
        return found

    def get(self, name: str, version: int | None = None) -> Model:
        """The version that serves requests, or the requested one. Raises `NoSuchModel`, `NoSuchVersion`."""
        if not name.isascii():
            name = _normalized(name)
        found = self._by_name.get(name)
        if not found or (version is None and found[0].state == "draining") or not PRINCIPAL.get().sees_workspace(name):
            raise NoSuchModel(name=name, hint=nearest(name, [each for each in self.names() if each != name]))
        model = found[0] if version is None else self._of_version(found, version)
        access_log.note_model(name, model.version)
        return model

    def labelled(self, name: str, label: str) -> Model:
        """The version with a label. Raises `NoSuchLabel`, also for an unknown model, as TensorFlow Serving does."""
        versions = self._by_name.get(_normalized(name), [])
        for model in versions:
            if label in model.info.labels:
                return self.get(name, model.version)
        known = dict.fromkeys(each for model in versions for each in model.info.labels)
        raise NoSuchLabel(label=label[:MAX_SHOWN], known=", ".join(known) or "none")

    def _of_version(self, found: Sequence[Model], version: int) -> Model:
        for model in found:
            if model.version == version:
                return model
        known = ", ".join(str(model.version) for model in found)
        raise NoSuchVersion(name=found[0].name, version=version, known=known)

    async def begin(self, announced: Mapping[str, Sequence[ModelVersion]]) -> None:
        await asyncio.gather(*(self.change(name, versions) for name, versions in announced.items()))

    async def change(self, name: str, versions: Sequence[ModelVersion]) -> None:
        """Applies what is deployed in a workspace."""
        async with self._changing:  # one after the other, in the order of the announcements
            await self._change(name, versions)

    async def _change(self, name: str, versions: Sequence[ModelVersion]) -> None:
        before = {model.info.id: model for model in self._by_name.get(name, ())}
        now = [before.pop(each.id) if each.id in before else self._new(name, each) for each in versions]
        await asyncio.gather(*(model.connect(each) for model, each in zip(now, versions, strict=True)))
        # From here on in one step: a request in between would find the old version gone and the new one not there.
        for model, each in zip(now, versions, strict=True):
            model.update(each)
            model.successor = now[0] if each.state == "draining" and now[0].state != "draining" else None
        if now:
            self._by_name[name] = now
        else:
            self._by_name.pop(name, None)
        self._announce_change()
        for model in before.values():
            model.close()

    def _announce_change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def drained(self, name: str, id_: int, addresses: Sequence[str]) -> None:
        """Returns when nothing is in flight to these replicas of a deployment."""
        async with self._changing:  # an announcement that came before may still be opening connections
            pass
        for model in list(self._by_name.get(name, ())):
            if model.info.id == id_:
                await model.drained(addresses)
                self._forget_drained(name, model, addresses)

    def _forget_drained(self, name: str, model: Model, addresses: Sequence[str]) -> None:
        """A version that is being unloaded can't be requested by its number any more."""
        versions = self._by_name.get(name, [])
        is_idle = not model.in_flight and set(model.info.addresses) <= set(addresses)
        if model in versions and model.state == "draining" and is_idle:
            versions.remove(model)
            model.close()
            self._announce_change()


_timeouts = TimerWheel[asyncio.Future[predictions.ComputeResult | Refusal]](expire)
