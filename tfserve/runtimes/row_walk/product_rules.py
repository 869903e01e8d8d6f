"""Products of matrices, and sums of products."""

from __future__ import annotations

from dataclasses import replace

from tfserve.runtimes.row_walk.operation_inputs import OperationInputs
from tfserve.runtimes.row_walk.row_states import RowParts, SameForAll, State


def multiplied(node: OperationInputs) -> State:
    """MatMul and BatchMatMul, as a sum of products over letters."""
    is_plain = node.type in {"MatMul", "_FusedMatMul"}
    flags = ("transpose_a", "transpose_b") if is_plain else ("adj_x", "adj_y")
    left = "ki" if node.attribute(flags[0]) else "ik"
    right = "jk" if node.attribute(flags[1]) else "kj"
    others = "" if is_plain else "..."
    return _contracted(node, [others + left, others + right], others + "ij")


def einsum(node: OperationInputs) -> State:
    inputs, _, output = str(node.attribute("equation").decode()).replace(" ", "").partition("->")
    return _contracted(node, inputs.split(","), output)


def _contracted(node: OperationInputs, terms: list[str], output: str) -> State:
    labels: set[str] = set()
    is_exact = True
    for n, (state, term) in enumerate(zip(node.states, terms, strict=False)):
        if isinstance(state, SameForAll):
            continue
        if not isinstance(state, RowParts) or state.is_spread:
            return node.mixes("an argument depends on the batch")
        label = _label(term, state.axis, node.rank(n))
        if label is None or term.count(label) > 1:
            return node.mixes("the number of dimensions is not known")
        labels.add(label)
        is_exact = is_exact and state.is_exact
    if len(labels) != 1:
        return node.mixes("it multiplies rows with each other")
    (label,) = labels
    return _result(node, terms, output, label, is_exact=is_exact)


def _result(node: OperationInputs, terms: list[str], output: str, label: str, *, is_exact: bool) -> State:
    for n, (state, term) in enumerate(zip(node.states, terms, strict=False)):
        if isinstance(state, SameForAll) and _size(term, label, node, n) not in {None, 1}:
            return node.mixes("it multiplies rows with each other")
    if label.startswith("."):
        if "..." not in output:
            return node.mixes("it sums over the rows")
        ranks = [_dots(term, node.rank(n)) for n, term in enumerate(terms)]
        if any(each is None for each in ranks):
            return node.mixes("the number of dimensions is not known")
        dots = max(each for each in ranks if each is not None)
        return RowParts(output.index("...") + dots - int(label[1:]), is_exact)
    if label not in output:
        return node.mixes("it sums over the rows")
    before = output.index(label)
    if "..." in output[:before]:
        ranks = [_dots(term, node.rank(n)) for n, term in enumerate(terms) if "..." in term]
        if any(each is None for each in ranks):
            return node.mixes("the number of dimensions is not known")
        before += max([each for each in ranks if each is not None], default=0) - 3
    return replace(RowParts(before), is_exact=is_exact)


def _dots(term: str, rank: int | None) -> int | None:
    """How many dimensions the dots are."""
    if "..." not in term:
        return 0
    return None if rank is None else rank - (len(term) - 3)


def _label(term: str, axis: int, rank: int | None) -> str | None:
    """The letter of a dimension; `.1` for the last of those that the dots are, `.2` for the one before."""
    at = term.find("...")
    if at < 0 or axis < at:
        return term[axis] if axis < len(term) else None
    dots = _dots(term, rank)
    if dots is None:
        return None
    if axis < at + dots:
        return f".{at + dots - axis}"
    return term[axis - dots + 3]


def _size(term: str, label: str, node: OperationInputs, n: int) -> int | None:
    """The size of the dimension in an input without rows; None if it does not have that dimension."""
    shape = node.shape(n)
    for axis in range(len(shape or ())):
        if _label(term, axis, len(shape or ())) == label:
            return (shape or ())[axis] or -1
    return None if shape is not None or label.startswith(".") or label not in term else -1
