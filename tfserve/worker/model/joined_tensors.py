"""Joins the tensors of several requests by their rows, and cuts an output into the part of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfserve.ipc.predictions import Tensor, to_array, to_tensor
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array


def join(tensors: Sequence[Tensor], rows: int) -> Array:
    first = tensors[0]
    if first.dtype == "string":
        return np.concatenate([to_array(tensor) for tensor in tensors])
    together = bytearray().join([tensor.data for tensor in tensors])
    return np.frombuffer(together, dtype=DTYPES[first.dtype].numpy).reshape((rows, *first.shape[1:]))


def cut(output: Array, counts: Sequence[int], total: int) -> list[Tensor] | None:
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
