"""Conditions: functions for each case, assertions, and the switches of TensorFlow 1."""

from __future__ import annotations

from typing import Any

from tfserve.runtimes.row_walk import operations
from tfserve.runtimes.row_walk.graph_facts import GraphFacts
from tfserve.runtimes.row_walk.operation_inputs import OperationInputs
from tfserve.runtimes.row_walk.row_states import MixedRows, SameForAll, State, joined

_NO_EFFECT = frozenset({"Placeholder", "Const", "NoOp", "Identity"})


def names(frame: GraphFacts, node: OperationInputs) -> list[str]:
    """The functions that may run, only one of them if the condition is known."""
    value = frame.computed(node.operation.inputs[0])
    if node.type in operations.CASES:
        return [each.name for each in node.attribute("branches")]
    of_branches = [node.attribute("then_branch").name, node.attribute("else_branch").name]
    return of_branches if value is None else of_branches[:1] if bool(value) else of_branches[1:]


def is_assertion(then: GraphFacts, otherwise: GraphFacts) -> bool:
    """Whether nothing happens if a condition holds, and otherwise nothing but an assertion."""
    one, other = ({each.type for each in frame.graph.get_operations()} for frame in (then, otherwise))
    return one <= _NO_EFFECT and other <= _NO_EFFECT | {"Assert"}


def follow_gates(frame: GraphFacts, operation: Any) -> None:
    """Notes whether an operation of TensorFlow 1 is in a branch, also if it only waits for the branch."""
    if not frame.gates and not frame.dead:
        return
    needed = [*(each.op for each in operation.inputs), *operation.control_inputs]
    for each in needed:
        if each.name in frame.gates:
            frame.gates[operation.name] = frame.gates[each.name]
    is_dead = any(each.name in frame.dead for each in (*operation.inputs, *operation.control_inputs))
    if is_dead and operation.type != "Merge":
        frame.dead.update([operation.name, *(each.name for each in operation.outputs)])


def switch(frame: GraphFacts, node: OperationInputs) -> None:
    """Of TensorFlow 1: the outputs are for false and true."""
    data, decides = node.states
    value = frame.computed(node.operation.inputs[1])
    state: State = data
    if not isinstance(decides, SameForAll):
        state = decides if isinstance(decides, MixedRows) else node.mixes("a condition depends on the batch")
        frame.gates[node.operation.name] = state
    for tensor, when in zip(node.operation.outputs, (False, True), strict=True):
        if value is None or bool(value) is when:
            frame.give(tensor, state, node.shape(), None)
        else:
            frame.dead.add(tensor.name)


def merge(frame: GraphFacts, operation: Any) -> None:
    """One of its inputs, of which the others belong to branches that are not taken."""
    why = f"operation Merge ({operation.name}): "
    alive = [each for each in operation.inputs if each.name not in frame.dead]
    if any(each.op.type in {"NextIteration", "RefNextIteration"} for each in alive):
        state: State = MixedRows(f"{why}a loop of TensorFlow 1 can't be followed")
    elif operation.name in frame.gates:
        state = frame.gates[operation.name]
    elif not alive or any(each.name not in frame.states for each in alive):
        state = MixedRows(f"{why}a branch can't be followed")
    else:
        state = frame.states[alive[0].name]
        for other in alive[1:]:
            state = joined(state, frame.states[other.name], f"{why}its branches differ")
    for tensor in operation.outputs:
        frame.give(tensor, state, None, None)
