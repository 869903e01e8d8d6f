"""Computes batches: tensors of many requests joined, one run of the model, the outputs cut apart again.

Batches are made only of requests of one group, and only where that was shown to give the same numbers (`batching`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfserve.errors import Internal, Invalid, Overloaded, TFserveError
from tfserve.ipc.predictions import Answer, Ask, Refusal, Tensor, to_array, to_tensor
from tfserve.runtimes.interface import Runtime, Target, find_signature, listed
from tfserve.tensors import DTYPES, Array, Signature, TensorSpec
from tfserve.worker import batching
from tfserve.worker.batching import Plan
from tfserve.worker.waiting import Group, Waiting

log = logging.getLogger(__name__)

MAX_KINDS = 1024
KEEP_SAMPLES = 8
SAMPLE_EVERY_NS = 1_000_000_000
MAX_SAMPLE_BYTES = 4 * 1024 * 1024


@dataclass(eq=False)
class Kind:
    """Requests with the same names, types and shapes of rows: what is wrong with them, or how they are computed."""

    plan: Plan | None
    error: TFserveError | None = None


class Computation:
    """One model, used by one thread at a time. `lock` is held while the runtime computes."""

    def __init__(self, runtime: Runtime, lock: threading.Lock) -> None:
        self.samples: list[Ask] = []
        #: when the last batch began
        self.asked_ns = 0
        self._runtime = runtime
        self._lock = lock
        self._plans: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Plan] = {}
        self._kinds: dict[Group, Kind] = {}
        self._sampled_ns = 0

    def sort(self, ask: Ask) -> tuple[Group, int | None]:
        """The group of a request, and its rows if it can share a batch."""
        rows = {tensor.shape[0] if tensor.shape else None for tensor in ask.tensors}
        shapes = tuple([(tensor.dtype, tensor.shape[1:]) for tensor in ask.tensors])
        count = rows.pop() if len(rows) == 1 else None
        group: Group = (ask.urgency, ask.signature, ask.names, ask.outputs, shapes)
        kind = self._kinds.get(group)
        if kind is None:
            kind = self._new_kind(group, ask)
        if not count or kind.plan is None or not kind.plan.can_batch():
            return (*group, object()), None
        return group, count

    def run(self, requests: Sequence[Waiting]) -> list[Answer | Refusal]:
        """The answer of each request, in order. One that fails does not touch the others."""
        kind = self._kinds.get(requests[0].group[:5]) or self._new_kind(requests[0].group[:5], requests[0].ask)
        try:
            if kind.error is not None or kind.plan is None:
                raise kind.error or Internal()
            return self._run(kind.plan, requests)
        except TFserveError as error:
            failure = Refusal(error.to_failure())
        except MemoryError:
            failure = Refusal(Overloaded("There is not enough memory for this prediction.").to_failure())
        except Exception as error:
            log.exception("a prediction broke")
            failure = Refusal(Internal(f"The model failed: {type(error).__name__}: {error}"[:500]).to_failure())
        return [failure] * len(requests)

    # --- kinds and plans

    def _new_kind(self, group: Group, ask: Ask) -> Kind:
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        try:
            kind = Kind(self._plan(ask))
        except TFserveError as error:
            kind = Kind(None, error)
        self._kinds[group] = kind
        return kind

    def _plan(self, ask: Ask) -> Plan:
        """Raises `Invalid` when the request does not fit the model."""
        signature = find_signature(self._runtime.signatures, ask.signature)
        _check_inputs(signature, ask)
        key = (ask.signature, ask.names, ask.outputs)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MAX_KINDS:
                self._plans.clear()
            plan = self._plans[key] = self._new_plan(signature, ask)
        return plan

    def _new_plan(self, signature: Signature, ask: Ask) -> Plan:
        outputs = {spec.name: spec for spec in signature.outputs}
        if unknown := [name for name in ask.outputs if name not in outputs]:
            raise Invalid(f"The model has no output {unknown[0]!r}. There are: {listed(outputs)}.")
        inputs = {spec.name: spec for spec in signature.inputs}
        plan = Plan(
            ask.signature,
            {name: [Target(name, inputs[name])] for name in ask.names},
            [Target(name, outputs[name]) for name in ask.outputs],
            list(ask.outputs),
        )
        whole = self._plans.get((ask.signature, ask.names, tuple(outputs)))
        if whole is not None:  # what holds for all outputs holds for some of them
            plan.proofs, plan.mixes_rows = whole.proofs, whole.mixes_rows
        return plan

    # --- computing

    def _run(self, plan: Plan, requests: Sequence[Waiting]) -> list[Answer | Refusal]:
        begun_ns = self.asked_ns = time.perf_counter_ns()
        self._keep_sample(requests[0].ask, begun_ns)
        if len(requests) > 1 and plan.proofs >= batching.PROOFS:
            answers = self._run_joined(plan, requests, begun_ns)
            if answers is not None:
                return answers
        inputs = [{n: to_array(t) for n, t in zip(r.ask.names, r.ask.tensors, strict=True)} for r in requests]
        ready_ns = time.perf_counter_ns()
        with self._lock:
            results = batching.run(self._runtime, plan, inputs)
        computed_ns = time.perf_counter_ns()
        rows = sum(request.rows or 1 for request in requests) if plan.can_batch() else 0
        answers = []
        for request, result in zip(requests, results, strict=True):
            if isinstance(result, TFserveError):
                answers.append(Refusal(result.to_failure()))
                continue
            tensors = tuple([to_tensor(_known(output)) for output in result])
            times = _times(request, begun_ns, ready_ns, computed_ns)
            answers.append(Answer(tensors, *times, rows or request.rows or 1))
        return answers

    def _run_joined(self, plan: Plan, requests: Sequence[Waiting], begun_ns: int) -> list[Answer | Refusal] | None:
        """None when the batch as a whole fails: then each request is tried alone."""
        counts = [request.rows or 1 for request in requests]
        total = sum(counts)
        first = requests[0].ask
        inputs = {name: _joined([r.ask.tensors[n] for r in requests], total) for n, name in enumerate(first.names)}
        ready_ns = time.perf_counter_ns()
        try:
            with self._lock:
                outputs = self._runtime.run(inputs, first.outputs, first.signature)
        except TFserveError:
            return None
        computed_ns = time.perf_counter_ns()
        parts = [_cut(_known(output), counts, total) for output in outputs]
        if not all(part is not None for part in parts):
            plan.mixes_rows = True
            return None
        cut = zip(*[part for part in parts if part is not None], strict=True)
        return [
            Answer(tensors, *_times(request, begun_ns, ready_ns, computed_ns), total)
            for request, tensors in zip(requests, cut, strict=True)
        ]

    def _keep_sample(self, ask: Ask, now_ns: int) -> None:
        """Keeps a request every now and then: the next version is warmed up with it."""
        if now_ns - self._sampled_ns > SAMPLE_EVERY_NS:
            self._sampled_ns = now_ns
            if sum(len(tensor.data) for tensor in ask.tensors) <= MAX_SAMPLE_BYTES:
                self.samples = [*self.samples[1 - KEEP_SAMPLES :], ask]


def _check_inputs(signature: Signature, ask: Ask) -> None:
    specs = {spec.name: spec for spec in signature.inputs}
    if set(ask.names) != set(specs) or len(ask.names) != len(specs):
        raise Invalid(f"Signature {ask.signature!r} takes the inputs {listed(specs)}; {listed(ask.names)} were given.")
    for name, tensor in zip(ask.names, ask.tensors, strict=True):
        _check_input(specs[name], tensor)


def _check_input(spec: TensorSpec, tensor: Tensor) -> None:
    """The number of rows is left open where the signature does."""
    if tensor.dtype != spec.dtype or not spec.accepts(tensor.shape):
        raise Invalid(
            f"Input {spec.name!r} takes {spec}; {tensor.dtype} of shape {list(tensor.shape)} was given. The model may"
            " have been replaced meanwhile: ask for its metadata."
        )


def _known(output: Array | None) -> Array:
    if output is None:
        raise Internal("the model gave no value for an output of its signature")
    return output


def _joined(tensors: Sequence[Tensor], rows: int) -> Array:
    first = tensors[0]
    if first.dtype == "string":
        return np.concatenate([to_array(tensor) for tensor in tensors])
    together = bytearray().join([tensor.data for tensor in tensors])
    return np.frombuffer(together, dtype=DTYPES[first.dtype].numpy).reshape((rows, *first.shape[1:]))


def _cut(output: Array, counts: Sequence[int], total: int) -> list[Tensor] | None:
    """The part of each request; None when there are not as many rows as went in."""
    if not output.ndim or output.shape[0] != total:
        return None
    if output.dtype == object or not output.size:
        return [to_tensor(part) for part in np.split(output, np.cumsum(counts)[:-1])]
    whole = to_tensor(output)
    view, row = whole.data.cast("B"), output.shape[1:]
    stride = len(view) // total
    parts, at = [], 0
    for count in counts:
        parts.append(Tensor(whole.dtype, (count, *row), view[at * stride : (at + count) * stride]))
        at += count
    return parts


def _times(request: Waiting, begun_ns: int, ready_ns: int, computed_ns: int) -> tuple[int, int, int, int]:
    """In the queue, for the inputs, for the computation, for the outputs."""
    now_ns = time.perf_counter_ns()
    return begun_ns - request.arrived_ns, ready_ns - begun_ns, computed_ns - ready_ns, now_ns - computed_ns
