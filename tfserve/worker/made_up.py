"""Synthetic inputs for the warm-up: made from a signature, so a model may rightly refuse them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tfserve.tensors import DTYPES, Array, Signature, TensorSpec

ZEROS, ONES, RANDOM = "zeros", "ones", "small random numbers"
FILLS = (ZEROS, ONES, RANDOM)
SEED = 20_260

_GROUP_ROWS = 4
"""Some models take batches in multiples of four only."""
_SIZES = (8, 32, 224)
"""Tried for sizes that the signature leaves open, after 1."""
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Recipe:
    """How inputs are made: what they are filled with, and the sizes that the signature leaves open."""

    fill: str
    rows: int = 1
    size: int = 1

    def inputs(self, signature: Signature, seed: int | None = None) -> dict[str, Array]:
        """Inputs by name. With a `seed` they differ from each other, but are as close to the recipe as that allows."""
        random = np.random.default_rng(SEED + (seed or 0))
        return {spec.name: self._array(spec, random, is_varied=seed is not None) for spec in signature.inputs}

    def _array(self, spec: TensorSpec, random: np.random.Generator, *, is_varied: bool) -> Array:
        if spec.part:
            return _part(spec)
        shape = self._shape(spec)
        dtype = DTYPES[spec.dtype]
        if dtype.kind == "string":
            return _texts(shape, self.fill, random, is_varied=is_varied)
        if self.fill != RANDOM and not is_varied:
            return np.full(shape, int(self.fill == ONES), dtype.numpy)
        low = int(self.fill == ONES)  # a model that has refused zeros may divide by its inputs
        if dtype.kind == "float":
            return random.uniform(low, low + 1, shape).astype(dtype.numpy)
        if dtype.kind == "bool":
            return random.integers(0, 2, shape).astype(dtype.numpy)
        return random.integers(low, low + 2, shape).astype(dtype.numpy)

    def _shape(self, spec: TensorSpec) -> tuple[int, ...]:
        sizes = tuple(self.size if size == -1 else size for size in spec.shape or ())
        return (self.rows, *sizes[1:]) if spec.is_batched else sizes

    def size_bytes(self, signature: Signature) -> int:
        """Of all inputs together; text counts as a pointer."""
        specs = signature.inputs
        return sum(int(np.prod(self._shape(s), dtype=np.int64)) * DTYPES[s.dtype].numpy.itemsize for s in specs)


def recipes(signature: Signature) -> Iterator[Recipe]:
    """What is worth trying, the likeliest first. A model that computes one of them is warm."""
    candidates = [Recipe(fill) for fill in FILLS]
    is_batched = any(spec.is_batched for spec in signature.inputs)
    if is_batched:
        candidates += [Recipe(fill, _GROUP_ROWS) for fill in (ONES, RANDOM)]
    if not is_certain(signature):
        candidates += [Recipe(RANDOM, rows, size) for size in _SIZES for rows in (1, _GROUP_ROWS)[: 1 + is_batched]]
    return (each for each in candidates if each.size_bytes(signature) <= MAX_BYTES)


def can_be_made_up(signature: Signature) -> bool:
    return all(spec.dtype in DTYPES for spec in signature.inputs)


def is_certain(signature: Signature) -> bool:
    """Whether the signature leaves nothing open but the number of rows."""
    return all(
        spec.dtype in DTYPES and spec.dtype != "string" and spec.shape is not None and -1 not in spec.shape[1:]
        for spec in signature.inputs
    )


def rows_of(inputs: Mapping[str, Array]) -> int:
    """The number of rows that all inputs have; 0 when they differ or there are none."""
    rows = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    return rows.pop() if len(rows) == 1 else 0


def _part(spec: TensorSpec) -> Array:
    """What is a tensor with a single value, 0 or an empty text, together with its other parts."""
    dtype = DTYPES[spec.dtype]
    if spec.part.startswith("row_splits"):
        return np.array([0, 1], dtype.numpy)
    shape = tuple(1 if size == -1 else size for size in spec.shape or ())
    if dtype.kind == "string":
        return np.full(shape, b"", dtype=object)
    return np.full(shape, int(spec.part.startswith("dense_shape")), dtype.numpy)


def _texts(shape: tuple[int, ...], fill: str, random: np.random.Generator, *, is_varied: bool) -> Array:
    if fill == RANDOM or is_varied:
        numbers = random.integers(0, 10, shape)
        texts = np.empty(numbers.size, dtype=object)
        texts[:] = [b"a%d" % number for number in numbers.ravel()]
        return texts.reshape(shape)
    return np.full(shape, b"1" if fill == ONES else b"", dtype=object)
