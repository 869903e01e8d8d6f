"""Sizes of tensors, how they are computed, and what is shaped by them."""

from __future__ import annotations

import math

from tfserve.runtimes.row_walk.operation_inputs import OperationInputs, Shape
from tfserve.runtimes.row_walk.row_states import SAME, KnownSizes, OneRow, RowCount, RowParts, SameForAll, State

ROW_COUNT = RowCount("rows")
_PASSES = frozenset({"Identity", "Snapshot", "StopGradient", "EnsureShape"})


def shape(node: OperationInputs) -> State:
    """Shape: the sizes of each dimension."""
    state = node.states[0]
    if isinstance(state, SameForAll | OneRow):
        return state
    rank = node.rank()
    if not isinstance(state, RowParts) or rank is None or state.is_spread:
        return RowCount()
    of_rows = ROW_COUNT if state.is_exact else RowCount("blocks")
    return KnownSizes(tuple(of_rows if n == state.axis else SAME for n in range(rank)))


def of_sizes(node: OperationInputs) -> State:
    """Any operation whose inputs depend at most on the number of rows."""
    rule = _RULES.get(node.type)
    found = rule(node) if rule is not None else None
    if found is not None:
        return SAME if is_same(found) else found
    if node.type in _PASSES or (node.type == "Cast" and _is_whole(node)):
        return node.states[0]
    return SAME if all(map(is_same, node.states)) else RowCount()


def is_same(state: State, but: int | None = None) -> bool:
    """Whether sizes are the same for every batch, except for the one at the position `but`."""
    if isinstance(state, KnownSizes):
        return all(each == SAME for n, each in enumerate(state.sizes) if n != but)
    return state == SAME


def _is_whole(node: OperationInputs) -> bool:
    """Whether it computes with integers only."""
    return all(each.dtype.is_integer for each in (*node.operation.inputs, *node.operation.outputs))


def taken_apart(node: OperationInputs) -> list[State]:
    """Unpack and Split of a list of sizes: each of them."""
    *others, sizes = node.states
    count = len(node.operation.outputs)
    if not isinstance(sizes, KnownSizes) or len(sizes.sizes) != count or any(state != SAME for state in others):
        return [RowCount()] * count
    return [KnownSizes((each,)) if node.type == "Split" else each for each in sizes.sizes]


def _element(node: OperationInputs) -> State | None:
    state = node.states[0]
    begin, end, strides = (node.value(n) for n in (1, 2, 3))
    if not isinstance(state, KnownSizes) or begin is None or end is None or strides is None or len(begin) != 1:
        return None
    if int(node.attribute("ellipsis_mask")) or int(node.attribute("new_axis_mask")):
        return None
    if int(node.attribute("shrink_axis_mask")):
        return state.sizes[int(begin[0])]
    start = None if int(node.attribute("begin_mask")) else int(begin[0])
    stop = None if int(node.attribute("end_mask")) else int(end[0])
    return KnownSizes(state.sizes[start : stop : int(strides[0])])


def _slice(node: OperationInputs) -> State | None:
    state, begin, size = node.states[0], node.value(1), node.value(2)
    if not isinstance(state, KnownSizes) or begin is None or size is None:
        return None
    start, count = int(begin[0]), int(size[0])
    return KnownSizes(state.sizes[start : None if count < 0 else start + count])


def _gather(node: OperationInputs) -> State | None:
    state, indices = node.states[0], node.value(1)
    if not isinstance(state, KnownSizes) or indices is None:
        return None
    if not indices.ndim:
        return state.sizes[int(indices)]
    return KnownSizes(tuple(state.sizes[int(n)] for n in indices))


def _product(node: OperationInputs) -> State | None:
    state = node.states[0]
    if not isinstance(state, KnownSizes):
        return None
    counts = [each for each in state.sizes if isinstance(each, RowCount)]
    if not counts:
        return SAME
    return RowCount("blocks") if len(counts) == 1 and counts[0].what in {"rows", "blocks"} and _is_whole(node) else None


def _multiplied(node: OperationInputs) -> State | None:
    states = [state for state in node.states if state != SAME]
    if len(states) == 1 and states[0] in {ROW_COUNT, RowCount("blocks")} and _is_whole(node):
        return RowCount("blocks")
    return None


def _concatenated(node: OperationInputs) -> State | None:
    found: list[SameForAll | RowCount] = []
    for n, state in enumerate(node.states[:-1]):
        if isinstance(state, KnownSizes):
            found += state.sizes
            continue
        sizes = node.shape(n)
        if state != SAME or sizes is None or len(sizes) != 1 or sizes[0] is None:
            return None
        found += [SAME] * sizes[0]
    return KnownSizes(tuple(found))


