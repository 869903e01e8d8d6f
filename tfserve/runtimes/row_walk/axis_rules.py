"""Operations that move, cut, join, reduce or multiply along dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tfserve.runtimes.row_walk import size_rules
from tfserve.runtimes.row_walk.operation_inputs import OperationInputs, rows_only
from tfserve.runtimes.row_walk.row_states import SAME, BatchCondition, KnownSizes, RowCount, RowParts, SameForAll, State

_VERDICTS = {"All": "all", "Max": "most", "Min": "least"}


def reduced(node: OperationInputs) -> State:
    state = node.states[0]
    if isinstance(state, BatchCondition) and _VERDICTS.get(node.type) == state.what:
        return state
    if not isinstance(state, RowParts) or node.states[1] != SAME or state.is_spread:
        return node.mixes("an argument depends on the batch")
    rank = node.rank()
    axes = node.axes(1, rank)
    if axes is None or state.axis in axes:
        verdict = _VERDICTS.get(node.type)
        return (
            BatchCondition(verdict) if verdict and axes is not None else node.mixes("it combines the rows of the batch")
        )
    if node.type in {"ArgMax", "ArgMin"} or not node.attribute("keep_dims"):
        return replace(state, axis=state.axis - sum(each < state.axis for each in axes))
    return state


def along(node: OperationInputs) -> State:
    found = rows_only(node, SameForAll)
    if not isinstance(found, RowParts):
        return found
    if found != node.states[0]:
        return node.mixes("an argument depends on the batch")
    axes = node.axes(2 if node.type == "Roll" else 1, node.rank())
    if axes is None or found.axis in axes or found.is_spread:
        return node.mixes("it works along the dimension of the rows")
    return found


def transposed(node: OperationInputs) -> State:
    state, order = node.states[0], node.value(1)
    if not isinstance(state, RowParts) or order is None or state.is_spread:
        return node.mixes("the order of dimensions is not known")
    return replace(state, axis=[int(each) for each in order].index(state.axis))


def expanded(node: OperationInputs) -> State:
    state, rank = node.states[0], node.rank()
    axis = node.value(1)
    if not isinstance(state, RowParts) or axis is None:
        return node.mixes("its arguments are not known")
    at = int(axis.reshape(-1)[0])
    if at < 0:
        if rank is None:
            return node.mixes("the number of dimensions is not known")
        at += rank + 1
    if state.is_spread and at <= state.axis:
        return node.mixes("rows are interleaved")
    return replace(state, axis=state.axis + (at <= state.axis))


def squeezed(node: OperationInputs) -> State:
    state, rank = node.states[0], node.rank()
    axes = [int(each) for each in node.attribute("squeeze_dims")]
    if not isinstance(state, RowParts) or not axes:
        return node.mixes("it may drop the dimension of the rows")
    if any(each < 0 for each in axes):
        if rank is None:
            return node.mixes("the number of dimensions is not known")
        axes = [each + rank if each < 0 else each for each in axes]
    if state.axis in axes:
        return node.mixes("it drops the dimension of the rows")
    return replace(state, axis=state.axis - sum(each < state.axis for each in axes))


def concatenated(node: OperationInputs) -> State:
    *states, of_axis = node.states
    rank = next((rank for n in range(len(states)) if (rank := node.rank(n)) is not None), None)
    axes = node.axes(len(states), rank) if of_axis == SAME else None
    return _merged(node, states, axes.pop() if axes else None, None)


def packed(node: OperationInputs) -> State:
    axis, rank = int(node.attribute("axis")), node.rank()
    if axis < 0:
        if rank is None:
            return node.mixes("the number of dimensions is not known")
        axis += rank + 1
    found = _merged(node, node.states, None, -1)
    return replace(found, axis=found.axis + (axis <= found.axis)) if isinstance(found, RowParts) else found


def _merged(node: OperationInputs, states: Sequence[State], axis: int | None, missing: int | None) -> State:
    """What all of these tensors are, if rows are not along `axis`; `missing` without one."""
    first, is_exact = states[0], True
    for state in states:
        if not isinstance(state, RowParts) or not isinstance(first, RowParts) or state.is_spread:
            return node.mixes("rows are joined with something else")
        if state.axis != first.axis or (axis is None and missing is None) or state.axis == axis:
            return node.mixes("it joins along the dimension of the rows")
        is_exact = is_exact and state.is_exact
    return replace(first, is_exact=is_exact) if isinstance(first, RowParts) else node.mixes()


def unpacked(node: OperationInputs) -> State:
    state, axis, rank = node.states[0], int(node.attribute("axis")), node.rank()
    if axis < 0 and rank is None:
        return node.mixes("the number of dimensions is not known")
    axis = axis if axis >= 0 else axis + (rank or 0)
    if not isinstance(state, RowParts) or axis == state.axis or state.is_spread:
        return node.mixes("it takes the rows apart")
    return replace(state, axis=state.axis - (axis < state.axis))


def split(node: OperationInputs) -> State:
    """Split has the axis first, SplitV last."""
    at, values = (0, 1) if node.type == "Split" else (2, 0)
    state, axes = node.states[values], node.axes(at, node.rank(values))
    if any(n != values and not size_rules.is_same(each) for n, each in enumerate(node.states)):
        return node.mixes("its sizes depend on the batch")
    if not isinstance(state, RowParts) or axes is None or state.axis in axes or state.is_spread:
        return node.mixes("it cuts along the dimension of the rows")
    return state


def strided(node: OperationInputs) -> State:
    state, rank = node.states[0], node.rank()
    if not isinstance(state, RowParts) or rank is None or state.is_spread:
        return node.mixes("the number of dimensions is not known")
    if not all(map(size_rules.is_same, node.states[1:])):
        return node.mixes("its limits depend on the batch")
    begin, end, strides = (node.value(n) for n in (1, 2, 3))
    count = next((len(each) for each in (strides, begin, end) if each is not None), None)
    if count is None:
        shape = node.shape(1)
        count = shape[0] if shape else None
    if count is None:
        return node.mixes("the slice is not known")
    return _strided(node, state, rank, count, strides, begin)


def _strided(node: OperationInputs, state: RowParts, rank: int, count: int, strides: object, begin: object) -> State:
    masks = {
        name: int(node.attribute(f"{name}_mask")) for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    new = sum(bool(masks["new_axis"] >> n & 1) for n in range(count))
    dimension = place = 0
    for n in range(count):
        if masks["ellipsis"] >> n & 1:
            skipped = rank - (count - 1 - new)
            if dimension <= state.axis < dimension + skipped:
                return replace(state, axis=place + state.axis - dimension)
            dimension, place = dimension + skipped, place + skipped
        elif masks["new_axis"] >> n & 1:
            place += 1
        else:
            if dimension == state.axis:
                is_whole = masks["begin"] >> n & 1 or (begin is not None and int(begin[n]) == 0)  # type: ignore[index]
                step = None if strides is None else int(strides[n])  # type: ignore[index]
                if not is_whole or not masks["end"] >> n & 1 or step != 1 or masks["shrink_axis"] >> n & 1:
                    return node.mixes("it selects rows")
                return replace(state, axis=place)
            dimension, place = dimension + 1, place + (not masks["shrink_axis"] >> n & 1)
    return replace(state, axis=place + state.axis - dimension)


def sliced(node: OperationInputs) -> State:
    state, begin, size = node.states[0], node.value(1), node.value(2)
    if not isinstance(state, RowParts) or state.is_spread or begin is None or int(begin[state.axis]):
        return node.mixes("it selects rows")
    of_size = node.states[2]
    if not size_rules.is_same(node.states[1]) or not size_rules.is_same(of_size, but=state.axis):
        return node.mixes("its limits depend on the batch")
    if isinstance(of_size, KnownSizes):
        is_whole = state.is_exact and of_size.sizes[state.axis] == RowCount("rows")
    else:
        is_whole = size is not None and int(size[state.axis]) == -1
    return state if is_whole else node.mixes("it selects rows")


def padded(node: OperationInputs) -> State:
    state = node.states[0]
    if not isinstance(state, RowParts) or state.is_spread or any(each != SAME for each in node.states[1:]):
        return node.mixes("an argument depends on the batch")
    amounts = _amounts(node, state.axis)
    return state if amounts == [0, 0] else node.mixes("it adds rows")


def _amounts(node: OperationInputs, axis: int) -> list[int] | None:
    """How much is added before and after a dimension, also if the amounts of others are not known."""
    if (value := node.value(1)) is not None:
        return [int(each) for each in value[axis]]
    made = node.operation.inputs[1].op
    if made.type == "Reshape":  # of one list of all amounts
        made, places = made.inputs[0].op, [2 * axis, 2 * axis + 1]
    else:
        places = [axis]
    if made.type != "Pack" or made.get_attr("axis") or len(made.inputs) <= places[-1]:
        return None
    values = [node.constant(made.inputs[place]) for place in places]
    if any(each is None or each.size != 2 // len(places) for each in values):
        return None
    return [int(number) for each in values for number in each.reshape(-1)]


def tiled(node: OperationInputs) -> State:
    state, times = node.states[0], node.value(1)
    if not isinstance(state, RowParts) or state.is_spread or times is None or int(times[state.axis]) != 1:
        return node.mixes("it repeats rows")
    return state


def gathered(node: OperationInputs) -> State:
    """GatherV2, Gather and ResourceGather: rows may be in the indices or in what they select from."""
    params, indices = node.states[:2]
    batch_dims = int(node.attribute("batch_dims")) if node.type != "Gather" else 0
    axis = _gather_axis(node)
    if axis is None:
        return node.mixes("its dimension is not known")
    if any(isinstance(each, RowParts) and each.is_spread for each in (params, indices)):
        return node.mixes("rows are interleaved")
    if params == RowParts() and indices == RowCount("order") and axis == batch_dims == 0:  # each row, in order
        return params
    if batch_dims and isinstance(params, RowParts) and isinstance(indices, RowParts):
        is_apart = params.axis == indices.axis < batch_dims
        return replace(params, is_exact=params.is_exact and indices.is_exact) if is_apart else node.mixes()
    if params == SAME and isinstance(indices, RowParts) and not batch_dims:
        return replace(indices, axis=indices.axis + axis)
    if isinstance(params, RowParts) and indices == SAME and not batch_dims and params.axis != axis:
        rank = node.rank(1)
        if params.axis < axis:
            return params
        return node.mixes() if rank is None else replace(params, axis=params.axis + rank - 1)
    return node.mixes("it selects from several rows")


def _gather_axis(node: OperationInputs) -> int | None:
    if node.type != "GatherV2":
        return int(node.attribute("batch_dims")) if node.type == "ResourceGather" else 0
    axes = node.axes(2, node.rank(0))
    return axes.pop() if axes else None


def gathered_nd(node: OperationInputs) -> State:
    params, indices = node.states[:2]
    rank = node.rank(1)
    if params == SAME and isinstance(indices, RowParts) and not indices.is_spread and rank and indices.axis < rank - 1:
        return indices
    return node.mixes("it selects from several rows")


def spread(node: OperationInputs) -> State:
    """SpaceToBatchND and its inverse, which must have the same blocks: convolutions with holes interleave examples."""
    state, is_back = node.states[0], node.type.startswith("BatchToSpace")
    if not isinstance(state, RowParts) or state.axis or state.is_spread != is_back or not state.is_exact:
        return node.mixes("it mixes the dimension of the rows with others")
    if any(each != SAME for each in node.states[1:]):
        return node.mixes("an argument depends on the batch")
    block_shape = node.value(1)
    if block_shape is None:
        return node.mixes("its blocks are not known")
    blocks = tuple(int(each) for each in block_shape)
    if is_back and blocks != state.block_shape:
        return node.mixes("its blocks are not those with which rows were interleaved")
    return replace(state, block_shape=() if is_back else blocks)
