"""Operations on elements, on single examples, and on the last dimensions."""

from __future__ import annotations

from dataclasses import replace

from tfserve.runtimes.row_walk import operations, size_rules
from tfserve.runtimes.row_walk.operation_inputs import OperationInputs, rows_only
from tfserve.runtimes.row_walk.row_states import SAME, BatchCondition, KnownSizes, RowCount, RowParts, SameForAll, State

#: comparisons that all rows pass if the maximum (or the minimum) of the batch does, by the side that it is on
_BOUNDS = {
    ("Less", 0): "most", ("LessEqual", 0): "most", ("Greater", 1): "most", ("GreaterEqual", 1): "most",
    ("Greater", 0): "least", ("GreaterEqual", 0): "least", ("Less", 1): "least", ("LessEqual", 1): "least",
}  # fmt: skip
#: of TensorFlow Decision Forests; without sets of words, the lengths of these are counts
_FORESTS = ("SimpleML", "BoostedTreesPredict")
_SEVERAL = frozenset({"CombinedNonMaxSuppression", "ImageProjectiveTransformV2", "ImageProjectiveTransformV3"})
_LENGTHS_STAY = frozenset({"Identity", "Cast", "Snapshot", "StopGradient", "EnsureShape", "CheckNumerics"})

_ARGUMENTS: dict[str, tuple[type, ...]] = {
    "Conv2DBackpropInput": (SameForAll, RowCount, KnownSizes),
    "Conv3DBackpropInputV2": (SameForAll, RowCount, KnownSizes),
    "DepthwiseConv2dNativeBackpropInput": (SameForAll, RowCount, KnownSizes),
}
"""These get the sizes of their output, which include the number of rows."""


def by_element(node: OperationInputs) -> State:
    if any(isinstance(state, BatchCondition) for state in node.states):
        return _of_verdicts(node)
    found: RowParts | None = None
    from_right: int | None = None
    rank = _broadcast_rank(node)
    for n, state in enumerate(node.states):
        if isinstance(state, SameForAll):
            continue
        if not isinstance(state, RowParts):
            return node.mixes("an argument depends on the batch")
        of_input = node.rank(n)
        if len(node.states) > 1 and of_input is None:
            return node.mixes("the number of dimensions of an input is not known")
        place = state.axis - (of_input or 0)
        if found is not None and (place != from_right or state.is_spread != found.is_spread):
            return node.mixes("rows are along different dimensions of its inputs")
        is_exact = state.is_exact and (found is None or found.is_exact)
        found, from_right = replace(state, is_exact=is_exact), place
    if found is None or from_right is None:
        return node.mixes()
    if len(node.states) == 1:
        return found
    if rank is None or not all(_is_broadcast(node, n, from_right) for n in range(len(node.states))):
        return node.mixes("rows are broadcast")
    return replace(found, axis=rank + from_right)


def _broadcast_rank(node: OperationInputs) -> int | None:
    """Weights of unknown shape have at most as many dimensions: others would show in every batch."""
    shape = node.output_shape()
    if shape is not None:
        return len(shape)
    return max((rank for n in range(len(node.states)) if (rank := node.rank(n)) is not None), default=None)


def _is_broadcast(node: OperationInputs, n: int, from_right: int) -> bool:
    """Whether an input is the same for all rows, if it does not consist of rows."""
    if not isinstance(node.states[n], SameForAll):
        return True
    shape = node.shape(n)
    return shape is None or len(shape) < -from_right or shape[from_right] == 1


def _of_verdicts(node: OperationInputs) -> State:
    """Conditions on the maximum or the minimum of a batch are conditions on all of its rows."""
    if not all(isinstance(state, BatchCondition | SameForAll) for state in node.states):
        return node.mixes("a value of the whole batch is used for rows")
    if node.type in _LENGTHS_STAY:
        return node.states[0]
    verdicts = {(n, state.what) for n, state in enumerate(node.states) if isinstance(state, BatchCondition)}
    if node.type == "LogicalAnd" and {what for _, what in verdicts} == {"all"}:
        return BatchCondition("all")
    if len(verdicts) == 1:
        ((n, what),) = verdicts
        if _BOUNDS.get((node.type, n)) == what:
            return BatchCondition("all")
    return node.mixes("a value of the whole batch is used")


