"""Computes batches: joins the tensors of several requests, runs the model once and splits the outputs.

Batches contain only requests of one group, and only where batching was shown to give the same results (`batching`).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psutil

from tfserve import available_memory, linux
from tfserve.errors import Internal, Invalid, Overloaded, TFserveError, Unsupported
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Refusal, Tensor, to_array, to_tensor
from tfserve.runtimes import concurrent, state
from tfserve.runtimes.error_summary import named_cause
from tfserve.runtimes.interface import (
    OnlyTensorFlowKnows,
    Preparing,
    ResolvedName,
    Runtime,
    find_signature,
    listed,
    release_memory,
)
from tfserve.tensors.specs import Array, Signature
from tfserve.worker.model import batching, joined_tensors, samples
from tfserve.worker.model.batching import BatchPlan, Inputs
from tfserve.worker.model.input_checks import check_inputs
from tfserve.worker.model.request_queue import Group, Waiting
from tfserve.worker.model.samples import RequestSamples
from tfserve.worker.model.timed_runtime import CallClock, InTurn, TimedRuntime
from tfserve.worker.trials.numeric_diff import is_rounded

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_KNOWN = 1024
COMPARED = 2
"""Requests on which a copy of the model is compared with the model."""


@dataclass(eq=False)
class GroupComputation:
    """How the requests of a group are computed, independent of their values.

    `has_fixed_rows` when the signature says how many rows there are: then that is checked for each request, since
    the number of rows is not part of a group. A refusal is never kept, it belongs to one request.
    """

    plan: BatchPlan
    has_fixed_rows: bool


class Computation:
    """One model. `lock` is held while the runtime computes, unless several threads may call it at the same time.

    At load there may be a copy of the model, whose computations have fewer threads each (`narrowed`, `use`).
    """

    def __init__(self, runtime: Runtime, lock: threading.Lock, *, memory_limit_bytes: int = 0) -> None:
        #: requests that were answered
        self.samples = RequestSamples()
        #: when the last batch began
        self.last_run_ns = 0
        self._runtime = runtime
        self._preparing = runtime if isinstance(runtime, Preparing) else None
        self._lock = lock
        self._memory_limit_bytes = memory_limit_bytes
        #: whether `run` may be called by several threads at a time without a copy
        self.is_shareable = concurrent.is_shareable(runtime)
        self._clock = CallClock()
        turn = contextlib.nullcontext() if self.is_shareable else InTurn(lock)
        self._timed = TimedRuntime(runtime, turn, self._clock)
        self._copy: Runtime | None = None
        self._timed_copy: TimedRuntime | None = None
        self._may_copy = True
        self._known: dict[Group, GroupComputation] = {}

    @property
    def running_since_ns(self) -> int | None:
        """When the oldest call of the model began that has not ended. Any thread may ask."""
        return self._clock.oldest_ns

    def row_ns(self, group: Group) -> int | None:
        """How long the model takes for a row of such requests; None until it has computed one."""
        known = self._known.get(group[1:])
        return known.plan.row_ns or None if known is not None else None

    def prepares(self, ask: ComputeRequest) -> bool:
        """Whether the request must be preprocessed before it is queued for the model."""
        return self._preparing is not None and self._preparing.prepares(ask.signature) is not None

    def prepare(self, ask: ComputeRequest) -> ComputeRequest | Refusal:
        """The preprocessed request. Any thread may call this while another one runs the model."""
        return _refusing(lambda: self._prepared(ask))

    def sort(self, ask: ComputeRequest) -> tuple[Group, int | None]:
        """The group of a request, and its rows if it can share a batch."""
        rows = {tensor.shape[0] if tensor.shape else None for tensor in ask.tensors}
        count = rows.pop() if len(rows) == 1 else None
        group = _group(ask)
        try:
            plan = self._plan(group, ask)
        except TFserveError:  # which `run` finds again
            plan = None
        if not count or plan is None or not plan.can_batch():
            return (ask.urgency, *group, object()), None
        return (ask.urgency, *group), count

    def release_memory(self, unused: Runtime | None = None) -> None:
        """Returns cached memory to the system; a request that arrives meanwhile waits. `unused` is a copy."""
        with self._lock:
            release_memory(self._runtime)
        if unused is not None:
            release_memory(unused)
        linux.give_memory_back()

    def narrowed(self, computations: int) -> Runtime:
        """A copy of the model for this number of computations at a time, compared with the model on real requests.

        Any thread may call it while others run the model. Raises `TFserveError` if the model has to do without.
        """
        memory, left = psutil.Process().memory_full_info(), available_memory.of_process()
        if self._memory_limit_bytes:
            left = min(left, self._memory_limit_bytes - memory.rss)
        if left < memory.uss:
            raise Overloaded("Too little memory is left for a copy of the model.")
        copied = concurrent.narrowed(self._runtime, computations)
        agrees = False
        try:
            agrees = self._agrees(copied)
        finally:
            if not agrees:
                copied.close()
        if not agrees:
            raise Unsupported("With fewer threads for each computation the model gives other numbers.")
        return copied

    def use(self, copied: Runtime | None) -> Runtime | None:
        """Uses the copy from now on where `run` is asked to; returns the former one, which no thread uses by then."""
        former, self._copy = self._copy, copied
        self._timed_copy = TimedRuntime(copied, contextlib.nullcontext(), self._clock) if copied is not None else None
        return former

    def check_again(self) -> None:
        """Checks the next batches, because those so far were of synthetic rows."""
        for known in list(self._known.values()):
            known.plan.check_again()

    def share_state(self) -> None:
        """Never uses a copy again: a request is about to change the model's state, which a copy would not notice."""
        self._may_copy = False

    def run(self, requests: Sequence[Waiting], *, is_narrow: bool = False) -> list[ComputeResult | Refusal]:
        """The response to each request, in order. A failed request does not affect the others.

        `is_narrow` is for the copy of the model, if there is one: other computations run at the same time.
        """
        first = requests[0].ask
        copied = self._timed_copy if is_narrow and self._may_copy else None
        answers = _refusing(lambda: self._run(copied or self._timed, self._plan(_group(first), first), requests))
        self.last_run_ns = time.perf_counter_ns()
        return [answers] * len(requests) if isinstance(answers, Refusal) else answers

    # --- plans

    def _plan(self, group: Group, ask: ComputeRequest) -> BatchPlan:
        """Raises `Invalid` when the request does not match the model."""
        known = self._known.get(group)
        if known is not None and not known.has_fixed_rows:
            return known.plan
        signature = self._signature(ask.signature)
        check_inputs(signature, ask)
        if known is None:
            known = GroupComputation(self._new_plan(signature, ask), _has_fixed_rows(signature))
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[group] = known
        return known.plan

    def _new_plan(self, signature: Signature, ask: ComputeRequest) -> BatchPlan:
        outputs = {spec.name: spec for spec in signature.outputs}
        if unknown := [name for name in ask.outputs if name not in outputs]:
            raise Invalid(f"The model has no output {unknown[0]!r}. Available: {listed(outputs)}.")
        inputs = {spec.name: spec for spec in signature.takes}
        plan = BatchPlan(
            ask.signature,
            {name: [ResolvedName(name, inputs[name])] for name in ask.names},
            [ResolvedName(name, outputs[name]) for name in ask.outputs],
            list(ask.outputs),
        )
        plan.changes_state = state.changes_state(self._runtime, ask.outputs, ask.signature)
        whole = self._plan_of_all(signature, ask)
        if whole is not None:  # what is proved for all outputs is proved for some of them
            plan.proofs, plan.mixes_rows, plan.row_ns = whole.proofs, whole.mixes_rows, whole.row_ns
        return plan

    def _plan_of_all(self, signature: Signature, ask: ComputeRequest) -> BatchPlan | None:
        """What is known of all outputs of a signature, for the same shapes of rows.

        Preprocessed requests use the plan of the inner outputs, whose inputs come first.
        """
        name, inputs = ask.signature, ask.names
        base = self._preparing.computed_by.get(name) if self._preparing is not None else None
        if base is not None:
            name, signature = base, self._signature(base)
            inputs = tuple(spec.name for spec in signature.inputs)
        outputs = tuple(spec.name for spec in signature.outputs)
        known = self._known.get((name, inputs, outputs, _row_shapes(ask)[: len(inputs)]))
        return None if known is None else known.plan

    def _signature(self, name: str) -> Signature:
        inner = self._preparing.inner if self._preparing is not None else {}
        return inner.get(name) or find_signature(self._runtime.signatures, name)

    # --- computing

    def _prepared(self, ask: ComputeRequest) -> ComputeRequest:
        assert self._preparing is not None
        inner = self._preparing.prepares(ask.signature)
        assert inner is not None
        check_inputs(self._signature(ask.signature), ask)
        made = self._preparing.prepare(_arrays(ask))
        return ComputeRequest(
            inner, tuple(made), tuple([to_tensor(array) for array in made.values()]), ask.outputs, ask.urgency
        )

    def _run(self, runtime: Runtime, plan: BatchPlan, requests: Sequence[Waiting]) -> list[ComputeResult | Refusal]:
        answers = self._computed(runtime, plan, requests)
        if requests[0].ask.signature in self._runtime.signatures:
            chosen = self.samples.wants(len(requests))
            if chosen is not None and isinstance(answers[chosen], ComputeResult):
                self.samples.keep(requests[chosen].ask)
        else:
            for request, answer in zip(requests, answers, strict=True):
                if request.sample is not None and isinstance(answer, ComputeResult):
                    self.samples.keep(request.sample)
        return answers

    def _computed(
        self, runtime: Runtime, plan: BatchPlan, requests: Sequence[Waiting]
    ) -> list[ComputeResult | Refusal]:
        started_ns = self.last_run_ns = time.perf_counter_ns()
        if len(requests) > 1 and plan.proofs >= batching.PROOFS:
            answers = self._run_joined(runtime, plan, requests, started_ns)
            if answers is not None:
                return answers
        inputs = [_arrays(request.ask) for request in requests]
        ready_ns = time.perf_counter_ns()
        results = batching.run(runtime, plan, inputs)
        computed_ns = time.perf_counter_ns()
        rows = sum(request.rows or 1 for request in requests) if plan.can_batch() else 0
        answers = []
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, TFserveError):
                answers.append(_refusal(result))
                continue
            tensors = tuple([to_tensor(_known(output)) for output in result])
            times = _times(request, started_ns, ready_ns, computed_ns)
            answers.append(ComputeResult(tensors, *times, rows or request.rows or 1))
        return answers

    def _run_joined(
        self, runtime: Runtime, plan: BatchPlan, requests: Sequence[Waiting], started_ns: int
    ) -> list[ComputeResult | Refusal] | None:
        """None when the batch as a whole fails: then each request is tried alone."""
        counts = [request.rows or 1 for request in requests]
        total = sum(counts)
        first = requests[0].ask
        inputs = {
            name: joined_tensors.join([r.ask.tensors[n] for r in requests], total) for n, name in enumerate(first.names)
        }
        ready_ns = time.perf_counter_ns()
        try:
            outputs = runtime.run(inputs, first.outputs, first.signature)
        except TFserveError:
            return None
        computed_ns = time.perf_counter_ns()
        plan.add_time(computed_ns - ready_ns, total)
        parts = [joined_tensors.cut(_known(output), counts, total) for output in outputs]
        if not all(part is not None for part in parts):
            plan.mixes_rows = True
            return None
        cut = list(zip(*[part for part in parts if part is not None], strict=True))
        if not self._are_right(runtime, plan, requests, cut):
            return None
        return [
            ComputeResult(tensors, *_times(request, started_ns, ready_ns, computed_ns), total)
            for request, tensors in zip(requests, cut, strict=True)
        ]

    def _are_right(
        self,
        runtime: Runtime,
        plan: BatchPlan,
        requests: Sequence[Waiting],
        cut: Sequence[tuple[Tensor, ...]],
    ) -> bool:
        """Whether these parts of a batch are what the requests get alone, if that is checked for this batch."""
        if not plan.begins_check():
            return True
        batch: list[Inputs] = [_arrays(request.ask) for request in requests]
        if batching.are_equal(batch):  # mixed rows would not show
            return True
        return batching.agrees(runtime, plan, batch, lambda n: [to_array(tensor) for tensor in cut[n]])

    def _agrees(self, copied: Runtime) -> bool:
        """Whether the copy gives the same numbers for some requests, apart from rounding."""
        compared = 0
        for ask in self.samples.all():
            try:
                made = self._for_model(ask)
                inputs = _arrays(made)
                expected = self._timed.run(inputs, made.outputs, made.signature)
            except TFserveError:  # a sample of a former version, which this one rejects
                continue
            if not all(map(is_rounded, copied.run(inputs, made.outputs, made.signature), expected)):
                return False
            compared += 1
            if compared == COMPARED:
                break
        return compared > 0

    def prepared_samples(self) -> list[ComputeRequest]:
        """The samples as the model itself takes them: files are decoded."""
        found: list[ComputeRequest] = []
        for ask in self.samples.all():
            try:
                made = self._for_model(ask)
            except TFserveError:  # a sample of a former version, which this one rejects
                continue
            if sum(map(samples.size, [*found, made])) <= samples.MAX_BYTES:
                found.append(made)
        return found

    def _for_model(self, ask: ComputeRequest) -> ComputeRequest:
        """The request as the model itself takes it. Raises `TFserveError`."""
        inner = self._preparing.prepares(ask.signature) if self._preparing is not None else None
        if self._preparing is None or inner is None:
            return ask
        name = self._preparing.computed_by[inner]
        pixels = self._preparing.model_inputs(self._preparing.prepare(_arrays(ask)))
        outputs = tuple(spec.name for spec in self._signature(name).outputs)
        return ComputeRequest(name, tuple(pixels), tuple(map(to_tensor, pixels.values())), outputs)


