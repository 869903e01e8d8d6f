"""Loops: over steps, whose number is the same for every batch, or over all rows, one after the other.

Of a loop over rows, only the position of the row and lists with one element for each row may change. The position may
only say which element to read and to write, and whether the loop continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tfserve.runtimes.row_walk.graph_facts import SAME_TENSOR, GraphFacts, new_number, sizes_of
from tfserve.runtimes.row_walk.operation_inputs import OperationInputs, Shape
from tfserve.runtimes.row_walk.row_states import (
    SAME,
    ListElements,
    MixedRows,
    OneRow,
    RowCount,
    RowPosition,
    State,
    joined,
)

MAX_ROUNDS = 12
"""Until nothing new is known of the variables of a loop."""

#: what is known inside a function with this name, for these states, shapes, sources and values of its inputs
Inside = Callable[[str, Sequence[State], Sequence[Shape | None], Sequence[str], Sequence[Any]], GraphFacts]


def followed(
    frame: GraphFacts, node: OperationInputs, inside: Inside, tried: Inside
) -> list[tuple[State, Shape | None]]:
    """What is known of the variables after a loop. `tried` is for a look before it is known what kind of loop it is."""
    shapes = [
        _loop_shape(frame.shape(one), two) for one, two in zip(node.operation.inputs, _declared(node), strict=True)
    ]
    sources = [f"{new_number()}/{n}" for n in range(len(shapes))]
    nothing = [None] * len(shapes)

    def within(name: str, states: Sequence[State]) -> GraphFacts:
        return inside(node.attribute(name).name, states, shapes, sources, nothing)

    def first(name: str) -> GraphFacts:
        return tried(node.attribute(name).name, node.states, shapes, sources, nothing)

    body = first("body")
    stays = [body.source(each) == sources[n] for n, each in enumerate(body.graph.outputs)]
    counters = _counters(frame, node, body, sources)
    rows = _is_over_rows(first("cond"), counters, stays, sources)
    states = _before(node, counters if rows else set(), stays, is_over_rows=rows)
    states = _converged(node, states, stays, within, counters if rows else set())
    if not rows and (ends := _result(within("cond", states), 0)) != SAME:
        why = ends if isinstance(ends, MixedRows) else node.mixes("a loop ends depending on the batch")
        states = [state if each else why for state, each in zip(states, stays, strict=True)]
    after = [state if each else _after(node, state, is_over_rows=rows)
             for state, each in zip(states, stays, strict=True)]  # fmt: skip
    return list(zip(after, shapes, strict=True))


def _before(node: OperationInputs, counters: set[int], stays: Sequence[bool], *, is_over_rows: bool) -> list[State]:
    if not is_over_rows:
        return list(node.states)
    passed = node.mixes("a value is passed from row to row")
    return [
        RowPosition() if n in counters else state if stays[n] or isinstance(state, ListElements) else passed
        for n, state in enumerate(node.states)
    ]


def _converged(
    node: OperationInputs, states: list[State], stays: Sequence[bool], within: Callable[[str, Sequence[State]], Any],
    counters: set[int],
) -> list[State]:  # fmt: skip
    """What is known of the variables at the beginning of any round."""
    for _ in range(MAX_ROUNDS):
        body = within("body", states)
        more = [state if stays[n] or n in counters else _next(node, state, _result(body, n))
                for n, state in enumerate(states)]  # fmt: skip
        if more == states:
            return states
        states = more
    unknown = node.mixes("a loop can't be followed")
    return [state if stays[n] or n in counters else unknown for n, state in enumerate(states)]


def _next(node: OperationInputs, state: State, result: State) -> State:
    if isinstance(result, OneRow) and result not in node.states:  # in the next round, it is that of the row before
        return node.mixes("a value is passed from row to row")
    return joined(state, result, node.mixes("a variable of a loop changes its shape").reason)


def _result(inside: GraphFacts, n: int) -> State:
    return inside.states.get(inside.graph.outputs[n].name, MixedRows("a loop can't be followed"))


def _after(node: OperationInputs, state: State, *, is_over_rows: bool) -> State:
    """What is known of a variable that changes in a loop."""
    if isinstance(state, MixedRows):
        return state
    if isinstance(state, OneRow):
        return node.mixes("a value is passed from row to row")
    if isinstance(state, RowPosition):
        return RowCount()
    if is_over_rows:
        is_list = isinstance(state, ListElements) and (state.is_by_row or state.each is None)
        return state if is_list else node.mixes("rows change in a loop over all rows")
    return node.mixes("it covers some rows only") if isinstance(state, ListElements) and state.is_by_row else state


def _counters(frame: GraphFacts, node: OperationInputs, body: GraphFacts, sources: Sequence[str]) -> set[int]:
    """The variables that begin at 0 and grow by 1."""
    found = set()
    for n, tensor in enumerate(body.graph.outputs):
        start = frame.constant(node.operation.inputs[n])
        made = _made(tensor)
        if start is None or start.shape != () or start.dtype.kind != "i" or int(start) or made.type not in _ADDS:
            continue
        for one, other in (made.inputs, reversed(made.inputs)):
            step = body.constant(other)
            if body.source(one) == sources[n] and step is not None and step.shape == () and int(step) == 1:
                found.add(n)
    return found


_ADDS = frozenset({"Add", "AddV2"})


def _made(tensor: Any) -> Any:
    """The operation that computes a tensor, not only repeats it."""
    while tensor.op.type in SAME_TENSOR:
        tensor = tensor.op.inputs[0]
    return tensor.op


def _is_over_rows(cond: GraphFacts, counters: set[int], stays: Sequence[bool], sources: Sequence[str]) -> bool:
    """Whether the loop continues exactly while a counter, or each of several, is below the number of rows."""
    pending = [_made(cond.graph.outputs[0])]
    while pending:
        operation = pending.pop()
        if operation.type == "LogicalAnd":
            pending += [_made(each) for each in operation.inputs]
            continue
        if operation.type != "Less":
            return False
        counter, limit = operation.inputs
        if cond.source(counter) not in {sources[n] for n in counters} or cond.states[limit.name] != RowCount("rows"):
            return False
        if cond.source(limit) not in {source for source, each in zip(sources, stays, strict=True) if each}:
            return False
    return True


def _declared(node: OperationInputs) -> list[Shape | None]:
    """The shapes that a loop declares for its variables, which may change in it."""
    declared = node.attribute("output_shapes")
    if len(declared) != len(node.operation.outputs):
        return [None] * len(node.operation.outputs)
    protos = [each if hasattr(each, "unknown_rank") else each.as_proto() for each in declared]
    return [sizes_of(each) for each in protos]


def _loop_shape(given: Shape | None, declared: Shape | None) -> Shape | None:
    if declared is None or given is None or len(given) != len(declared):
        return declared
    return tuple(one if one == two else None for one, two in zip(given, declared, strict=True))
