"""A converted model that computes only what it was seen to compute as TensorFlow does; the rest is left to TensorFlow.

A conversion drops assertions, reads beyond the end of a table, or loses a NaN. Which values are safe is found by trials
(`tfserve.worker.reference`); here each request is checked against that, which takes a few microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

from tfserve.conversions import Guard, Number
from tfserve.errors import Overloaded, TFserveError
from tfserve.runtimes.interface import Forwarding, OnlyTensorFlowKnows, Runtime
from tfserve.tensors import Array

HALF = frozenset({np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)})
"""Numpy warns of a NaN in these, and casts a limit to them."""
FEW = 16
"""Elements that are compared sooner one by one than by two calls of numpy."""


class Guarded(Forwarding):
    """The same model behind a `Guard`. `run` raises `OnlyTensorFlowKnows` for what TensorFlow has to answer.

    Every failure is such a request too: whether the model refuses an input is for TensorFlow to say, in its words.
    """

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        super().__init__(runtime)
        self._guard = guard

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        if (name := outside(self._guard, inputs)) is not None:
            raise OnlyTensorFlowKnows(
                f"Input {name!r} has values for which {self.runtime} was not seen to agree with TensorFlow."
            )
        try:
            return self._runtime.run(inputs, outputs, signature)
        except (Overloaded, OnlyTensorFlowKnows):
            raise
        except TFserveError as error:
            raise OnlyTensorFlowKnows(error.message) from error


def outside(guard: Guard, inputs: Mapping[str, Array]) -> str | None:
    """The first input that TensorFlow has to compute; None when the guard lets all of them pass."""
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
    """Whether there are denormals or negative zeros, which some processors and libraries take for 0."""
    if array.dtype in HALF:
        array = array.astype(np.float32)
    is_zero = array == 0
    smallest = np.finfo(array.dtype).smallest_normal
    return bool(((np.abs(array) < smallest) & ~is_zero).any() or (np.signbit(array) & is_zero).any())


def _is_plain(text: bytes) -> bool:
    return bool(text) and text.isascii() and b"\0" not in text
