"""Computes several requests as one batch, where that is known to give the same results.

A model may mix the rows of its batch (with a mean over them, for example), which no signature shows. So requests are
batched only if names, types and shapes allow it, no operation of a TensorFlow graph can mix rows
(`tfserve.runtimes.row_walk`), and the first batches gave the same as single computations.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from tfserve.errors import TFserveError
from tfserve.runtimes import row_walk
from tfserve.runtimes.interface import ResolvedName, Runtime
from tfserve.tensors.specs import Array
from tfserve.worker.trials.numeric_diff import is_rounded

log = logging.getLogger(__name__)

MAX_BATCH_ROWS = 1024
MAX_BATCH_BYTES = 64 * 1024 * 1024
PROOFS = 2
CHECKED_AGAIN = 8
"""From this batch on, those whose number is a power of two are compared again: rows may mix only for some values."""
COMPARED = 3
"""Requests of a proved batch that are computed alone too."""
MAX_ROW_SHAPES = 256

Inputs = Mapping[str, Array]
Outputs = list[Array | None]
RowShape = tuple[tuple[str, ...], ...]


@dataclass(eq=False)
class BatchPlan:
    """How a request is computed; shared by all requests with the same names and row shapes.

    `feeds` are the targets of each given name, `names` the fetched name of each output. `proofs` counts how often
    batches gave the same numbers as single requests; `mixes_rows` is set as soon as one did not, or if an operation of
    the model may mix rows; `is_followed` once that was looked up. `batches` counts the batches of real requests since
    then. With `changes_state` every request has to be computed alone, and once.
    """

    signature: str
    feeds: Mapping[str, Sequence[ResolvedName]]
    outputs: Sequence[ResolvedName]
    names: Sequence[str]
    proofs: int = 0
    mixes_rows: bool = False
    is_followed: bool = False
    changes_state: bool = False
    batches: int = 0
    #: batches since a comparison is due, in which mixed rows would not have shown
    passed_over: int = 0
    #: what a row takes, averaged over the last computations; 0 before the first one
    row_ns: int = 0
    _by_rows: dict[RowShape | None, BatchPlan] = field(default_factory=dict)

    def for_rows(self, shape: RowShape | None) -> BatchPlan:
        """The plan of requests whose rows have this shape: proofs for other shapes do not apply to them."""
        found = self._by_rows.get(shape)
        if found is None:
            if len(self._by_rows) >= MAX_ROW_SHAPES:
                self._by_rows.clear()
            found = self._by_rows[shape] = replace(
                self, proofs=0, mixes_rows=False, batches=0, passed_over=0, row_ns=0, _by_rows={}
            )
        return found

    def can_batch(self) -> bool:
        return self.has_rows and not (self.mixes_rows or self.changes_state)

    def follow(self, runtime: Runtime) -> None:
        """Batches nothing if an operation of the model may mix rows: a comparison shows that only for some values."""
        if self.is_followed:
            return
        self.is_followed = True
        fed = [target.name for feed in self.feeds.values() for target in feed]
        why = row_walk.why_mixed(runtime, fed, [target.name for target in self.outputs], self.signature)
        if why:
            self.mixes_rows = True
            log.info("requests for signature %r are computed alone: %s", self.signature, why)

    def begins_check(self) -> bool:
        """Counts a batch. Whether some of its requests are to be computed alone as well, although batches are proved.

        While the requests of a batch are equal, that is asked ever more rarely.
        """
        number = self.batches + 1
        if number > PROOFS and (number < CHECKED_AGAIN or number & (number - 1)):
            self.batches = number
            return False
        self.passed_over += 1
        return self.passed_over & (self.passed_over - 1) == 0

    def check_again(self) -> None:
        """Checks the next batches, as if they were the first."""
        self.batches = self.passed_over = 0

    def add_time(self, took_ns: int, rows: int) -> None:
        """Notes how long a computation took."""
        row_ns = took_ns // max(1, rows)
        self.row_ns += (row_ns - self.row_ns) // 4 if self.row_ns else row_ns

    @cached_property
    def has_rows(self) -> bool:
        """Whether the first dimension of every tensor counts examples."""
        targets = [target for feed in self.feeds.values() for target in feed]
        specs = [target.spec for target in (*targets, *self.outputs)]
        return bool(targets) and all(spec is not None and spec.is_batched for spec in specs)


def row_shape(inputs: Inputs) -> RowShape | None:
    """What requests must have in common to share a batch; None when their inputs differ in their number of rows."""
    rows = {array.shape[0] for array in inputs.values()}
    if len(rows) != 1 or 0 in rows:
        return None
    return tuple((name, *map(str, array.shape[1:])) for name, array in inputs.items())


def run(runtime: Runtime, plan: BatchPlan, requests: Sequence[Inputs]) -> list[Outputs | TFserveError]:
    """The outputs of each request, or its error. All must have the same row shape if the plan can batch."""
    if len(requests) > 1 and plan.can_batch():
        plan.follow(runtime)
    if len(requests) == 1 or not plan.can_batch():
        return [_alone(runtime, plan, inputs) for inputs in requests]
    results: list[Outputs | TFserveError] = []
    for batch in _portions(requests):
        results += _together(runtime, plan, batch) if len(batch) > 1 else [_alone(runtime, plan, batch[0])]
    return results


def _portions(requests: Sequence[Inputs]) -> list[list[Inputs]]:
    """The requests in batches of a bounded number of rows and bytes."""
    portions: list[list[Inputs]] = [[]]
    rows = size_bytes = 0
    for inputs in requests:
        rows += _rows(inputs)
        size_bytes += sum(array.nbytes for array in inputs.values())
        if portions[-1] and (rows > MAX_BATCH_ROWS or size_bytes > MAX_BATCH_BYTES):
            portions.append([])
            rows = _rows(inputs)
            size_bytes = sum(array.nbytes for array in inputs.values())
        portions[-1].append(inputs)
    return portions


def _together(runtime: Runtime, plan: BatchPlan, batch: Sequence[Inputs]) -> list[Outputs | TFserveError]:
    if plan.proofs < PROOFS and are_equal(batch):  # mixed rows would not show
        return [_alone(runtime, plan, inputs) for inputs in batch]
    split = _split(_alone(runtime, plan, _joined(batch)), [_rows(inputs) for inputs in batch])
    if split is not None and plan.proofs >= PROOFS:
        is_checked = plan.begins_check() and not are_equal(batch)
        if not is_checked or agrees(runtime, plan, batch, split.__getitem__):
            return [*split]
    alone = [_alone(runtime, plan, inputs) for inputs in batch]
    if not any(isinstance(each, TFserveError) for each in alone):
        if split is None or not all(map(_agree, split, alone)):
            plan.mixes_rows = True
        else:
            plan.proofs += 1
            plan.batches += 1
    return alone


def agrees(runtime: Runtime, plan: BatchPlan, batch: Sequence[Inputs], output: Callable[[int], Outputs]) -> bool:
    """Whether some requests of a batch have the same outputs alone. If not, such requests are never batched again."""
    plan.batches += 1
    plan.passed_over = 0
    for n in _different(batch):
        alone = _alone(runtime, plan, batch[n])
        if isinstance(alone, TFserveError):
            return False
        if not _agree(output(n), alone):
            plan.mixes_rows = True
            log.warning("signature %r gives other numbers for a batch: its requests are computed alone", plan.signature)
            return False
    return True


def _different(batch: Sequence[Inputs]) -> list[int]:
    """The positions of a few requests: the shortest texts and the longest, which a model may pad to the same length."""
    order = sorted(range(len(batch)), key=lambda n: sum(map(_text_bytes, batch[n].values())))
    return sorted({order[n * (len(batch) - 1) // (COMPARED - 1)] for n in range(COMPARED)})


def _text_bytes(array: Array) -> int:
    return sum(map(len, array.flat)) if array.dtype == object else 0


def _alone(runtime: Runtime, plan: BatchPlan, inputs: Inputs) -> Outputs | TFserveError:
    began_ns = time.perf_counter_ns()
    try:
        outputs = runtime.run(inputs, [target.name for target in plan.outputs], plan.signature)
    except TFserveError as error:
        return error
    if plan.has_rows:
        plan.add_time(time.perf_counter_ns() - began_ns, _rows(inputs))
    return outputs


def _joined(batch: Sequence[Inputs]) -> Inputs:
    return {name: np.concatenate([inputs[name] for inputs in batch]) for name in batch[0]}


def _split(outputs: Outputs | TFserveError, rows: Sequence[int]) -> list[Outputs] | None:
    """The outputs of each request; None when there are not as many rows as went in."""
    if isinstance(outputs, TFserveError):
        return None
    parts = []
    for output in outputs:
        if output is None or not output.ndim or output.shape[0] != sum(rows):
            return None
        parts.append(np.split(output, np.cumsum(rows)[:-1]))
    return [list(each) for each in zip(*parts, strict=True)]


def _agree(batched: Outputs, alone: Outputs | TFserveError) -> bool:
    return isinstance(alone, list) and all(map(is_rounded, batched, alone))


def are_equal(batch: Sequence[Inputs]) -> bool:
    """Whether all requests are equal, so that mixing their rows would not show."""
    first = batch[0]
    return all(np.array_equal(inputs[name], first[name]) for inputs in batch[1:] for name in first)


def _rows(inputs: Inputs) -> int:
    return int(next(iter(inputs.values())).shape[0])
