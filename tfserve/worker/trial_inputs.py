"""Inputs to compare runtimes with: made up from a signature, and taken from requests that were answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tfserve.errors import TFserveError
from tfserve.ipc import predictions
from tfserve.ipc.predictions import to_array
from tfserve.tensors import DTYPES, Array, Shape, Signature, TensorSpec, cast
from tfserve.worker.predictor import PredictRequest

Inputs = Mapping[str, Array]

BATCH_ROWS = (1, 3, 8)
"""Numbers of examples that are tried where a signature leaves it open."""
TIMED_ROWS = (1, 8)
MAX_BYTES = 32 * 1024 * 1024
"""Of one input for all examples; with more, one example is enough."""
SEED = 20_261

SPREADS = ("normal", "unit", "octets", "wide")
"""Numbers around 0; from 0 to 1; from 0 to 255; whole numbers of any size that the type allows."""
_WIDE = 2**40


def why_not(signature: Signature) -> str:
    """Why inputs can't be made up, for people; nothing if they can."""
    for spec in signature.inputs:
        if spec.dtype not in DTYPES or spec.dtype == "string":
            return f"input {spec.name!r} is of the type {spec.dtype}, which can't be made up"
        if spec.shape is None or -1 in spec.shape[1:]:
            return f"input {spec.name!r} takes {spec}, so its size can't be made up"
    return "" if signature.inputs else "the signature has no inputs"


def made_up(signature: Signature) -> Iterator[tuple[str, Inputs]]:
    """Inputs of each spread, in each number of examples. Call it only when nothing is in the way."""
    for number, spread in enumerate(SPREADS):
        if spread == "wide" and not any(_is_wide(spec) for spec in signature.inputs):
            continue
        for rows in rows_to_try(signature):
            random = np.random.default_rng((SEED, number, rows))
            yield spread, {spec.name: _array(spec, rows, spread, random) for spec in signature.inputs}


def rows_to_try(signature: Signature) -> Sequence[int]:
    """Numbers of examples that fit; [1] when the signature leaves no choice."""
    if not all(spec.is_batched for spec in signature.inputs):
        return (1,)
    row_bytes = max(_row_bytes(spec) for spec in signature.inputs)
    return [rows for rows in BATCH_ROWS if rows == 1 or rows * row_bytes <= MAX_BYTES]


def from_samples(name: str, signature: Signature, samples: Sequence[bytes]) -> Iterator[Inputs]:
    """The inputs in former requests. Requests for something else, or for a part of a signature, are left out."""
    specs = {spec.name: spec for spec in signature.inputs}
    for sample in samples:
        try:
            inputs = _of_json(name, specs, sample) if sample.startswith(b"{") else _of_ask(name, sample)
        except (TFserveError, msgspec.DecodeError, ValueError):
            continue
        if inputs.keys() == specs.keys() and all(_fits(specs[each], array) for each, array in inputs.items()):
            yield inputs


def _of_json(name: str, specs: Mapping[str, TensorSpec], sample: bytes) -> Inputs:
    asked = msgspec.json.decode(sample, type=PredictRequest)
    given = asked.feed_dict or {}
    return {each: cast(given[each], specs[each], each) for each in given if asked.signature == name and each in specs}


def _of_ask(name: str, sample: bytes) -> Inputs:
    ask = predictions.decode_sample(sample)
    if ask.signature != name:
        return {}
    return {each: to_array(tensor) for each, tensor in zip(ask.names, ask.tensors, strict=True)}


def _fits(spec: TensorSpec, array: Array) -> bool:
    return array.dtype == DTYPES[spec.dtype].numpy and spec.accepts(array.shape)


def _array(spec: TensorSpec, rows: int, spread: str, random: np.random.Generator) -> Array:
    shape, dtype = _shape(spec, rows), DTYPES[spec.dtype]
    if dtype.kind == "bool":
        return random.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind == "int":
        low, high = _range(dtype.numpy, spread)
        return random.integers(low, high, shape, endpoint=True).astype(dtype.numpy)
    floats = random.normal(0, 1, shape) if spread in ("normal", "wide") else random.uniform(0, 1, shape)
    return (floats * 255 if spread == "octets" else floats).astype(dtype.numpy)


def _range(dtype: np.dtype[Any], spread: str) -> tuple[int, int]:
    """The lowest and highest whole number."""
    limits = np.iinfo(dtype)
    low, high = {"normal": (0, 9), "unit": (0, 1), "octets": (0, 255), "wide": (-_WIDE, _WIDE)}[spread]
    return max(low, int(limits.min)), min(high, int(limits.max))


def _is_wide(spec: TensorSpec) -> bool:
    """Not for a single number, which may well be a size of something."""
    return spec.dtype in ("int64", "uint32", "uint64") and spec.is_batched


def _shape(spec: TensorSpec, rows: int) -> Shape:
    return tuple(rows if size == -1 else size for size in spec.shape or ())


def _row_bytes(spec: TensorSpec) -> int:
    return int(np.prod(_shape(spec, 1), dtype=np.int64)) * DTYPES[spec.dtype].numpy.itemsize