def _packed(node: OperationInputs) -> State | None:
    if all(isinstance(state, SameForAll | RowCount) for state in node.states) and node.rank() in {0, None}:
        return KnownSizes(tuple(state for state in node.states if isinstance(state, SameForAll | RowCount)))
    return None


def _as_list(node: OperationInputs) -> State | None:
    """A list of one number, or the number in such a list."""
    state, result = node.states[0], node.output_shape()
    if isinstance(state, RowCount) and result == (1,) and node.rank() == 0:
        return KnownSizes((state,))
    if isinstance(state, KnownSizes):
        if result == () and len(state.sizes) == 1:
            return state.sizes[0]
        if result == (len(state.sizes),):
            return state
    return None


def _filled(node: OperationInputs) -> State | None:
    """Fill, and BroadcastTo, whose sizes come last: the same value for each row."""
    sizes, value = (0, 1) if node.type == "Fill" else (1, 0)
    of_sizes = node.states[sizes]
    if not isinstance(of_sizes, KnownSizes) or node.states[value] != SAME:
        return None
    axes = [n for n, each in enumerate(of_sizes.sizes) if each != SAME]
    if len(axes) != 1 or of_sizes.sizes[axes[0]] not in {ROW_COUNT, RowCount("blocks")}:
        return None
    given = node.shape(value)
    from_right = axes[0] - len(of_sizes.sizes)
    if given is None or (len(given) >= -from_right and given[from_right] != 1):
        return None
    return RowParts(axes[0], of_sizes.sizes[axes[0]] == ROW_COUNT)


def _tiled(node: OperationInputs) -> State | None:
    sizes, given = node.states[1], node.shape(0)
    if node.states[0] != SAME or not isinstance(sizes, KnownSizes) or given is None:
        return None
    axes = [n for n, each in enumerate(sizes.sizes) if each != SAME]
    if len(axes) == 1 and sizes.sizes[axes[0]] == ROW_COUNT and given[axes[0]] == 1:
        return RowParts(axes[0])
    return None


def _range(node: OperationInputs) -> State | None:
    start, step = node.value(0), node.value(2)
    is_order = start is not None and step is not None and not int(start) and int(step) == 1
    return RowCount("order") if is_order and node.states[1] == ROW_COUNT else None


_RULES = {
    "StridedSlice": _element,
    "Slice": _slice,
    "GatherV2": _gather,
    "Prod": _product,
    "Mul": _multiplied,
    "ConcatV2": _concatenated,
    "Pack": _packed,
    "Reshape": _as_list,
    "Squeeze": _as_list,
    "ExpandDims": _as_list,
    "Fill": _filled,
    "BroadcastTo": _filled,
    "Tile": _tiled,
    "Range": _range,
}


def reshaped(node: OperationInputs) -> State:
    """In memory the parts of the rows follow each other, so they stay apart if the first dimension is a multiple."""
    state, sizes = node.states[0], node.states[1]
    if not isinstance(state, RowParts) or state.axis or state.is_spread:
        return node.mixes("rows are not along the first dimension")
    if not isinstance(sizes, SameForAll | KnownSizes):
        return node.mixes("its sizes depend on the batch")
    before, after = node.shape(), node.output_shape()
    if isinstance(sizes, KnownSizes) and not is_same(sizes, but=0):
        return node.mixes("its sizes depend on the batch")
    if isinstance(sizes, KnownSizes) and sizes.sizes:
        first = sizes.sizes[0]
        if first in {ROW_COUNT, RowCount("blocks")} and all(each == SAME for each in sizes.sizes[1:]):
            return RowParts(0, _is_exact(state, before, after) or (first == ROW_COUNT and state.is_exact))
    if before is None or after is None or not after or (after[0] is not None and after[0] != before[0]):
        return node.mixes("its sizes are not known")
    if not _divides(before[1:], after[1:]):
        return node.mixes("it may cut through rows")
    return RowParts(0, _is_exact(state, before, after))


def _divides(before: Shape, after: Shape) -> bool:
    """Whether a row has a multiple of the elements that an element of the new first dimension has."""
    while before and after and before[-1] == after[-1] and before[-1] is not None:
        before, after = before[:-1], after[:-1]
    if None in after:
        return False
    known = math.prod(each for each in before if each is not None)
    needed = math.prod(each for each in after if each is not None)
    return needed > 0 and known % needed == 0


def _is_exact(state: RowParts, before: Shape | None, after: Shape | None) -> bool:
    if not state.is_exact or before is None or after is None or None in (*before[1:], *after[1:]):
        return False
    return math.prod(each or 0 for each in before[1:]) == math.prod(each or 0 for each in after[1:])