def by_example(node: OperationInputs) -> State:
    """The first dimension counts examples; everything else is weights or sizes."""
    if node.type.startswith(("FusedBatchNorm", "_FusedBatchNorm")) and node.attribute("is_training"):
        return node.mixes("batch normalization in training mode averages over the batch")
    if node.type in _SEVERAL or node.type.startswith(_FORESTS):
        return _all_by_example(node)
    if node.type == "MaxPoolWithArgmax" and node.attribute("include_batch_in_index"):
        return node.mixes("its indices count rows")
    if "BackpropInput" in node.type and not size_rules.is_same(node.states[0], but=0):
        return node.mixes("its sizes depend on the batch")
    found = rows_only(node, *_ARGUMENTS.get(node.type, (SameForAll,)))
    if not isinstance(found, RowParts):
        return found
    if found.axis:
        return node.mixes("rows are not along the first dimension")
    if not _is_image_input(node):
        return node.mixes("a filter depends on the batch")
    return found


def _all_by_example(node: OperationInputs) -> State:
    allowed: tuple[type, ...] = (SameForAll, RowCount, KnownSizes) if node.type.startswith(_FORESTS) else (SameForAll,)
    if all(isinstance(state, allowed) or state == RowParts() for state in node.states):
        return RowParts()
    return node.mixes("rows are not along the first dimension")


def _is_image_input(node: OperationInputs) -> bool:
    """Whether the rows are in the images, not in the weights."""
    with_rows = [n for n, state in enumerate(node.states) if isinstance(state, RowParts)]
    return with_rows == [2 if "BackpropInput" in node.type else 0]


def along_last(node: OperationInputs) -> State:
    found = rows_only(node, SameForAll)
    if not isinstance(found, RowParts):
        return found
    if found.is_spread:
        return node.mixes("rows are interleaved")
    rank = node.rank(next(n for n, state in enumerate(node.states) if isinstance(state, RowParts)))
    mixes = operations.MIXES_LAST[node.type]
    if node.type in {"MatrixDiagV2", "MatrixDiagV3"} and node.shape(1) == ():  # one diagonal, not a band
        mixes = 1
    if rank is None or found.axis >= rank - mixes:
        return node.mixes("it works along the dimension of the rows")
    return found


def looked_up(node: OperationInputs) -> State:
    """LookupTableFind: dimensions may be added at the end."""
    table, keys, default = node.states
    if isinstance(keys, RowParts) and table == default == SAME:
        return keys
    return node.mixes("the table depends on the batch")


def hashed(node: OperationInputs) -> State:
    """Fingerprint: all dimensions but the first are hashed together."""
    found = node.states[0]
    if isinstance(found, RowParts) and not found.axis and not found.is_spread and node.states[1] == SAME:
        return found
    return node.mixes("rows are not along the first dimension")


def with_diagonal(node: OperationInputs) -> State:
    """MatrixSetDiag: a matrix and a diagonal for each row."""
    matrix, diagonal, *others = node.states
    if matrix == diagonal == RowParts() and not any(state != SAME for state in others) and (node.rank() or 0) > 2:
        return RowParts()
    return node.mixes("it works along the dimension of the rows")


def is_clamped(node: OperationInputs) -> bool:
    """Whether the result is one number, because its upper limit is not above the lower one."""
    if node.type not in {"Minimum", "Maximum"} or not node.operation.outputs[0].dtype.is_integer:
        return False
    inner = "Maximum" if node.type == "Minimum" else "Minimum"
    for outer_limit, limited in ((0, 1), (1, 0)):
        made = node.operation.inputs[limited].op
        limits = [node.value(outer_limit), *(node.constant(each) for each in made.inputs if made.type == inner)]
        known = [int(each) for each in limits if each is not None and each.shape == ()]
        if limits[0] is None or limits[0].shape != () or len(known) < 2 or node.output_shape() != ():
            continue
        if known[0] <= known[1] if node.type == "Minimum" else known[0] >= known[1]:
            return True
    return False


def one_hot(node: OperationInputs) -> State:
    found = node.states[0]
    if not isinstance(found, RowParts) or any(state != SAME for state in node.states[1:]) or found.is_spread:
        return node.mixes("an argument depends on the batch")
    axis = int(node.attribute("axis"))
    return found if axis < 0 or axis > found.axis else replace(found, axis=found.axis + 1)


def bincount(node: OperationInputs) -> State:
    """Counts in each row of a matrix."""
    values, *others = node.states
    if values == RowParts() and node.rank() == 2 and all(state in {SAME, RowParts()} for state in others):
        return RowParts()
    return node.mixes("it counts over all rows")
