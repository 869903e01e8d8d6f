"""Finds the numbers that a model accepts, by trying them with TensorFlow.

An embedding rejects unknown ids, an assertion rejects negative prices. All elements of an input are set
to one number, so a range applies to each of them. The accepted numbers are assumed to have no gaps; trials
with random numbers in the range check that.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence

import numpy as np

from tfserve.errors import TFserveError
from tfserve.models.runtime_reports import Number
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Signature, TensorSpec
from tfserve.worker.trials.trial_inputs import Inputs

Compute = Callable[[Inputs], Sequence[Array]]
"""Raises `TFserveError` for inputs that the model rejects."""

Limits = dict[str, tuple[Number, Number]]

MAX_GROWTH_BYTES = 64 * 1024 * 1024
SLOW_S, SLOW_FACTOR = 0.5, 20
"""An integer that needs this much more memory or time is a size, so no larger one is tried."""
MAY_BE_SIZE = 8
"""An input of a fixed shape with at most this many elements may be a size."""
SIZE_LIMIT = 255
PROBE_S = 30.0
"""For one input."""
BFLOAT16_MAX = float.fromhex("0x1.fep+127")


class Probe:
    """Tries inputs, for a limited time altogether."""

    def __init__(self, compute: Compute, base: Inputs) -> None:
        self._compute = compute
        self._base = base
        self._ends_at = time.monotonic() + PROBE_S
        self.is_spent = False
        self._usual_s, _, self._usual_bytes = self._measured(base)

    def takes(self, name: str, value: Number) -> bool:
        """Whether the model computes its base inputs with every element of one of them set to `value`."""
        array = self._base[name]
        changed = np.full(array.shape, value, array.dtype)
        try:
            took_s, growth, size = self._measured({**self._base, name: changed})
        except TFserveError:
            self.is_spent = self.is_spent or time.monotonic() > self._ends_at
            return False
        self.is_spent = (
            growth > MAX_GROWTH_BYTES
            or size > self._usual_bytes + MAX_GROWTH_BYTES
            or took_s > max(SLOW_S, SLOW_FACTOR * self._usual_s)
            or time.monotonic() > self._ends_at
        )
        return True

    def _measured(self, inputs: Inputs) -> tuple[float, int, int]:
        """Seconds, bytes that the process has grown by, bytes of the outputs."""
        before, started_at = _peak_bytes(), time.monotonic()
        outputs = self._compute(inputs)
        return time.monotonic() - started_at, _peak_bytes() - before, sum(each.nbytes for each in outputs)


def find(compute: Compute, signature: Signature, base: Inputs) -> Limits | str:
    """The lowest and the highest number that the model accepts for each numeric input. `base` are accepted inputs.

    A sentence instead when no single number is right for all elements of an input.
    """
    found: Limits = {}
    for spec in signature.inputs:
        if DTYPES[spec.dtype].kind not in ("int", "float") or not base[spec.name].size:
            continue
        probe = Probe(compute, base)
        start = next((value for value in _starts(base[spec.name], spec) if probe.takes(spec.name, value)), None)
        if start is None:
            return f"the values that input {spec.name!r} accepts do not form a range that could be checked"
        lowest, highest = _bounds(spec, base[spec.name])
        ends = [_furthest(probe, spec, start, max(highest, start)), _furthest(probe, spec, start, min(lowest, start))]
        found[spec.name] = _inward(spec, min(ends), max(ends))
    return found


def _inward(spec: TensorSpec, lowest: Number, highest: Number) -> tuple[Number, Number]:
    """The range without denormal ends: TensorFlow treats such numbers as 0 in some of its threads only."""
    if DTYPES[spec.dtype].kind == "int":
        return lowest, highest
    smallest = float(np.finfo(DTYPES[spec.dtype].numpy).smallest_normal)
    if abs(lowest) < smallest:
        lowest = smallest if lowest > 0 else 0.0
    if abs(highest) < smallest:
        highest = -smallest if highest < 0 else 0.0
    return lowest, highest


def _starts(array: Array, spec: TensorSpec) -> list[Number]:
    middle = np.sort(array, axis=None)[array.size // 2].item()
    ends = [array.min().item(), array.max().item()]
    lowest, highest = type_limits(spec)
    return [value for value in dict.fromkeys([middle, *ends, 0, 1, 2, 5, 10, 100, -1]) if lowest <= value <= highest]


def type_limits(spec: TensorSpec) -> tuple[Number, Number]:
    dtype = DTYPES[spec.dtype]
    if dtype.kind == "int":
        whole = np.iinfo(dtype.numpy)
        return int(whole.min), int(whole.max)
    most = BFLOAT16_MAX if spec.dtype == "bfloat16" else float(np.finfo(dtype.numpy).max)
    return -most, most


def _bounds(spec: TensorSpec, array: Array) -> tuple[Number, Number]:
    lowest, highest = type_limits(spec)
    if DTYPES[spec.dtype].kind == "int" and not spec.is_batched and array.size <= MAY_BE_SIZE:
        return max(lowest, -SIZE_LIMIT), min(highest, SIZE_LIMIT)
    return lowest, highest


def _furthest(probe: Probe, spec: TensorSpec, start: Number, end: Number) -> Number:
    """The number nearest to `end` that is taken, as far as it was tried."""
    order = _Order(spec)
    best, goal = order.position(start), order.position(end)
    for at in _steps(best, goal, is_careful=order.is_whole):
        if not probe.takes(spec.name, order.value(at)):
            return order.value(_last_taken(probe, spec.name, order, best, at))
        best = at
        if probe.is_spent:
            break
    return order.value(best)


def _steps(start: int, goal: int, *, is_careful: bool) -> list[int]:
    """Where to try on the way; further and further apart, the goal last."""
    if start == goal:
        return []
    sign, distance = (1 if goal > start else -1), abs(goal - start)
    steps, step = [], 255
    while is_careful and step < distance:
        steps.append(start + sign * step)
        step *= 4 if step < 2**24 else 64
    return [*steps, goal]


def _last_taken(probe: Probe, name: str, order: _Order, taken: int, refused: int) -> int:
    while abs(refused - taken) > 1 and not probe.is_spent:
        middle = (taken + refused) // 2
        if probe.takes(name, order.value(middle)):
            taken = middle
        else:
            refused = middle
    return taken


class _Order:
    """The numbers of a type, one after the other: floats are counted by their bits."""

    def __init__(self, spec: TensorSpec) -> None:
        self.is_whole = DTYPES[spec.dtype].kind == "int"
        self._dtype = DTYPES[spec.dtype].numpy
        self._bits = np.dtype(f"i{self._dtype.itemsize}")
        self._mask = (1 << (8 * self._dtype.itemsize - 1)) - 1

    def position(self, value: Number) -> int:
        if self.is_whole:
            return int(value)
        bits = int(np.array(value, self._dtype).view(self._bits))
        return bits if bits >= 0 else -(bits & self._mask)

    def value(self, position: int) -> Number:
        if self.is_whole:
            return position
        magnitude = np.array(abs(position), self._bits).view(self._dtype)
        return float(magnitude) if position >= 0 else -float(magnitude)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
