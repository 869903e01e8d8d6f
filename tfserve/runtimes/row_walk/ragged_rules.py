"""Rows of several lengths, such as the words of texts: one list of all values, and the numbers of their rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfserve.runtimes.row_walk import operations
from tfserve.runtimes.row_walk.operation_inputs import OperationInputs
from tfserve.runtimes.row_walk.row_states import ROWS, SAME, FlatRows, RowPartition, SameForAll, State

#: with these, TensorFlow computes where each row begins and ends
_PARTITIONS = frozenset(
    [
        "StridedSlice",
        "Cast",
        "Size",
        "Shape",
        "Greater",
        "Max",
        "AddV2",
        "Mul",
        "Maximum",
        "Minimum",
        "Reshape",
        "DenseBincount",
        "Cumsum",
        "ConcatV2",
        "Identity",
        "GatherV2",
        "Sub",
    ]
)


def divided(node: OperationInputs) -> Sequence[State]:
    """StringSplitV2: the numbers of rows, the parts, and how many there are at most."""
    text, separator = node.states
    if text != ROWS or node.rank() != 1 or separator != SAME:
        return [node.mixes("the texts are not rows")] * 3
    return [RowPartition(), FlatRows(), RowPartition()]


def n_grams(node: OperationInputs) -> Sequence[State]:
    if node.states[0] == FlatRows() and node.states[1] == RowPartition():
        return [FlatRows(), RowPartition()]
    return [node.mixes()] * 2


def of_ragged(node: OperationInputs) -> State:
    if node.type == "RaggedTensorToTensor":
        return _as_matrix(node)
    if node.type == "RaggedBincount":
        return _counts(node)
    kinds = {type(state) for state in node.states}
    if node.type in operations.BY_ELEMENT and kinds <= {FlatRows, SameForAll}:
        scalars = [n for n, state in enumerate(node.states) if isinstance(state, SameForAll)]
        return (
            FlatRows()
            if all(node.shape(n) in {(), (1,), None} for n in scalars)
            else node.mixes("values are broadcast")
        )
    if node.type in _PARTITIONS and kinds <= {FlatRows, RowPartition, SameForAll}:
        return RowPartition()
    return node.mixes("rows have different lengths")


def _as_matrix(node: OperationInputs) -> State:
    sizes, values, default, *parts = node.states
    lengths = node.value(0)
    if values != FlatRows() or default != SAME or sizes != SAME or any(each != RowPartition() for each in parts):
        return node.mixes("rows have different lengths")
    if lengths is None or np.size(lengths) < 2 or min(map(int, lengths[1:])) < 0:
        return node.mixes("rows are padded to the longest of the batch")
    return ROWS


def _counts(node: OperationInputs) -> State:
    splits, values, _size, weights = node.states
    shape = node.output_shape()
    if splits != RowPartition() or values != FlatRows() or weights != SAME:
        return node.mixes("rows have different lengths")
    return ROWS if shape is not None and len(shape) == 2 and shape[1] is not None else node.mixes("its size is open")
