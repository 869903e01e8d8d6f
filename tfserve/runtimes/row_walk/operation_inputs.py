"""An operation with what is known of its inputs, as the rules see it. Nothing of TensorFlow is imported here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tfserve.runtimes.row_walk.row_states import MixedRows, RowParts, State

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class OperationInputs:
    """`shape_of` is None for a tensor of unknown rank, `constant` for a tensor whose value is not known."""

    operation: Any
    states: Sequence[State]
    shape_of: Callable[[Any], Shape | None]
    constant: Callable[[Any], Any]

    @property
    def type(self) -> str:
        return str(self.operation.type)

    def attribute(self, name: str) -> Any:
        return self.operation.get_attr(name)

    def rank(self, n: int = 0) -> int | None:
        shape = self.shape_of(self.operation.inputs[n])
        return None if shape is None else len(shape)

    def shape(self, n: int = 0) -> Shape | None:
        return self.shape_of(self.operation.inputs[n])

    def output_shape(self, n: int = 0) -> Shape | None:
        return self.shape_of(self.operation.outputs[n])

    def value(self, n: int) -> Any:
        """The value of an input, if it is constant."""
        return self.constant(self.operation.inputs[n])

    def axes(self, n: int, rank: int | None) -> set[int] | None:
        """The dimensions that an input names, not negative; None if they are not known."""
        value = self.value(n)
        if value is None:
            return None
        found = {int(each) for each in value.reshape(-1)}
        if any(each < 0 for each in found):
            if rank is None:
                return None
            found = {each + rank if each < 0 else each for each in found}
        return found

    def mixes(self, why: str = "it may combine rows") -> MixedRows:
        return MixedRows(f"operation {self.type} ({self.operation.name}): {why}")


def rows_only(node: OperationInputs, *allowed: type) -> RowParts | MixedRows:
    """The one input that consists of rows, where all others are of the `allowed` states."""
    found: RowParts | None = None
    for state in node.states:
        if isinstance(state, RowParts):
            if found is not None:
                return node.mixes("several of its inputs have rows")
            found = state
        elif not isinstance(state, allowed):
            return node.mixes("an argument depends on the batch")
    return found or node.mixes()
