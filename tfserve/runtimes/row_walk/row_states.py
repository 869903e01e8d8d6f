"""What is known of a tensor: how it depends on the rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias


@dataclass(frozen=True)
class SameForAll:
    """The same for every batch. The sizes of rows count as the same: requests of other sizes never share a batch."""


@dataclass(frozen=True)
class RowCount:
    """Depends on the number of rows only: `rows` is that number, `blocks` a multiple of it, `order` the numbers
    of all rows from 0, `sizes` anything else.
    """

    what: str = "sizes"


@dataclass(frozen=True)
class KnownSizes:
    """A list of sizes, each the same for every batch or a `RowCount`."""

    sizes: tuple[SameForAll | RowCount, ...]


@dataclass(frozen=True)
class RowParts:
    """Consists of equal parts along the dimension `axis`, each of which depends on one row, in order.

    `is_exact` if there is one element for each row. `block_shape` if the parts are interleaved (space_to_batch).
    """

    axis: int = 0
    is_exact: bool = True
    block_shape: tuple[int, ...] = ()

    @property
    def is_spread(self) -> bool:
        return bool(self.block_shape)


@dataclass(frozen=True)
class OneRow:
    """Depends on one row: that of the position `index`, which is the name of a tensor in the body of a loop."""

    index: str


@dataclass(frozen=True)
class RowPosition:
    """In a loop over all rows, the position of the current one."""


@dataclass(frozen=True)
class ListElements:
    """A list of tensors. With `is_by_row` each depends on the row of its position. If `each` is None, none is set."""

    each: SameForAll | RowParts | None = None
    is_by_row: bool = False


@dataclass(frozen=True)
class FlatRows:
    """The values of all rows, one row after the other; how many each row has depends on the row."""


@dataclass(frozen=True)
class RowPartition:
    """Says which of the `FlatRows` values belong to which row."""


@dataclass(frozen=True)
class BatchCondition:
    """A condition, or the value that one is about, over all rows: `all`, `most` (the maximum), `least`.

    A batch satisfies such a condition if, and only if, each of its requests does.
    """

    what: str


@dataclass(frozen=True)
class MixedRows:
    """May depend on several rows, for this reason."""

    reason: str


State: TypeAlias = (
    SameForAll
    | RowCount
    | KnownSizes
    | RowParts
    | OneRow
    | RowPosition
    | ListElements
    | FlatRows
    | RowPartition
    | BatchCondition
    | MixedRows
)

SAME = SameForAll()
ROWS = RowParts()


def joined(first: State, second: State, reason: str) -> State:
    """What is known of a tensor that is one of two."""
    if first == second:
        return first
    for state in (first, second):
        if isinstance(state, MixedRows):
            return state
    if isinstance(first, ListElements) and isinstance(second, ListElements):
        return _joined_elements(first, second, reason)
    for one, other in ((first, second), (second, first)):
        if isinstance(one, SameForAll):
            return RowCount() if isinstance(other, RowCount | KnownSizes) else other
    if (
        isinstance(first, RowParts)
        and isinstance(second, RowParts)
        and replace(first, is_exact=False) == replace(second, is_exact=False)
    ):
        return replace(first, is_exact=False)
    if isinstance(first, RowCount | KnownSizes) and isinstance(second, RowCount | KnownSizes):
        return RowCount()
    return MixedRows(reason)


def _joined_elements(first: ListElements, second: ListElements, reason: str) -> State:
    if first.each is None and not first.is_by_row:
        return second
    if second.each is None and not second.is_by_row:
        return first
    if first.is_by_row == second.is_by_row and SameForAll() in (first.each, second.each):
        return first if isinstance(second.each, SameForAll) else second
    return MixedRows(reason)
