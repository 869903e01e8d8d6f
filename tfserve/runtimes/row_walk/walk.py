"""Follows the rows of a batch from the inputs of a signature to its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tfserve.runtimes.row_walk import (
    axis_rules,
    branches,
    element_rules,
    list_rules,
    loops,
    operations,
    product_rules,
    ragged_rules,
    size_rules,
)
from tfserve.runtimes.row_walk.graph_facts import SAME_TENSOR, GraphFacts
from tfserve.runtimes.row_walk.memo import memo_key
from tfserve.runtimes.row_walk.operation_inputs import OperationInputs, Shape
from tfserve.runtimes.row_walk.row_states import (
    ROWS,
    SAME,
    BatchCondition,
    FlatRows,
    KnownSizes,
    MixedRows,
    OneRow,
    RowCount,
    RowPartition,
    RowParts,
    SameForAll,
    State,
    joined,
)

MAX_DEPTH = 50
MAX_OPERATIONS = 30_000
"""In all functions, each time that they are followed: about five seconds. The graph of the session does not count."""


class GraphTooLarge(Exception):
    """Following a graph would take too long."""


Rule = Callable[[OperationInputs], State]
_Result = tuple[State, Shape | None]

_RULES: dict[str, Rule] = {
    **dict.fromkeys(operations.BY_ELEMENT, element_rules.by_element),
    **dict.fromkeys(operations.BY_EXAMPLE, element_rules.by_example),
    **dict.fromkeys(operations.MIXES_LAST, element_rules.along_last),
    **dict.fromkeys(operations.REDUCES, axis_rules.reduced),
    **dict.fromkeys(operations.ALONG, axis_rules.along),
    **dict.fromkeys(operations.ADDS_DIMENSIONS, lambda node: node.states[0]),
    **dict.fromkeys(("Split", "SplitV"), axis_rules.split),
    **dict.fromkeys(("Pad", "PadV2", "MirrorPad"), axis_rules.padded),
    **dict.fromkeys(("GatherV2", "Gather", "ResourceGather"), axis_rules.gathered),
    **dict.fromkeys(("GatherNd", "ResourceGatherNd"), axis_rules.gathered_nd),
    **dict.fromkeys(("SpaceToBatchND", "BatchToSpaceND"), axis_rules.spread),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), product_rules.multiplied),
    **dict.fromkeys(operations.LOOKS_UP, element_rules.looked_up),
    "Fingerprint": element_rules.hashed,
    "Einsum": product_rules.einsum,
    "Transpose": axis_rules.transposed,
    "ExpandDims": axis_rules.expanded,
    "Squeeze": axis_rules.squeezed,
    "ConcatV2": axis_rules.concatenated,
    "Pack": axis_rules.packed,
    "Unpack": axis_rules.unpacked,
    "StridedSlice": axis_rules.strided,
    "Slice": axis_rules.sliced,
    "Tile": axis_rules.tiled,
    "Reshape": size_rules.reshaped,
    "OneHot": element_rules.one_hot,
    "DenseBincount": element_rules.bincount,
    **dict.fromkeys(("MatrixSetDiag", "MatrixSetDiagV2", "MatrixSetDiagV3"), element_rules.with_diagonal),
    "TensorListFromTensor": list_rules.unstacked,
    "TensorListStack": list_rules.stacked,
    "TensorListPushBack": list_rules.appended,
}
_WITH_SOURCE = {"TensorListGetItem": list_rules.element, "TensorListSetItem": list_rules.changed}
_RAGGED: dict[str, Callable[[OperationInputs], Sequence[State]]] = {
    "StringSplitV2": ragged_rules.divided,
    "StringNGrams": ragged_rules.n_grams,
    "ParseExample": ragged_rules.parsed,
    "ParseExampleV2": ragged_rules.parsed,
}


class RowWalk:
    """`function` gives the graph of a function for shapes of its arguments, `static_value` the value of a tensor,
    `draws` whether a function draws random numbers.
    """

    def __init__(
        self, function: Callable[[str, Sequence[Shape | None]], Any], static_value: Callable[[Any], Any],
        draws: Callable[[str], bool],
    ) -> None:  # fmt: skip
        self._function = function
        self._draws = draws
        self._static_value = static_value
        #: results and mixed checks of functions that have been followed, by what is known of their inputs
        self._known: dict[object, tuple[list[_Result], str]] = {}
        self._depth = self._followed = 0
        #: why a check of the model may depend on several rows
        self._mixed_check = ""

    def why_mixed(self, graph: Any, inputs: Iterable[Any], outputs: Sequence[Any]) -> str:
        """Why an output may depend on several rows; empty if none does."""
        frame = GraphFacts(graph, self._static_value)
        for tensor in inputs:
            frame.give(tensor, ROWS, None, None)
        self._evaluate(frame, [tensor.op for tensor in outputs])
        for tensor in outputs:
            state = frame.states.get(tensor.name, MixedRows("an output can't be computed"))
            if isinstance(state, MixedRows):
                return state.reason
            if state != SAME and not (isinstance(state, RowParts) and not state.axis and not state.is_spread):
                return f"output {tensor.name}: its first dimension does not count rows"
        return self._mixed_check

    # --- one graph

    def _evaluate(self, frame: GraphFacts, roots: Iterable[Any]) -> None:
        reached = _reached(frame, roots)
        operations_of_graph = frame.graph.get_operations()
        if self._depth:
            self._followed += len(operations_of_graph)
        if self._followed > MAX_OPERATIONS:
            raise GraphTooLarge
        for operation in operations_of_graph:
            is_known = bool(operation.outputs) and all(each.name in frame.states for each in operation.outputs)
            if operation in reached and not is_known:
                self._compute(frame, operation)

    def _compute(self, frame: GraphFacts, operation: Any) -> None:
        branches.follow_gates(frame, operation)
        if operation.type == "Merge":
            branches.merge(frame, operation)
            return
        states = [frame.states[each.name] for each in operation.inputs if each.name in frame.states]
        if len(states) < len(operation.inputs):  # of a branch that is never taken, or of a loop of TensorFlow 1
            return
        node = OperationInputs(operation, states, frame.shape, frame.computed)
        if operation.type == "Switch":
            branches.switch(frame, node)
            return
        if operation.type == "Assert":
            self._check(states[0])
            return
        for tensor, (state, shape) in zip(operation.outputs, self._results(frame, node), strict=False):
            frame.give(tensor, state, shape, None)

    def _check(self, state: State) -> None:
        if not isinstance(state, SameForAll | RowParts | OneRow) and state != BatchCondition("all"):
            self._mixed_check = self._mixed_check or "an assertion is about all rows"

    def _results(self, frame: GraphFacts, node: OperationInputs) -> Sequence[_Result]:
        if node.type in operations.WHILES and not _is_simple(node.states):
            return loops.followed(frame, node, self._inside, self._tried)
        if node.type in operations.IFS | operations.CASES and not _is_simple(node.states):
            return self._choice(frame, node)
        if node.type in operations.CALLS and not _is_simple(node.states):
            return self._call(frame, node, node.attribute("f").name, 0)
        if node.type == "IdentityN":
            return [(state, frame.shape(each)) for state, each in zip(node.states, node.operation.inputs, strict=True)]
        if node.type in _RAGGED and not _is_simple(node.states):
            return [(state, None) for state in _RAGGED[node.type](node)]
        if node.type in {"Unpack", "Split"} and isinstance(node.states[-1], KnownSizes):
            return [(state, None) for state in size_rules.taken_apart(node)]
        state = self._state(frame, node)
        shape = None
        if node.type in operations.BY_ELEMENT:
            shape = _longest(node)
        return [(state, shape)] * len(node.operation.outputs)

    def _state(self, frame: GraphFacts, node: OperationInputs) -> State:
        if element_rules.is_clamped(node):
            return SAME
        for state in node.states:
            if isinstance(state, MixedRows):
                return state
        if operations.draws(node.type):
            return node.mixes("it draws random numbers")
        if node.type in operations.WITH_FUNCTIONS and any(map(self._draws, _functions(node))):
            return node.mixes("it draws random numbers")
        if node.type in {"TensorListReserve", "EmptyTensorList"}:
            return list_rules.made(node)
        if node.type in SAME_TENSOR:
            return node.states[0]
        if _is_simple(node.states):
            return next((state for state in node.states if isinstance(state, OneRow)), SAME)
        if rule := _WITH_SOURCE.get(node.type):
            return rule(node, lambda n: frame.source(node.operation.inputs[n]))
        if any(isinstance(state, FlatRows | RowPartition) for state in node.states):
            return ragged_rules.of_ragged(node)
        if node.type in {"Shape", "Size"}:
            return size_rules.shape(node) if node.type == "Shape" else RowCount()
        if all(isinstance(state, SameForAll | RowCount | KnownSizes) for state in node.states):
            return size_rules.of_sizes(node)
        found = _RULES.get(node.type)
        if found is None:
            return node.mixes(operations.COMBINES.get(node.type, "it is not known to keep rows apart"))
        return found(node)

    # --- functions

    def _call(self, frame: GraphFacts, node: OperationInputs, name: str, skipped: int) -> list[_Result]:
        """The results of a function that is called with all inputs but the first few."""
        tensors = list(node.operation.inputs)[skipped:]
        return self._applied(
            name,
            node.states[skipped:],
            [frame.shape(each) for each in tensors],
            [frame.source(each) for each in tensors],
            [frame.constant(each) for each in tensors],
        )

    def _applied(
        self, name: str, states: Sequence[State], shapes: Sequence[Shape | None], sources: Sequence[str],
        values: Sequence[Any],
    ) -> list[_Result]:  # fmt: skip
        key = memo_key(name, states, shapes, sources, values)
        if key in self._known:
            results, mixed_check = self._known[key]
            self._mixed_check = self._mixed_check or mixed_check
            return results
        before, self._mixed_check = self._mixed_check, ""
        frame = self._inside(name, states, shapes, sources, values)
        results = [(frame.states.get(each.name, MixedRows("an output can't be computed")), frame.shape(each))
                   for each in frame.graph.outputs]  # fmt: skip
        if not any(isinstance(state, OneRow) for state, _ in results):  # these name tensors of this call
            self._known[key] = results, self._mixed_check
        self._mixed_check = before or self._mixed_check
        return results

    def _tried(
        self, name: str, states: Sequence[State], shapes: Sequence[Shape | None], sources: Sequence[str],
        values: Sequence[Any],
    ) -> GraphFacts:  # fmt: skip
        """What would be known inside a function. Its checks don't count, because it is followed again."""
        before = self._mixed_check
        try:
            return self._inside(name, states, shapes, sources, values)
        finally:
            self._mixed_check = before

    def _inside(
        self, name: str, states: Sequence[State], shapes: Sequence[Shape | None], sources: Sequence[str],
        values: Sequence[Any],
    ) -> GraphFacts:  # fmt: skip
        """What is known inside a function."""
        if self._depth > MAX_DEPTH:
            raise RecursionError
        frame = GraphFacts(self._function(name, shapes), self._static_value)
        for tensor, *known in zip(frame.graph.inputs, states, shapes, sources, values, strict=True):
            frame.give(tensor, *known)
        self._depth += 1
        try:
            checks = [
                each
                for each in frame.graph.control_outputs
                if not each.outputs or each.type in operations.WITH_FUNCTIONS
            ]
            self._evaluate(frame, [*(each.op for each in frame.graph.outputs), *checks])
        finally:
            self._depth -= 1
        return frame

    def _is_assertion(self, frame: GraphFacts, node: OperationInputs) -> bool:
        if node.type not in operations.IFS:
            return False
        tensors = list(node.operation.inputs)[1:]
        known = ([frame.shape(each) for each in tensors], [frame.source(each) for each in tensors],
                 [None] * len(tensors))  # fmt: skip
        then, otherwise = (
            self._inside(node.attribute(name).name, node.states[1:], *known) for name in ("then_branch", "else_branch")
        )
        return branches.is_assertion(then, otherwise)

    def _choice(self, frame: GraphFacts, node: OperationInputs) -> list[_Result]:
        decides = node.states[0]
        if decides == BatchCondition("all") and self._is_assertion(frame, node):
            return [(decides, None)] * len(node.operation.outputs)
        if not isinstance(decides, SameForAll | OneRow):
            self._mixed_check = self._mixed_check or node.mixes("a condition depends on the batch").reason
            mixed = decides if isinstance(decides, MixedRows) else node.mixes("a condition depends on the batch")
            return [(mixed, None)] * len(node.operation.outputs)
        found = [self._call(frame, node, name, 1) for name in branches.names(frame, node)]
        reason = node.mixes("its branches differ").reason
        results = found[0]
        for more in found[1:]:
            results = [
                (joined(one, other, reason), shape if shape == another else None)
                for (one, shape), (other, another) in zip(results, more, strict=True)
            ]
        # Which branch it is may depend on the row, also if each gives the same for all rows.
        return [(joined(decides, state, reason), shape) for state, shape in results]


