"""A converted model that leaves requests to TensorFlow unless the two were shown to agree on such values.

A conversion drops assertions, reads beyond the end of a table, or loses a NaN. Which values are safe is found by trials
(`tfserve.worker.trials.reference_outputs`); here each request is checked against that, which takes a few microseconds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

from tfserve.errors import Overloaded, TFserveError
from tfserve.models.runtime_reports import ConversionGuard, Number
from tfserve.runtimes import concurrent
from tfserve.runtimes.interface import Forwarding, OnlyTensorFlowKnows, Runtime
from tfserve.tensors.specs import Array

HALF = frozenset({np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)})
"""Numpy warns of a NaN in these, and casts a limit to them."""
FEW = 16
"""Up to this number of elements, comparing one by one is faster than two calls of numpy."""


class Guarded(Forwarding):
    """The same model with a `ConversionGuard`. `run` raises `OnlyTensorFlowKnows` for what TensorFlow has to answer.

    Every failure counts as such a request too, so that TensorFlow decides whether the model rejects an input.
    """

    def __init__(self, runtime: Runtime, guard: ConversionGuard) -> None:
        super().__init__(runtime)
        self._guard = guard
        self.is_shareable = concurrent.is_shareable(runtime)

    def narrowed(self, computations: int) -> Guarded:
        twin = copy.copy(self)
        twin._runtime = concurrent.narrowed(self._runtime, computations)
        return twin

    def why_mixed(self, inputs: Sequence[str], outputs: Sequence[str], signature: str) -> str:
        """TensorFlow's graph shows it."""
        return self._guard.why_mixed or super().why_mixed(inputs, outputs, signature)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        if (name := outside(self._guard, inputs)) is not None:
            raise OnlyTensorFlowKnows(
                f"Input {name!r} has values for which {self.runtime} has not been shown to agree with TensorFlow."
            )
        try:
            return self._runtime.run(inputs, outputs, signature)
        except (Overloaded, OnlyTensorFlowKnows):
            raise
        except TFserveError as error:
            raise OnlyTensorFlowKnows(error.message) from error


def outside(guard: ConversionGuard, inputs: Mapping[str, Array]) -> str | None:
    """The first input that TensorFlow has to compute; None when the guard accepts all of them."""
    for name, array in inputs.items():
        if not array.size:
            return name
        limits = guard.ranges.get(name)
        if limits is not None and not _is_within(array, *limits):
            return name
        if guard.ascii_only and array.dtype == object and not all(map(_is_plain, array.flat)):
            return name
        if guard.normal_only and array.dtype.kind not in "biuO" and has_tiny(array):
            return name
    return None


def _is_within(array: Array, lowest: Number, highest: Number) -> bool:
    """NaN is in no range."""
    if array.dtype in HALF:
        array = array.astype(np.float32)
    if array.size <= FEW:
        return all(lowest <= each <= highest for each in array.ravel().tolist())
    return bool(lowest <= np.minimum.reduce(array, axis=None) and np.maximum.reduce(array, axis=None) <= highest)


def has_tiny(array: Array) -> bool:
    """Whether there are denormals or negative zeros, which some processors and libraries treat as 0."""
    if array.dtype in HALF:
        array = array.astype(np.float32)
    is_zero = array == 0
    smallest = np.finfo(array.dtype).smallest_normal
    return bool(((np.abs(array) < smallest) & ~is_zero).any() or (np.signbit(array) & is_zero).any())


def _is_plain(text: bytes) -> bool:
    return bool(text) and text.isascii() and b"\0" not in text
