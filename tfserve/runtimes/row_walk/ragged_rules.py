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


def parsed(node: OperationInputs) -> Sequence[State]:
    """ParseExample: features of a fixed length are rows, others have a length in each row."""
    sparse_features = int(node.attribute("Nsparse" if node.type == "ParseExample" else "num_sparse"))
    shapes = [each if hasattr(each, "unknown_rank") else each.as_proto() for each in node.attribute("dense_shapes")]
    count = len(node.operation.outputs)
    if node.states[0] != ROWS or node.rank() != 1 or any(state != SAME for state in node.states[1:]):
        return [node.mixes("the examples are not rows")] * count
    sparse: list[State] = [node.mixes("sparse features have different lengths")] * (3 * sparse_features)
    dense: list[State] = [
        node.mixes("rows are padded to the longest of the batch")
        if shape.unknown_rank or any(each.size < 0 for each in shape.dim)
        else ROWS
        for shape in shapes
    ]
    ragged = (count - len(sparse) - len(dense)) // 2
    return [*sparse, *dense, *[FlatRows()] * ragged, *[RowPartition()] * ragged]


def of_ragged(node: OperationInputs) -> State:
    if node.type == "RaggedTensorToTensor":
        return _as_matrix(node)
    if node.type == "RaggedBincount":
        return _counts(node)
    kinds = {type(state) for state in node.states}
    if node.type in operations.BY_ELEMENT | operations.LOOKS_UP and kinds <= {FlatRows, SameForAll}:
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
