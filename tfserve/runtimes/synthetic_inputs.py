"""Synthetic inputs. They are generated from a signature, so a model may reject them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Shape, Signature, TensorSpec

ZEROS, ONES, RANDOM = "zeros", "ones", "small random numbers"
FILLS = (ZEROS, ONES, RANDOM)
SEED = 20_260

_GROUP_ROWS = 4
"""Some models accept batches in multiples of four only."""
_SIZES = (8, 32, 224)
"""Tried for sizes that the signature leaves open, after 1."""
MAX_BYTES = 64 * 1024 * 1024
_MAX_EXAMPLE = 1000
"""Elements of all inputs together."""
_DECIMALS = 3
_WORDS = 3
"""Texts that differ have 1 to 3 words: a model may pad those of a batch to the longest."""


@dataclass(frozen=True)
class Recipe:
    """How inputs are generated: the fill value, and sizes that the signature leaves open."""

    fill: str
    rows: int = 1
    size: int = 1

    @property
    def title(self) -> str:
        """For people. The same values may be rejected with other sizes."""
        rows = [f"{self.rows} rows"] if self.rows > 1 else []
        sizes = [f"open sizes of {self.size}"] if self.size > 1 else []
        return f"{self.fill} ({', '.join(rows + sizes)})" if rows or sizes else self.fill

    def inputs(self, signature: Signature, seed: int | None = None) -> dict[str, Array]:
        """Inputs by name. With a `seed` they differ from each other, but are as close to the recipe as that allows."""
        random = np.random.default_rng(SEED + (seed or 0))
        return {spec.name: self._array(spec, random, is_varied=seed is not None) for spec in signature.inputs}

    def _array(self, spec: TensorSpec, random: np.random.Generator, *, is_varied: bool) -> Array:
        if spec.part:
            return _part(spec)
        shape = shape_of(spec, self.rows, self.size)
        dtype = DTYPES[spec.dtype]
        if dtype.kind == "string":
            return _texts(shape, self.fill, random, is_varied=is_varied)
        if self.fill != RANDOM and not is_varied:
            return np.full(shape, int(self.fill == ONES), dtype.numpy)
        low = int(self.fill == ONES)  # a model that has rejected zeros may divide by its inputs
        if dtype.kind == "float":
            return random.uniform(low, low + 1, shape).astype(dtype.numpy)
        if dtype.kind == "bool":
            return random.integers(0, 2, shape).astype(dtype.numpy)
        return random.integers(low, low + 2, shape).astype(dtype.numpy)

    def size_bytes(self, signature: Signature) -> int:
        """Of all inputs together; text counts as a pointer."""
        return sum(size_bytes(spec, self.rows, self.size) for spec in signature.inputs)


def recipes(signature: Signature) -> Iterator[Recipe]:
    """The recipes to try, the most likely first. One accepted recipe is enough for a warm-up."""
    candidates = [Recipe(fill) for fill in FILLS]
    is_batched = any(spec.is_batched for spec in signature.inputs)
    if is_batched:
        candidates += [Recipe(fill, _GROUP_ROWS) for fill in (ONES, RANDOM)]
    if not is_certain(signature):
        candidates += [Recipe(RANDOM, rows, size) for size in _SIZES for rows in (1, _GROUP_ROWS)[: 1 + is_batched]]
    return (each for each in candidates if each.size_bytes(signature) <= MAX_BYTES)


def with_examples(signature: Signature, recipe: Recipe) -> Signature:
    """With the inputs of `recipe` as examples. Clients need none for a model that accepts the usual zeros."""
    arrays = recipe.inputs(signature)
    if recipe == Recipe(ZEROS) or sum(array.size for array in arrays.values()) > _MAX_EXAMPLE:
        return signature
    inputs = [
        spec if spec.part else msgspec.structs.replace(spec, example=_plain(arrays[spec.name]))
        for spec in signature.inputs
    ]
    return msgspec.structs.replace(signature, inputs=tuple(inputs))


def _plain(array: Array) -> Any:
    """Nested lists for JSON."""
    if array.dtype == object:
        texts = np.empty(array.size, dtype=object)
        texts[:] = [each.decode() for each in array.ravel()]
        return texts.reshape(array.shape).tolist()
    if DTYPES[array.dtype.name].kind == "float":
        return array.astype(np.float64).round(_DECIMALS).tolist()
    return array.tolist()


def shape_of(spec: TensorSpec, rows: int, size: int = 1) -> Shape:
    """The spec's shape with this number of rows, and this size wherever it leaves another size open."""
    sizes = tuple(size if each == -1 else each for each in spec.shape or ())
    return (rows, *sizes[1:]) if spec.is_batched else sizes


def size_bytes(spec: TensorSpec, rows: int, size: int = 1) -> int:
    return int(np.prod(shape_of(spec, rows, size), dtype=np.int64)) * DTYPES[spec.dtype].numpy.itemsize


def is_possible(signature: Signature) -> bool:
    """Whether values can be generated for all types of its inputs."""
    return all(spec.dtype in DTYPES for spec in signature.inputs)


def is_certain(signature: Signature) -> bool:
    """Whether the signature leaves nothing open but the number of rows."""
    return not any(map(uncertainty, signature.inputs))


def uncertainty(spec: TensorSpec) -> str:
    """What a spec leaves open besides the number of rows, for people; empty if nothing."""
    if spec.dtype not in DTYPES or spec.dtype == "string":
        return f"input {spec.name!r} is of the type {spec.dtype}, for which no inputs can be generated"
    if spec.shape is None or -1 in spec.shape[1:]:
        return f"input {spec.name!r} takes {spec}, so no inputs of the right size can be generated"
    return ""


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
        texts[:] = [b" ".join([b"a%d" % n] * (1 + n % _WORDS * is_varied)) for n in numbers.ravel().tolist()]
        return texts.reshape(shape)
    return np.full(shape, b"1" if fill == ONES else b"", dtype=object)
