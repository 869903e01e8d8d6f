"""Numbers as simdjson reads them, in one array or in several, and their conversion to the type of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfserve.tensors.specs import Array

FLOATS = "d"
"""The code of floats, which can hold integers, too."""

_TYPES: dict[str, type[Any]] = {"i": np.int64, "u": np.uint64, FLOATS: np.float64}
_EXACT = "iud"


def codes_of(text: bytes | memoryview) -> str:
    """The types to try, in order. A list that begins with a fraction needs no exact integers."""
    return FLOATS if b"." in bytes(text[:256]) else _EXACT


def read(parsed: Any, codes: Sequence[str]) -> Array | None:
    """The numbers in a list that simdjson has parsed, in the first type that can hold all of them.

    None if it contains anything else.
    """
    for code in codes:
        try:
            return np.frombuffer(parsed.as_buffer(of_type=code), _TYPES[code])
        except (ValueError, TypeError, RuntimeError):
            continue
    return None


def of_one_type(arrays: Sequence[Array]) -> Sequence[Array]:
    """The arrays in the first type that can hold the numbers of all of them."""
    types = {array.dtype.kind for array in arrays}
    if len(types) == 1:
        return arrays
    is_signed = any(array.dtype == np.int64 and array.min() < 0 for array in arrays)
    shared = np.float64 if is_signed or "f" in types else np.uint64
    return [array.astype(shared, copy=False) for array in arrays]


def joined(arrays: Sequence[Array], dtype: np.dtype[Any]) -> Array | None:
    """All numbers in one array of `dtype`; None if one does not fit."""
    if len(arrays) == 1 and arrays[0].dtype == dtype:
        return arrays[0]
    if dtype.kind in "iu" and not all(_fits(array, dtype) for array in arrays):
        return None
    whole, at = np.empty(sum(map(len, arrays)), dtype), 0
    for array in arrays:
        part = whole[at : at + len(array)]
        if dtype.kind in "iu":
            part[:] = array
        elif not _fill(part, array.astype(np.float64, copy=False)):  # bfloat16 has a kind of its own
            return None
        at += len(array)
    return whole


def _fits(array: Array, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return bool(array.dtype.kind in "iu" and limits.min <= array.min() and array.max() <= limits.max)


def _fill(narrow: Array, wide: Array) -> bool:
    """Casts to another type of floats. False if a number became infinite; those that were infinite or NaN may be."""
    with np.errstate(over="ignore"):
        narrow[:] = wide
    finite = np.isfinite(narrow)
    return bool(finite.all() or (finite == np.isfinite(wide)).all())