def _functions(node: OperationInputs) -> list[str]:
    """The names of all functions that an operation may call."""
    if node.type in operations.CASES:
        return [each.name for each in node.attribute("branches")]
    names = {"While": ("cond", "body"), "If": ("then_branch", "else_branch")}
    return [node.attribute(each).name for each in names.get(node.type.removeprefix("Stateless"), ("f",))]


def _is_simple(states: Sequence[State]) -> bool:
    """Whether the inputs are the same for every batch, or come from a single row: then any operation keeps it so."""
    return all(isinstance(state, SameForAll | OneRow) for state in states) and len(set(states) - {SAME}) <= 1


def _reached(frame: GraphFacts, roots: Iterable[Any]) -> set[Any]:
    """The operations that these need, as far as nothing is known of them."""
    found: set[Any] = set()
    pending = list(roots)
    while pending:
        operation = pending.pop()
        if operation in found or (operation.outputs and all(each.name in frame.states for each in operation.outputs)):
            continue
        found.add(operation)
        pending += [each.op for each in operation.inputs]
        pending += operation.control_inputs
    return found


def _longest(node: OperationInputs) -> Shape | None:
    """The shape with most dimensions, without its sizes if there are several. Weights may have an unknown shape."""
    shapes = [node.shape(n) for n in range(len(node.states))]
    if any(shape is None and state != SAME for shape, state in zip(shapes, node.states, strict=True)):
        return None
    longest = max((each for each in shapes if each is not None), key=len, default=None)
    return longest if longest is None or len(shapes) == 1 else (None,) * len(longest)