def _group(ask: ComputeRequest) -> Group:
    """What requests must have in common to be computed together, urgency aside."""
    return ask.signature, ask.names, ask.outputs, _row_shapes(ask)


def _row_shapes(ask: ComputeRequest) -> tuple[tuple[str, tuple[int, ...] | None], ...]:
    """The type and the shape of a row of each tensor; a scalar has no rows, unlike a list of scalars."""
    return tuple([(tensor.dtype, tensor.shape[1:] if tensor.shape else None) for tensor in ask.tensors])


def _has_fixed_rows(signature: Signature) -> bool:
    return any(spec.shape and spec.shape[0] != -1 for spec in signature.takes)


def _refusing(compute: Callable[[], T]) -> T | Refusal:
    """What it gives, or why it does not."""
    try:
        return compute()
    except TFserveError as error:
        return _refusal(error)
    except MemoryError:
        return Refusal(Overloaded("Not enough memory for this prediction.").to_failure())
    except Exception as error:
        log.exception("a prediction failed")
        return Refusal(Internal(f"The model failed: {named_cause(error)}").to_failure())


def _refusal(error: TFserveError) -> Refusal:
    return Refusal(error.to_failure(), in_full=isinstance(error, OnlyTensorFlowKnows))


def _arrays(ask: ComputeRequest) -> dict[str, Array]:
    return {name: to_array(tensor) for name, tensor in zip(ask.names, ask.tensors, strict=True)}


def _known(output: Array | None) -> Array:
    if output is None:
        raise Internal("the model returned no value for an output of its signature")
    return output


def _times(request: Waiting, started_ns: int, ready_ns: int, computed_ns: int) -> tuple[int, int, int, int]:
    """In the queue, for the inputs, for the computation, for the outputs."""
    now_ns, made_ns = time.perf_counter_ns(), request.prepared_ns
    queue_ns, input_ns = started_ns - request.arrived_ns - made_ns, ready_ns - started_ns + made_ns
    return queue_ns, input_ns, computed_ns - ready_ns, now_ns - computed_ns
